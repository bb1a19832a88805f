// SPDX-License-Identifier: Apache-2.0
// Pages that are opened as files may not read each other, so the search shows its results without excerpts there.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
