# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: what is added to the framework's, how it is shown, and that no release breaks it."""
