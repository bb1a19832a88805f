// SPDX-License-Identifier: Apache-2.0
// Looks for what has no room on its slide: `node slides.mjs FILE...`, HTML as Marp makes it.
//
// Prints a line of JSON: by file the number of slides, what stands beyond the edge of its slide (the slide's number, the
// element, by how many pixels), and what was requested of another host. With SHOTS, a directory, each slide is drawn there.

import { basename } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PATIENCE = 90_000; // milliseconds, on a machine that does much else

/** In the page: all slides are laid out, whichever is shown. The footer and its number stand in the margin. */
function measure() {
  const beyond = [];
  const slides = [...document.querySelectorAll("section[data-marpit-pagination]")];
  for (const [number, slide] of slides.entries()) {
    const style = getComputedStyle(slide);
    const room = {
      right: slide.offsetWidth - Number.parseFloat(style.paddingRight),
      bottom: slide.offsetHeight - Number.parseFloat(style.paddingBottom),
    };
    for (const element of slide.querySelectorAll(":scope > :not(footer)")) {
      const right = element.offsetLeft + Math.max(element.offsetWidth, element.scrollWidth);
      const over = Math.max(right - room.right, element.offsetTop + element.offsetHeight - room.bottom);
      if (over > 1) beyond.push([number + 1, element.tagName.toLowerCase(), Math.round(over)]);
    }
  }
  return { slides: slides.length, beyond };
}

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-dev-shm-usage"],
});
let status = 1;
try {
  const found = {};
  for (const file of process.argv.slice(2)) {
    const strangers = [];
    const page = await browser.newPage({ viewport: { width: 1280, height: 720 } });
    page.setDefaultTimeout(PATIENCE);
    page.on("request", (request) => {
      if (!/^(file|data|blob):/.test(request.url())) strangers.push(request.url());
    });
    await page.goto(pathToFileURL(file).href);
    found[basename(file)] = { ...(await page.evaluate(measure)), strangers };
    if (process.env.SHOTS) {
      for (let number = 1; number <= found[basename(file)].slides; number += 1) {
        await page.goto(`${pathToFileURL(file).href}#${number}`);
        await page.screenshot({ path: `${process.env.SHOTS}/${basename(file, ".html")}-${number}.png` });
      }
    }
    await page.close();
  }
  process.stdout.write(`${JSON.stringify(found)}\n`);
  status = 0;
} catch (error) {
  process.stderr.write(`${error.stack}\n`);
} finally {
  await browser.close();
}
process.exit(status);
