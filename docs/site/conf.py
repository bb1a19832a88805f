# SPDX-License-Identifier: Apache-2.0
"""The site of the documents, for Sphinx. `./lab docs` builds it; dev/documents/site.py lays the sources out for it.

Pages need nothing of another host: fonts are the reader's, scripts and styles are the site's. The index of the
search is a script, so that the search also works in pages that are opened as files.
"""

project = "XDP Director"
author = "XDP Director maintainers"

root_doc = "index"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
highlight_language = "text"
myst_heading_anchors = 4  # the documents link to headings by the names that GitHub gives them

html_theme = "furo"
html_title = project
html_show_copyright = False
html_copy_source = False
html_use_index = False
html_static_path = ["_static"]
html_js_files = ["file_urls.js"]
pygments_style = "tango"
pygments_dark_style = "monokai"
