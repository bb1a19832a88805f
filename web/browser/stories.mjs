// SPDX-License-Identifier: Apache-2.0
// What is done in the browser, and what must be seen there. Each story begins logged out, with a link that logs in once.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { expect } from "./expect.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** By name: where it is, and what stands there and on no other page. */
export const PAGES = {
  overview: ["#/", "#services"],
  service: ["#/service/web", "#backends"],
  explain: ["#/explain", "#panel-trace"],
  network: ["#/network", "#panel-doctor"],
  changes: ["#/changes", "#panel-revisions"],
  plan: ["#/changes/plan", "#panel-plan"],
  audit: ["#/changes/audit", "#panel-audit"],
  events: ["#/changes/events", "#panel-events"],
  guard: ["#/guard", "#panel-deny-list"],
  access: ["#/access", "#panel-tokens"],
  api: ["#/api", ".call"],
  wall: ["#/wall", ".wall .tile"],
};
const REFUSED = /the server responded with a status of (401|403|404|412|422)|net::ERR_/;

async function logIn(page, link) {
  await page.goto(link);
  await live(page);
  assert.ok(!page.url().includes("login"), `the code is still in the address: ${page.url()}`);
}

async function live(page) {
  await page.locator(".freshness.live").waitFor();
}

/** Goes there, and waits until that page is drawn and its lists have come. */
async function go(page, name) {
  const [hash, mark] = PAGES[name];
  await page.evaluate((to) => {
    location.hash = to;
  }, hash);
  await page.locator(mark).first().waitFor();
  await settled(page, name);
  await live(page);
}

