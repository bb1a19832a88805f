// SPDX-License-Identifier: Apache-2.0
// Searches the site of the documents in a browser: `node site.mjs ADDRESS WORD`, where ADDRESS is the site's, http: or file:.
//
// Prints a line of JSON: the titles and links that the search found for WORD, the title of the page behind the first of
// them, and what was requested of anybody but ADDRESS. Status 1, and what failed on standard error, when something did.

import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PATIENCE = 90_000; // milliseconds, on a machine that does much else
const [address, word] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-dev-shm-usage"],
});
let status = 1;
try {
  const strangers = [];
  const complaints = [];
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("request", (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith("data:")) strangers.push(request.url());
  });
  page.on("pageerror", (error) => complaints.push(`page error: ${error.message}`));
  await page.goto(`${address}/index.html`);
  const box = page.getByRole("textbox", { name: "Search" }).first();
  await box.fill(word);
  await box.press("Enter");
  const links = page.locator("#search-results li a");
  await links.first().waitFor();
  await page.locator("#search-results .search-summary", { hasText: "finished" }).waitFor();
  const found = await links.evaluateAll((all) => all.map((each) => [each.textContent, each.getAttribute("href")]));
  await links.first().click();
  await page.waitForLoadState();
  const title = await page.title();
  if (complaints.length) throw new Error(complaints.join("\n"));
  process.stdout.write(`${JSON.stringify({ found, title, strangers })}\n`);
  status = 0;
} catch (error) {
  process.stderr.write(`${error.stack}\n`);
} finally {
  await browser.close();
}
process.exit(status);
