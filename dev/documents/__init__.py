# SPDX-License-Identifier: Apache-2.0
"""Makes what people read of docs/ and training/: a site with a search, and slides. Knows nothing of what they say."""