/** A page has no violation of what axe-core knows of WCAG 2.2 and good practice. */
async function accessible(page, name) {
  // The policy lets no script of a test in: it is put beside the page's own, by the debugger.
  const { violations } = await page.evaluate(`${AXE}; axe.run(document, {resultTypes: ["violations"]})`);
  const told = violations.map((each) => `${each.id}: ${each.help}\n    ${each.nodes.slice(0, 4).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary?.split("\n")[1] ?? ""}`).join("\n    ")}`);
  assert.equal(told.length, 0, `${name}:\n  ${told.join("\n  ")}`);
}

async function fits(page, name) {
  const [width, room] = await page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
  const wide = () => [...document.querySelectorAll("body *")].filter((each) => each.getBoundingClientRect().right > innerWidth && !each.closest(".scroll,pre,textarea,.rail ul,.tabs")).map((each) => each.outerHTML.slice(0, 120));
  if (width > room) assert.fail(`${name} is ${width} wide, and the screen is ${room}: ${(await page.evaluate(wide)).slice(0, 5).join("\n")}`);
}

function row(page, name) {
  return page.locator(".body .row", { has: page.locator("b", { hasText: new RegExp(`^${name}$`) }) });
}

/** Opens a backend's menu and chooses. */
async function choose(page, backend, what) {
  await row(page, backend).locator("summary").click();
  await row(page, backend).getByRole("button", { name: what }).click();
  await page.locator("dialog").waitFor();
}

async function confirm(page, verb, reason = "the test", stays = false) {
  if (await page.locator("#reason").count()) await page.locator("#reason").fill(reason);
  await page.locator("dialog").getByRole("button", { name: verb, exact: true }).click();
  if (!stays) await page.locator("dialog").waitFor({ state: "detached" });
}

// Each page

export async function pages({ open, link }) {
  const page = await open();
  await logIn(page, link);
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    for (const name of Object.keys(PAGES)) {
      await go(page, name);
      await accessible(page, `${name}, ${scheme}`);
    }
    const ground = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const light = Number(/\d+/.exec(ground)?.[0]) > 128;
    assert.equal(light, scheme === "light", `the ground is ${ground}`);
  }
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0, "something moves though that is not wanted");
}

async function settled(page, name) {
  const waited = { service: ".body .row", network: "[aria-label='Table: Maps']", changes: ".revisions li", plan: ".note", audit: "tbody tr", access: "tbody tr", overview: ".body .row" }[name];
  if (waited) await page.locator(waited).first().waitFor();
  await expect(() => page.getByText(/^(Loading|Waiting)\b/).count(), 0);
}

export async function narrow({ open, link }) {
  const page = await open({ viewport: { width: 390, height: 844 }, hasTouch: true });
  await logIn(page, link);
  for (const width of [390, 320]) { // a telephone, and what WCAG 2.2 asks for (1.4.10)
    await page.setViewportSize({ width, height: 844 });
    for (const name of Object.keys(PAGES)) {
      await go(page, name);
      await fits(page, `${name}, ${width}`);
    }
  }
}

// Actions

export async function drain({ open, have, link }) {
  const page = await open();
  await logIn(page, link);
  await go(page, "service");
  await choose(page, "backend1", "Drain…");
  await page.getByText("No connection would end.").waitFor();
  assert.match(await page.locator("dialog code").innerText(), /^xdpdirector backend drain web\/backend1/);
  await confirm(page, "Drain", "new disk");
  await row(page, "backend1").locator(".state.move").waitFor();
  await have("drained", { backend: "backend1" });
  await page.locator(".toast").getByRole("button", { name: "Undo" }).click();
  await row(page, "backend1").getByText("up", { exact: true }).waitFor();
  await have("serving", { backend: "backend1" });
}

export async function actions({ open, have, link }) {
  const page = await open({}, REFUSED);
  await logIn(page, link);
  await go(page, "service");

  await choose(page, "backend2", "Weight…");
  await page.locator("#field-weight").fill("4");
  await confirm(page, "Set the weight");
  await expect(() => row(page, "backend2").locator(".c-weight").innerText(), "4");

  await choose(page, "backend2", "Maintenance…");
  await confirm(page, "Put in maintenance");
  await row(page, "backend2").getByText("maintenance").waitFor();
  await have("silent", { backend: "backend2" });
  await choose(page, "backend2", "Enable…");
  await confirm(page, "Enable");
  await row(page, "backend2").getByText("up", { exact: true }).waitFor();

  await choose(page, "backend3", "Remove…");
  await page.locator("#field-how").selectOption("force");
  await confirm(page, "Remove");
  await row(page, "backend3").waitFor({ state: "detached" });
  await page.locator(".toast", { hasText: "removed" }).getByRole("button", { name: "Undo" }).click();
  await row(page, "backend3").waitFor();

  await page.getByRole("button", { name: "Add a backend" }).click();
  await page.locator("#field-name").fill("spare one");
  await page.locator("#field-address").fill("192.0.2.77");
  await page.locator("dialog .note.bad").waitFor(); // a space in a name
  await page.locator("#field-name").fill("spare");
  await page.locator("dialog .note.bad").waitFor({ state: "detached" });
  await confirm(page, "Add");
  await row(page, "spare").waitFor();
  await page.locator(".toast", { hasText: "spare is added" }).getByRole("button", { name: "Undo" }).click();
  await row(page, "spare").waitFor({ state: "detached" });
}

export async function tunnel({ open, have, link }) {
  const page = await open();
  await logIn(page, link);
  await go(page, "service");
  const where = row(page, "backend2").locator(".c-name .soft");
  const address = await where.innerText();
  assert.match(address, /^[\d.]+$/);
  await have("forward", { backend: "backend2", forward: "gue" });
  await expect(() => where.innerText(), `gue to ${address}`);
  await page.getByLabel("Search backends").fill("gue to");
  await expect(() => page.locator(".body .row").count(), 1);
}

export async function guard({ open, have, link }) {
  const page = await open();
  await logIn(page, link);
  await go(page, "guard");
  await page.getByRole("button", { name: "Deny", exact: true }).click();
  await page.locator("#field-prefix").fill("192.0.2.9");
  await confirm(page, "Deny", "a scan");
  await page.locator("tbody tr", { hasText: "192.0.2.9/32" }).waitFor();
  await have("denied", { prefix: "192.0.2.9/32" });
  await page.locator("tbody tr", { hasText: "192.0.2.9/32" }).getByRole("button", { name: "Allow" }).click();
  await confirm(page, "Allow");
  await page.locator("tbody tr", { hasText: "192.0.2.9/32" }).waitFor({ state: "detached" });
}

export async function plan({ open, link }) {
  const page = await open({}, REFUSED);
  await logIn(page, link);
  await go(page, "plan");
  const box = page.locator("textarea");
  await expect(async () => /services:/.test(await box.inputValue()), true);
  const before = await box.inputValue();
  await page.getByText("Nothing would change").waitFor();

  await box.fill(before.replace("weight: 1", "weight: much\n        wieght: 2"));
  await page.locator(".faults li").first().waitFor();
  assert.match(await page.locator(".faults li").first().innerText(), /^\d+:\d+/);

  await box.fill(before.replace("weight: 1", "weight: 7"));
  await page.locator(".difference .plus").first().waitFor();
  await page.locator("#why").fill("more for one");
  await page.getByRole("button", { name: "Apply", exact: true }).click();
  await page.getByText("The configuration is applied").waitFor();

  await go(page, "changes");
  await page.locator(".revisions li").first().getByText("more for one").waitFor();
  await page.locator(".revisions li").nth(1).getByRole("button", { name: "Roll back" }).click();
  await page.locator("dialog .note").first().waitFor();
  await confirm(page, "Roll back", "it was better");
  await page.locator(".revisions li").first().getByText("it was better").waitFor();
}

export async function explain({ open, link }) {
  const page = await open({ acceptDownloads: true });
  await logIn(page, link);
  await go(page, "explain");
  await page.locator("#field-client").fill("192.0.2.9");
  await page.locator("#field-vip").fill("192.0.2.10");
  await page.getByRole("button", { name: "What would become of it?" }).click();
  await page.getByText(/forward to web\/backend\d/).waitFor({ timeout: 120_000 }); // it is compiled first
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.locator("tbody tr", { hasText: "192.0.2.10" }).nth(1).waitFor();
  await page.getByRole("button", { name: "Pause", exact: true }).click();
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download pcapng" }).click();
  const file = await (await download).path();
  assert.equal((await readFile(file)).readUInt32LE(0), 0x0a0d0d0a);
  await page.getByRole("button", { name: "Stop", exact: true }).click();
}

export async function tokens({ open, link }) {
  const page = await open({}, REFUSED);
  await logIn(page, link);
  await go(page, "access");
  await page.getByRole("button", { name: "Add a token" }).click();
  await page.locator("#field-name").fill("watcher");
  await confirm(page, "Add");
  const token = await page.locator(".copy code").innerText();
  assert.match(token, /^xdpd_/);

  const other = await open({}, REFUSED);
  await other.goto(page.url().split("#")[0]);
  await other.locator("#token").fill("xdpd_0_wrong");
  await other.getByRole("button", { name: "Log in" }).click();
  await other.getByText("That is no valid token.").waitFor();
  await other.locator("#token").fill(token);
  await other.getByRole("button", { name: "Log in" }).click();
  await live(other);
  const cookies = await other.context().cookies();
  assert.ok(cookies.every((each) => each.httpOnly && each.sameSite === "Strict"), JSON.stringify(cookies));
  assert.equal(await other.evaluate(() => document.cookie), "");

  await go(other, "service"); // may only look: is told why, and nothing is sent
  await other.getByRole("button", { name: "Add a backend" }).click({ force: true });
  await other.locator(".toast", { hasText: "needs the role operate" }).waitFor();
  await other.evaluate(() => (location.hash = "#/access"));
  await other.getByText("Who may come in is shown to the role admin").waitFor();

  await page.locator("tr", { has: page.locator("b", { hasText: /^watcher$/ }) }).getByRole("button", { name: "Remove" }).click();
  await confirm(page, "Remove");
  await other.getByText("The session has ended").waitFor(); // with its token
}

// What only looks, and who else is there

export async function looking({ open, have, link }) {
  const page = await open();
  await logIn(page, link);
  const services = page.getByRole("table", { name: "Services" });
  await settled(page, "overview");
  await page.getByLabel("Search services").fill("192.0.2.10 web");
  await services.waitFor();
  await page.getByLabel("Search services").fill("none-such");
  await page.getByText("No service matches.").waitFor();
  await page.getByLabel("Search services").fill("");
  await services.getByRole("button", { name: "New/s" }).click();
  await services.locator('[aria-sort="descending"]', { hasText: "New/s" }).waitFor();
  await page.getByRole("button", { name: "Grid" }).click();
  await page.locator("main .tile", { hasText: "web" }).waitFor();
  await page.getByRole("button", { name: "Table" }).click();
  await page.getByRole("button", { name: "In change" }).click();
  await page.getByText("No service matches.").waitFor();
  await page.getByRole("button", { name: "All", exact: true }).click();

  await go(page, "network");
  const asked = page.waitForResponse((answer) => answer.url().endsWith("/v1/doctor"));
  await page.getByRole("button", { name: "Run it again" }).click();
  assert.equal((await asked).status(), 200);
  await page.getByRole("button", { name: "Run it again" }).waitFor();

  await go(page, "events");
  await have("happening", { backend: "backend2" });
  await page.locator("tbody tr", { hasText: "backend.drain" }).filter({ hasText: "web/backend2" }).first().waitFor();
  await page.getByLabel("Filter events").fill("none-such");
  await page.getByText("No event matches.").waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Go on" }).waitFor();

  await go(page, "api");
  await page.getByLabel("Search the API").fill("backend}/drain");
  await page.locator(".call summary").first().click();
  await page.locator(".call code", { hasText: /^curl .*-X POST .*\/drain/ }).first().waitFor();

  const other = await open({}, REFUSED);
  await logIn(other, await have("another link"));
  await go(page, "access");
  await page.getByRole("button", { name: "End it" }).first().click();
  assert.match(await page.locator("dialog code").innerText(), /^curl .*-X DELETE .*\/v1\/sessions\//);
  await confirm(page, "End it", "left the desk");
  await other.getByText("The session has ended").waitFor();
  await go(page, "audit");
  await page.locator("tbody tr", { hasText: "delete_session" }).filter({ hasText: "left the desk" }).first().waitFor();

  await go(page, "wall");
  await page.getByRole("link", { name: "Leave wall mode" }).click();
  await page.locator("#services").waitFor();
}

/** The other director of a pair, as it comes, goes and returns; and what only directors of a fleet with etcd say. */
export async function directors({ open, have, link }) {
  const page = await open({}, REFUSED);
  await logIn(page, link);
  const panel = page.locator("[aria-label='Table: Directors']");
  const words = (row) => row.locator(".state").allInnerTexts().then((all) => all.map((each) => each.trim()).join());
  const other = panel.locator("tbody tr", { hasText: "director2" });
  await expect(() => words(other), "synced,synced");
  await other.getByText(/^\d+\.\d+/).first().waitFor(); // its release
  await accessible(page, "the directors of a pair");
  await have("stop");
  await expect(() => words(other), "connecting,connecting");
  const why = await have("why");
  await other.getByText(why).first().waitFor();
  await accessible(page, "a director that has gone");
  await have("start");
  await expect(() => words(panel.locator("tbody tr", { hasText: "director2" })), "synced,synced");
  await page.setViewportSize({ width: 320, height: 800 });
  await fits(page, "the directors of a pair");

  const reports = [
    { name: "director1", version: "0.2.0", revision: 7, ready: true, why: "" },
    { name: "director2", version: "0.1.9", revision: 5, ready: false, why: "it compiles <b>" },
  ];
  const store = { type: "etcd", endpoint: "https://192.0.2.5:2379", reached: false, why: "no route to host", age: 9 };
  const fleet = await open({}, REFUSED);
  await fleet.route("**/v1/live*", async (route) => {
    const answer = await route.fetch({ url: `${route.request().url()}&follow=false` });
    const changed = (line) => {
      if (!line.startsWith('data: {"state"')) return line;
      const said = JSON.parse(line.slice(6));
      Object.assign(said.state.fleet, { store, directors: reports });
      return `data: ${JSON.stringify(said)}`;
    };
    await route.fulfill({ response: answer, body: (await answer.text()).split("\n").map(changed).join("\n") });
  });
  await fleet.goto(await have("another link"));
  const rows = fleet.locator("[aria-label='Table: Directors'] tbody tr");
  await expect(() => rows.count(), 2);
  assert.equal(await words(rows.nth(0)), "ready");
  assert.match(await rows.nth(0).innerText(), /this one/);
  assert.equal(await words(rows.nth(1)), "not ready,synced,synced");
  assert.match(await rows.nth(1).innerText(), /it compiles <b>[^]*0\.1\.9[^]*5/);
  await fleet.getByText("desired state in etcd, which cannot be reached: no route to host").waitFor();
}

// What may go wrong

export async function conflict({ open, have, link }) {
  const page = await open({}, REFUSED);
  await logIn(page, link);
  const other = await page.context().newPage();
  await other.goto(page.url());
  for (const each of [page, other]) await go(each, "service");
  await choose(page, "backend1", "Weight…");
  await page.locator("#field-weight").fill("5");
  await page.locator("dialog .note").first().waitFor();
  await choose(other, "backend1", "Weight…");
  await other.locator("#field-weight").fill("6");
  await confirm(other, "Set the weight");
  await expect(() => row(other, "backend1").locator(".c-weight").innerText(), "6");
  await page.bringToFront();
  await confirm(page, "Set the weight", "the test", true);
  await page.getByText("Somebody changed it meanwhile.").waitFor();
  await have("weight", { backend: "backend1", weight: 6 });
  await page.getByRole("button", { name: "Do it all the same" }).click();
  await expect(() => row(page, "backend1").locator(".c-weight").innerText(), "5");
  await have("weight", { backend: "backend1", weight: 5 });
}

export async function session({ open, have, link }) {
  const page = await open({}, REFUSED);
  await logIn(page, link);
  await have("end sessions");
  await page.getByText("The session has ended").waitFor();
  await page.goto(link); // used up
  await page.getByText("is used up or has expired").waitFor();
}

export async function restart({ open, have, link }) {
  const page = await open({}, REFUSED);
  await logIn(page, link);
  await have("freeze");
  await page.locator(".freshness.stale").waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.classList.contains("is-stale")));
  await have("thaw");
  await live(page);
  await have("stop");
  await page.locator(".freshness.lost").waitFor();
  await have("start");
  await live(page); // and nobody had to log in again
  await page.context().setOffline(true);
  await page.evaluate(() => dispatchEvent(new Event("online"))); // a stream that runs is not cut by that: another one is begun
  await page.locator(".freshness.lost").waitFor();
  await page.context().setOffline(false);
  await live(page);
}

export async function hidden({ open, have, link }) {
  const page = await open();
  await logIn(page, link);
  await have("streams", { count: 1 });
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.locator(".freshness.paused").waitFor();
  await have("streams", { count: 0 });
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: false, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await live(page);
}

/** What others write is text everywhere: reasons, banners, what is typed, and what stands in the address. */
export async function hostile({ open, have, link }) {
  const text = await have("text");
  const page = await open({}, REFUSED);
  await page.addInitScript(() => {
    window.broken = 0;
    window.alert = () => (window.broken += 1);
  });
  const clean = async (where) => {
    const made = await page.evaluate(() => document.querySelectorAll("#app main img, #app main script, #app main iframe, #app [onerror], #app [onclick], #app svg[onload], dialog img, dialog script").length);
    assert.equal(made, 0, `text became elements on ${where}`);
    assert.equal(await page.evaluate(() => window.broken), 0, `text was run on ${where}`);
  };
  await logIn(page, link);
  for (const name of Object.keys(PAGES)) {
    await go(page, name);
    if (name === "changes") for (const place of [0, 1, 2]) await page.locator(".revisions li").nth(place).locator("button").first().click();
    if (["overview", "service", "changes", "events", "guard"].includes(name)) await page.getByText("onerror=alert(1)").first().waitFor(); // the texts are there
    for (const box of await page.locator("main input[type=search]").all()) {
      await box.fill(text);
      await box.press("Enter");
    }
    await clean(name);
    for (const box of await page.locator("main input[type=search]").all()) await box.fill("");
  }
  await go(page, "plan"); // what is wrong with it is told with what stands there
  await page.locator("textarea").fill(`services:\n  '${text}':\n    '${text}': 1\n`);
  await page.locator(".faults li", { hasText: "onerror=alert(1)" }).first().waitFor();
  await clean("the faults of a configuration");
  await go(page, "explain");
  await page.locator("#field-client").fill(text);
  await page.locator("#field-vip").fill("192.0.2.10");
  await page.getByRole("button", { name: "What would become of it?" }).click();
  await page.locator("#field-client-hint.error").waitFor();
  await page.locator("#field-trace-client").fill(text);
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.locator(".note.warn").waitFor();
  await clean("the faults of a question");
  await go(page, "service");
  await choose(page, "backend1", "Drain…");
  await page.locator("#reason").fill(text);
  await page.locator("#field-deadline").fill(text);
  await page.locator("dialog .note.bad").waitFor();
  await clean("a dialog");
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.evaluate((name) => (location.hash = `#/service/${encodeURIComponent(name)}`), text);
  await page.locator("h1", { hasText: "onerror=alert(1)" }).waitFor();
  await page.locator(".note.bad").first().waitFor();
  await clean("a service that is none");
}

