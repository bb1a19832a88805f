# SPDX-License-Identifier: Apache-2.0
"""Makes a site with a search, and slides, of docs/ and training/. Knows nothing of what they say."""
