// SPDX-License-Identifier: Apache-2.0
// A state as shape, colour and word: none of them has to be told apart alone.

const TONES: Record<string, string> = {
  up: "ok",
  ok: "ok",
  ready: "ok",
  present: "ok",
  neighbour: "ok",
  local: "ok",
  done: "ok",
  partial: "warn",
  suspect: "warn",
  trial: "move",
  ejected: "bad",
  warning: "warn",
  degraded: "warn",
  down: "bad",
  "not ready": "bad",
  error: "bad",
  failed: "bad",
  missing: "bad",
  unresolved: "bad",
  refused: "bad",
  drain: "move",
  draining: "move",
  drained: "move",
  maintenance: "idle",
  unknown: "idle",
  note: "idle",
  idle: "idle",
  synced: "ok",
  bulk: "move",
  connecting: "warn",
  forward: "ok",
  pass: "idle",
  drop: "bad",
  reject: "warn",
};
const WORDS: Record<string, string> = { drain: "draining" };

export function tone(state: string): string {
  return TONES[state] ?? TONES[state.split(" ")[0] ?? ""] ?? "idle";
}

/** Of a backend: what is wanted of it, where that is not to serve, else how it is. */
export function stateOf(admin: string, operational: string): string {
  if (admin === "enabled") return operational;
  if (admin === "drain") return operational === "drained" ? "drained" : "drain";
  return admin;
}

export function Shape({ tone: kind }: { tone: string }) {
  return (
    <svg class={`shape ${kind}`} viewBox="0 0 12 12" width="10" height="10" aria-hidden="true">
      {kind === "ok" && <circle cx="6" cy="6" r="5" />}
      {kind === "warn" && <path d="M6 .8 11.6 11H.4z" />}
      {kind === "bad" && <path d="M3.4.5h5.2L11.5 3.4v5.2L8.6 11.5H3.4L.5 8.6V3.4z" />}
      {kind === "move" && <path d="M1 2.5h6L11 6 7 9.5H1L4 6z" />}
      {kind === "idle" && <circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" stroke-width="2" />}
    </svg>
  );
}

export function StateWord({ state, title }: { state: string; title?: string }) {
  return (
    <span class={`state ${tone(state)}`} title={title}>
      <Shape tone={tone(state)} />
      {WORDS[state] ?? state}
    </span>
  );
}

/** Backends of a service by their state, as a bar with its words in the title. */
export function StateBar({ states, all }: { states: Record<string, number>; all: number }) {
  const order = ["up", "partial", "drain", "drained", "maintenance", "unknown", "down"];
  const present = Object.entries(states).sort(([one], [other]) => order.indexOf(one) - order.indexOf(other));
  const words = present.map(([state, count]) => `${count} ${WORDS[state] ?? state}`).join(", ");
  return (
    <span class="statebar" title={words} role="img" aria-label={words || "no backends"}>
      {present.map(([state, count]) => (
        <i key={state} class={tone(state)} style={{ flexGrow: all ? count / all : 0 }} />
      ))}
    </span>
  );
}
