# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector doctor`: looks at everything that the director stands on, also when no daemon runs.

Each family of findings is a module with a function `look(subject)`; what it needs of the machine it asks of
`subject.machine`, so that a test can bring another machine. Nothing here changes anything.
"""
