// SPDX-License-Identifier: Apache-2.0
// What the stream /v1/live says, and how it is followed: one stream for the page that is seen, none for a hidden one,
// again after a break, and marked stale when nothing has come for a while. Its types follow api/live/documents.py.

import { signal } from "@preact/signals";
import { parser } from "../view/sse.ts";

/** New connections, packets, octets, and dropped or rejected packets of a second. */
export type Rates = [number, number, number, number] | null;

export interface Drain {
  since: string;
  reason: string;
  deadline: string | null;
  on_deadline: "keep" | "cut";
  connections_at_start: number;
  remaining: number;
  settled: boolean;
  packets_per_second: number | null;
  oldest_at_least: number | null;
  estimated_end: string | null;
}

export interface Finding {
  kind: string;
  subject: string;
  text: string;
  evidence: string;
  remedy: string;
  since: string;
}

export interface Troubled {
  service: string;
  backend: string;
  address: string;
  operational: string;
  reason: string;
  since: number;
  serving: boolean;
}

export interface Direction {
  state: string;
  why: string;
  records: number;
  lag: number | null;
}

export interface Peer {
  address: string;
  name: string;
  version: string;
  outgoing: Direction;
  incoming: Direction;
}

/** `peers`: those that connections are exchanged with; `directors`: those that share the desired state, in `store`. */
export interface Fleet {
  name: string;
  fleet: string;
  waiting: string;
  peers: Peer[];
  store: { type: string; endpoint: string; reached: boolean; why: string };
  directors: { name: string; version: string; revision: number; ready: boolean; why: string }[];
}

export interface State {
  at: number;
  trouble?: string;
  revision: number;
  tag: string;
  ready: boolean;
  problems: string[];
  warnings: string[];
  findings: Finding[];
  fleet: Fleet;
  services: number;
  backends: number;
  serving: number;
  services_down: { service: string; operational: string; backends: number }[];
  troubled: Troubled[];
  troubled_in_all: number;
  drains: (Drain & { service: string; backend: string })[];
  rates: Rates;
  connections: number;
  clients_turned_away: number;
  drift_repaired: number;
  maps: Record<string, [number, number]>;
  attachments: { interface: string; mode: string; program_id: number; transmit_errors: number | null }[];
  /** By reason: in all, and of a second. */
  verdicts: Record<string, [number, number | null]>;
}

export interface ServiceRow {
  name: string;
  operational: string;
  backends_in_all: number;
  serving: number;
  states: Record<string, number>;
  active: number;
  rates: Rates;
}

export interface BackendRow {
  name: string;
  address: string;
  /** direct, or the tunnel to it: ipip, gue. */
  forward: string;
  weight: number;
  effective_weight: number;
  admin: string;
  operational: string;
  reason: string;
  since: number;
  serving: boolean;
  connections: [number, number, number];
  opened: number;
  rates: Rates;
  drain: Drain | null;
  /** What passive health has against it, with a figure. */
  passive: string | null;
}

export interface Happening {
  id: number;
  at: string;
  kind: string;
  subject: string;
  text: string;
  data: Record<string, unknown>;
}

export interface Denied {
  prefix: string;
  reason: string;
  author: string;
  since: string;
  from_file: boolean;
  packets: number;
  warnings: string[];
}

export interface Guard {
  denied: number;
  room: number;
  denied_packets: number;
  limits: Record<string, { limit: { rate?: string | null; burst?: number | null } | null; refused: { by_service: number; by_source: number } }>;
  top: Denied[];
  top_is_known: boolean;
}

export interface Neighbour {
  address: string;
  backends: string[];
  state: string;
  mac: string | null;
  interface: string | null;
  why: string;
  mac_changes: number;
  mac_changed_at: string | null;
}

export interface Lan {
  probing: boolean;
  findings: Finding[];
  vips: Record<string, string[]>;
  neighbours: Neighbour[];
  presence: { address: string; backends: string[]; vip: string; presence: string; evidence: string; asked_at: string }[];
}

export interface Present {
  state: State;
  services?: ServiceRow[];
  /** `verdicts`: what became of its packets, as in State. */
  service?: ServiceRow & { backends: BackendRow[]; verdicts: State["verdicts"] };
  guard?: Guard;
  lan?: Lan;
  events?: Happening[];
  events_missed?: number;
}

export interface Columns {
  connections: (number | null)[];
  packets: (number | null)[];
  bytes: (number | null)[];
  dropped: (number | null)[];
}

export interface History {
  step: number;
  at: number[];
  totals: Columns;
  services: Record<string, Columns>;
}

export interface Wanted {
  topics: string[];
  service?: string;
}

export type Line = "connecting" | "live" | "stale" | "paused" | "lost";

export const STALE_AFTER = 3000; // milliseconds
const MOST_EVENTS = 1000;
const [FIRST_BACKOFF, LONGEST_BACKOFF] = [500, 8000];