export async function many({ open, have, link }) {
  const page = await open();
  await logIn(page, link);
  await go(page, "service");
  await page.getByText("250 backends", { exact: true }).waitFor();
  const drawn = () => page.locator(".body .row").count();
  assert.ok((await drawn()) < 80, `${await drawn()} rows are drawn`);
  const top = await page.locator(".body").evaluate((each) => each.getBoundingClientRect().top + scrollY);
  for (const number of [50, 120, 200]) {
    await page.evaluate((to) => scrollTo(0, to), top + 54 * number);
    await page.locator(`.body .row[aria-rowindex="${number + 3}"]`).waitFor();
    assert.ok((await drawn()) < 80);
  }
  await page.getByRole("button", { name: "Backend", exact: true }).click();
  await page.evaluate(() => scrollTo(0, 0));
  await page.getByLabel("Search backends").fill("web177");
  await row(page, "web177").waitFor();
  assert.equal(await drawn(), 1);
  await page.getByLabel("Search backends").fill("");

  const long = await have("long name"); // is cut short, or broken: it makes nothing wide
  for (const width of [1360, 320]) {
    await page.setViewportSize({ width, height: 844 });
    await go(page, "overview");
    await page.getByRole("link", { name: long, exact: true }).first().waitFor();
    await fits(page, `long names on the overview, ${width}`);
    await page.evaluate((name) => (location.hash = `#/service/${name}`), long);
    await row(page, long).waitFor();
    await fits(page, `long names of a service, ${width}`);
    await go(page, "wall");
    await fits(page, `long names on the wall, ${width}`);
  }
}

