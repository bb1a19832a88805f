# SPDX-License-Identifier: Apache-2.0
"""The lab's own error. Knows nothing else."""

from __future__ import annotations

from xdpdirector.errors import DirectorError


class LabError(DirectorError):
    """The lab could not be built, used or cleared; `detail` names the command or thing and its words."""

    slug, title = "lab", "The lab refused that"
