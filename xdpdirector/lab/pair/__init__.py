# SPDX-License-Identifier: Apache-2.0
"""`lab pair`: two directors with keepalived and connection sync, under real clients, while one of them dies, comes
back, hands over and is restarted.
"""
