// SPDX-License-Identifier: Apache-2.0
// How soon the dashboard shows something: milliseconds to the first paint with content, a line for each load.
// `node paint.mjs`, with a login link in LINK. Each load is of a new browser context with nothing kept but the session.

import { chromium } from "playwright-core";

const LOADS = 5;
const link = process.env.LINK ?? "";
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-dev-shm-usage"],
});
try {
  const first = await browser.newContext();
  const page = await first.newPage();
  await page.goto(link);
  await page.locator(".freshness.live").waitFor({ timeout: 90_000 });
  const storageState = await first.storageState();
  for (let load = 0; load < LOADS; load++) {
    const context = await browser.newContext({ storageState });
    const one = await context.newPage();
    await one.goto(link.split("#")[0]);
    await one.locator(".freshness.live").waitFor({ timeout: 90_000 });
    const painted = await one.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
    console.log(painted.toFixed(1));
    await context.close();
  }
} finally {
  await browser.close();
}
