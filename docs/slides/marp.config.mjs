// SPDX-License-Identifier: Apache-2.0
// Of marp: no pictures of emoji and no formulas, which would come from other hosts; no dollar sign of a shell is one of these.

export default { options: { emoji: { shortcode: false, unicode: false }, math: false } };