export const present = signal<Present | null>(null);
export const history = signal<History | null>(null);
export const happenings = signal<Happening[]>([]);
export const line = signal<Line>("connecting");
export const heard = signal(0);
/** Why there is no stream; empty while there is one. */
export const why = signal("");

let wanted: Wanted | null = null;
let running: AbortController | null = null;
let lastId = "";
let backoff = FIRST_BACKOFF;
let onLoggedOut: () => void = () => {};

/** Follows what a page wants to show, until the next call; the same wish changes nothing. */
export function follow(next: Wanted | null): void {
  if (JSON.stringify(next) === JSON.stringify(wanted)) return;
  const service = wanted?.service;
  wanted = next;
  if (present.value && (next?.service !== service || !next)) {
    const { service: _, ...rest } = present.value;
    present.value = rest;
  }
  restart();
}

export function begin(loggedOut: () => void): void {
  onLoggedOut = loggedOut;
  document.addEventListener("visibilitychange", restart);
  addEventListener("online", restart);
  setInterval(() => {
    if (line.value === "live" && Date.now() - heard.value > STALE_AFTER) line.value = "stale";
  }, 250);
}

function restart(): void {
  running?.abort();
  running = null;
  if (!wanted) return;
  if (document.hidden) {
    line.value = "paused";
    return;
  }
  if (line.value !== "live") line.value = line.value === "lost" ? "lost" : "connecting";
  backoff = FIRST_BACKOFF;
  running = new AbortController();
  void run(wanted, running.signal);
}

async function run(what: Wanted, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await once(what, signal);
    } catch (error) {
      if (signal.aborted) return;
      why.value = error instanceof Error ? error.message : String(error);
    }
    if (signal.aborted) return;
    line.value = "lost";
    await new Promise((done) => setTimeout(done, backoff * (0.75 + Math.random() / 2)));
    backoff = Math.min(LONGEST_BACKOFF, backoff * 2);
  }
}

async function once(what: Wanted, signal: AbortSignal): Promise<void> {
  const query = new URLSearchParams();
  if (what.topics.length) query.set("topics", what.topics.join(","));
  if (what.service) query.set("service", what.service);
  const headers: Record<string, string> = { accept: "text/event-stream" };
  if (lastId && what.topics.includes("events") && happenings.value.length) headers["last-event-id"] = lastId;
  const answer = await fetch(`/v1/live?${query}`, { headers, signal, cache: "no-store" });
  if (answer.status === 401) {
    onLoggedOut();
    throw new Error("logged out");
  }
  if (!answer.ok || !answer.body) {
    const problem = (await answer.json().catch(() => null)) as { detail?: string } | null;
    throw new Error(problem?.detail ?? `the director answered ${answer.status}`);
  }
  const parse = parser((event, data, id) => {
    if (id) lastId = id;
    if (event === "history") history.value = JSON.parse(data) as History;
    if (event === "present") take(JSON.parse(data) as Present, what);
  });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      why.value = "the director ended the stream";
      return;
    }
    if (!signal.aborted) parse(value);
  }
}

function take(next: Present, what: Wanted): void {
  heard.value = Date.now();
  line.value = "live";
  why.value = "";
  backoff = FIRST_BACKOFF;
  if (next.events?.length) {
    const known = happenings.value.at(-1)?.id ?? 0;
    const fresh = happenings.value.length && next.events[0]!.id <= known ? next.events.filter((each) => each.id > known) : next.events;
    happenings.value = [...happenings.value, ...fresh].slice(-MOST_EVENTS);
  }
  const before = present.value;
  if (next.state.trouble !== undefined && before) {
    present.value = { ...before, state: { ...before.state, trouble: next.state.trouble } };
    return;
  }
  if (what.service && next.service === undefined) delete next.service;
  present.value = next;
  remember(next);
}

/** Adds the present to the history once a step, so that charts go on without being asked for anew. */
function remember(next: Present): void {
  const past = history.value;
  if (!past || next.state.trouble !== undefined) return;
  const last = past.at.at(-1) ?? 0;
  if (next.state.at - last < past.step || !next.state.rates) return;
  const push = (columns: Columns, rates: Rates): Columns => ({
    connections: add(columns.connections, rates && rates[0]),
    packets: add(columns.packets, rates && rates[1]),
    bytes: add(columns.bytes, rates && rates[2]),
    dropped: add(columns.dropped, rates && rates[3]),
  });
  const services = { ...past.services };
  for (const each of next.services ?? (next.service ? [next.service] : [])) {
    const before = services[each.name] ?? empty(past.at.length);
    services[each.name] = push(before, each.rates);
  }
  history.value = {
    step: past.step,
    at: add(past.at, next.state.at) as number[],
    totals: push(past.totals, next.state.rates),
    services,
  };
}

const KEPT = 90;

function add<T>(values: T[], value: T): T[] {
  return values.length < KEPT ? [...values, value] : [...values.slice(values.length - KEPT + 1), value];
}

function empty(length: number): Columns {
  const none = (): null[] => Array.from({ length }, () => null);
  return { connections: none(), packets: none(), bytes: none(), dropped: none() };
}
