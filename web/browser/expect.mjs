// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";

/** Waits until `read` gives `wanted`. */
export async function expect(read, wanted, patience = 90_000) {
  const until = Date.now() + patience;
  for (;;) {
    const found = await read();
    if (found === wanted) return;
    if (Date.now() > until) assert.equal(found, wanted);
    await new Promise((done) => setTimeout(done, 50));
  }
}
