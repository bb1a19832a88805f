// SPDX-License-Identifier: Apache-2.0
// What stands around every page: the way to the others, whether all is well, how fresh that is, and who is there.

import { useEffect, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { ask } from "../api/client.ts";
import { heard, line, why } from "../api/live.ts";
import { caller, dismiss, health, route, setTheme, theme, toasts, type Theme } from "../state.ts";
import { duration } from "../view/format.ts";
import { Shape, tone } from "./state.tsx";

const PAGES: readonly (readonly [string, string])[] = [
  ["", "Overview"],
  ["explain", "Explain and trace"],
  ["network", "Network"],
  ["changes", "Changes"],
  ["guard", "Guard"],
  ["access", "Access"],
  ["api", "API"],
];

export function Shell({ children }: { children: ComponentChildren }) {
  const at = route.value[0] ?? "";
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <nav class="rail" aria-label="Pages">
        <a class="brand" href="#/">
          <img src="icon.svg" width="26" height="26" alt="" />
          <span>XDP Director</span>
        </a>
        <ul>
          {PAGES.map(([name, title]) => (
            <li key={name}>
              <a href={`#/${name}`} aria-current={at === name || (name === "" && at === "service") ? "page" : undefined}>
                {title}
              </a>
            </li>
          ))}
        </ul>
        <Who />
      </nav>
      <div class="column">
        <Banner />
        <main id="main" tabIndex={-1}>
          {children}
        </main>
      </div>
      <Toasts />
    </div>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Banner() {
  const said = health.value;
  const state = said ? { ok: "ok", warning: "warn", error: "bad" }[said.level] : "idle";
  return (
    <header class={`banner ${state}`}>
      <p class="verdict" role="status">
        <Shape tone={state} />
        <span>{said?.sentence ?? (line.value === "lost" ? "The director does not answer." : "Looking…")}</span>
      </p>
      <Freshness />
    </header>
  );
}

/** Old data are never shown as if they were live. */
export function Freshness() {
  const [, turn] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => turn((count) => count + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  const age = heard.value ? (Date.now() - heard.value) / 1000 : null;
  const words: Record<string, string> = {
    live: "live",
    connecting: "connecting…",
    paused: "paused",
    stale: `stale: ${duration(age ?? 0)} old`,
    lost: age === null ? "no connection" : `no connection: ${duration(age)} old`,
  };
  return (
    <p class={`freshness ${line.value}`} title={why.value || undefined} role={line.value === "live" ? undefined : "alert"}>
      <i aria-hidden="true" />
      {words[line.value]}
    </p>
  );
}

function Who() {
  const one = caller.value;
  return (
    <div class="who">
      <label>
        <span>Theme</span>
        <select value={theme.value} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
          <option value="auto">as the system</option>
          <option value="light">light</option>
          <option value="dark">dark</option>
        </select>
      </label>
      {one && (
        <p>
          <b title={one.author}>{one.author}</b>
          <span>may {one.role === "read" ? "look" : one.role === "operate" ? "operate" : "do everything"}</span>
        </p>
      )}
      {one?.session && (
        <button type="button" class="quiet" onClick={() => void leave()}>
          Log out
        </button>
      )}
    </div>
  );
}

async function leave(): Promise<void> {
  await ask("DELETE", "/v1/sessions/current").catch(() => null);
  location.reload();
}

function Toasts() {
  return (
    <div class="toasts" aria-live="polite">
      {toasts.value.map((each) => (
        <div key={each.id} class={`toast ${tone(each.level)}`}>
          <Shape tone={tone(each.level)} />
          <span>{each.text}</span>
          {each.undo && (
            <button
              type="button"
              onClick={() => {
                dismiss(each.id);
                each.undo?.();
              }}
            >
              Undo
            </button>
          )}
          <button type="button" class="quiet" aria-label="Dismiss" onClick={() => dismiss(each.id)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}
