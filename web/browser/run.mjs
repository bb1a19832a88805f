// SPDX-License-Identifier: Apache-2.0
// Drives a browser through one story: `node run.mjs STORY`, with a login link in LINK. Stories are in stories.mjs.
//
// What only the test around it can do (restart the daemon, look at the lab) it asks for: a line of JSON on standard
// output, an answer on standard input. Status 1, and what failed on standard error, when the story does not end well.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import * as stories from "./stories.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PATIENCE = 90_000; // milliseconds, on a machine that does much else

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-dev-shm-usage"],
});
const complaints = [];

/** Has the test do something, and gives what it says. */
async function have(what, data = {}) {
  process.stdout.write(`${JSON.stringify({ do: what, ...data })}\n`);
  const { value, done } = await lines.next();
  if (done) throw new Error(`nobody answers to ${what}`);
  return JSON.parse(value);
}

/** A window of its own; what it complains of is the story's failure, but for what matches `expected`. */
async function open(options = {}, expected = /^$/) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(`page error: ${error.message}`));
  page.on("dialog", (dialog) => {
    complaints.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    const text = `${message.text()} ${message.location().url}`;
    if (message.type() === "error" && !expected.test(text)) complaints.push(`console: ${text}`);
  });
  return page;
}

const story = stories[process.argv[2] ?? ""];
let status = 1;
try {
  if (!story) throw new Error(`there is no story ${process.argv[2]}: ${Object.keys(stories).join(", ")}`);
  await story({ open, have, link: process.env.LINK ?? "", shots: process.env.SHOTS ?? "" });
  if (complaints.length) throw new Error(complaints.join("\n"));
  status = 0;
} catch (error) {
  process.stderr.write(`${error.stack}\n${complaints.join("\n")}\n`);
  if (process.env.SHOTS) {
    for (const [number, page] of browser.contexts().flatMap((context) => context.pages()).entries()) {
      await page.screenshot({ path: `${process.env.SHOTS}/failed-${process.argv[2]}-${number}.png` }).catch(() => null);
    }
  }
} finally {
  await browser.close();
}
process.exit(status);