export async function keyboard({ open, link }) {
  const page = await open();
  await logIn(page, link);
  await settled(page, "overview");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  const tab = async (to) => {
    for (let count = 0; count < 80; count++) {
      if (await page.evaluate(to)) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`the keyboard does not lead to ${to}`);
  };
  await tab(() => document.activeElement.matches('a.name[href="#/service/web"]'));
  await page.keyboard.press("Enter");
  await row(page, "backend1").waitFor();
  await tab(() => document.activeElement.matches("summary"));
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator("dialog[open]").waitFor();
  assert.ok(await page.evaluate(() => document.querySelector("dialog").contains(document.activeElement)));
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });

  await tab(() => document.activeElement.matches('summary[aria-label="Actions for backend1"]'));
  await page.keyboard.press("Enter");
  await tab(() => document.activeElement.textContent === "Drain…");
  await page.keyboard.press("Enter");
  await page.getByText("No connection would end.").waitFor();
  await tab(() => document.activeElement.id === "reason");
  await page.keyboard.type("without a mouse");
  await tab(() => document.activeElement.matches("dialog button") && document.activeElement.textContent === "Drain");
  await page.keyboard.press("Enter");
  await row(page, "backend1").locator(".state.move").waitFor();
  await tab(() => document.activeElement.matches(".toast button") && document.activeElement.textContent === "Undo");
  await page.keyboard.press("Enter");
  await row(page, "backend1").getByText("up", { exact: true }).waitFor();
}

// Pictures

/** As WebP, which is half of a PNG. `blank`: a page without a policy, which draws it. */
async function picture(page, blank, path) {
  const png = await page.screenshot();
  const url = await blank.evaluate(async (data) => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.85);
  }, png.toString("base64"));
  await writeFile(path, Buffer.from(url.split(",")[1], "base64"));
}

/** What there is to see on a page, done before its picture is taken. */
const POSES = {
  async explain(page) {
    await page.locator("#field-client").fill("198.51.100.7");
    await page.locator("#field-vip").fill("192.0.2.10");
    await page.getByRole("button", { name: "What would become of it?" }).click();
    await page.getByText(/forward to web\/backend\d/).waitFor({ timeout: 300_000 });
    await page.getByRole("button", { name: "Start", exact: true }).click();
    await page.locator("tbody tr", { hasText: "192.0.2.10" }).nth(9).waitFor();
    await page.getByRole("button", { name: "Pause", exact: true }).click();
  },
  async changes(page) {
    await page.locator(".revisions li").first().locator("button").first().click();
    await page.locator(".difference").first().waitFor();
  },
  async plan(page) {
    const box = page.locator("textarea");
    await expect(async () => /services:/.test(await box.inputValue()), true);
    const text = await box.inputValue();
    const at = text.indexOf("services:", text.indexOf("sizes:") + 200);
    await box.fill(text.slice(0, at) + text.slice(at).replace("weight: 1", "weight: 3").replace("rate: 500", "rate: 250"));
    await page.locator(".difference .plus").first().waitFor();
    await box.evaluate((each, line) => each.scrollTo(0, 19 * line), text.slice(0, at).split("\n").length - 3);
    await page.locator("#why").fill("twice the memory since today");
  },
  async api(page) {
    await page.locator(".call summary", { hasText: "/drain" }).first().click();
  },
};

export async function pictures({ open, link, shots }) {
  const page = await open({ deviceScaleFactor: 1.5 });
  const blank = await open();
  await logIn(page, link);
  for (const name of Object.keys(PAGES)) {
    await go(page, name);
    await POSES[name]?.(page);
    await page.waitForTimeout(1500); // rates of two looks
    await live(page);
    await picture(page, blank, `${shots}/dashboard-${name}.webp`);
    if (name === "explain") await page.getByRole("button", { name: "Stop", exact: true }).click();
  }
  await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
  await go(page, "service");
  await page.waitForTimeout(1500);
  await picture(page, blank, `${shots}/dashboard-service-dark.webp`);
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  await page.setViewportSize({ width: 390, height: 844 });
  await go(page, "overview");
  await page.waitForTimeout(1500);
  await picture(page, blank, `${shots}/dashboard-narrow.webp`);
}
