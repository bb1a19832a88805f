// SPDX-License-Identifier: Apache-2.0
// Is all well, what is wrong, and how each service is. A wall mode leaves out all that is no answer to that.

import { computed, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { list } from "../api/client.ts";
import { type Direction, type History, type Peer, type ServiceRow, type State, history, present } from "../api/live.ts";
import { Panel, Table } from "../components/parts.tsx";
import { Rows, type Column, sorted } from "../components/rows.tsx";
import { Spark } from "../components/spark.tsx";
import { Freshness } from "../components/shell.tsx";
import { Shape, StateBar, StateWord, tone } from "../components/state.tsx";
import { found, health, now, store, stored } from "../state.ts";
import { ago, bits, plural, short, whole } from "../view/format.ts";
import type { Trouble } from "../view/problems.ts";

interface Known {
  name: string;
  listeners: string[];
  scheduler: string;
  labels: Record<string, string>;
}

const details = signal<Map<string, Known>>(new Map());
const search = signal("");
const only = signal<"all" | "trouble" | "moving">("all");
const sort = signal(stored("overview.sort", "state"));
const shape = signal(stored("overview.shape", "table"));
const NONE: readonly null[] = [];
const WORST = ["down", "partial", "unknown", "up"];

const shown = computed(() => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  return (present.value?.services ?? []).filter((row) => {
    const known = details.value.get(row.name);
    const text = [row.name, ...(known?.listeners ?? []), ...Object.entries(known?.labels ?? {}).map((each) => each.join("="))].join(" ").toLowerCase();
    if (!words.every((word) => text.includes(word))) return false;
    if (only.value === "trouble") return row.operational !== "up" || Object.keys(row.states).some((each) => each === "down" || each === "partial");
    if (only.value === "moving") return Object.keys(row.states).some((each) => ["drain", "drained", "maintenance"].includes(each));
    return true;
  });
});

function useDetails(): void {
  const revision = present.value?.state.revision;
  useEffect(() => {
    if (revision === undefined) return;
    list<Known>("/v1/services", { fields: "name,listeners,scheduler,labels" })
      .then((items) => {
        details.value = new Map(items.map((each) => [each.name, each]));
      })
      .catch(() => {
        // the table shows what the stream says
      });
  }, [revision]);
}

export function Overview() {
  useDetails();
  const seen = present.value;
  if (!seen) return <p class="empty">Waiting for the director…</p>;
  return (
    <>
      <div class="heading">
        <h1>Overview</h1>
        <a class="push button small" href="#/wall">
          Wall mode
        </a>
      </div>
      <Problems list={found.value} />
      <Figures />
      <Drains />
      <Directors />
      <Services />
    </>
  );
}

export function Wall() {
  useDetails();
  const said = health.value;
  return (
    <main class="wall" id="main">
      <header class={`banner ${said ? { ok: "ok", warning: "warn", error: "bad" }[said.level] : ""}`}>
        <h1 class="verdict">
          <Shape tone={said ? tone(said.level) : "idle"} />
          {said?.sentence ?? "Looking…"}
        </h1>
        <Freshness />
        <a class="button small" href="#/">
          Leave wall mode
        </a>
      </header>
      <Problems list={found.value} most={6} />
      <Figures />
      <Tiles rows={sorted(present.value?.services ?? [], COLUMNS, "state")} />
    </main>
  );
}

function Figures() {
  const state = present.value?.state;
  const past = history.value;
  if (!state) return null;
  const dropped = state.rates?.[3];
  return (
    <dl class="figures live-data">
      <Figure title="New connections" unit="/s" value={short(state.rates?.[0])} values={past?.totals.connections} />
      <Figure title="Packets in" unit="/s" value={short(state.rates?.[1])} values={past?.totals.packets} />
      <Figure title="Traffic in" unit="bit/s" value={bits(state.rates?.[2])} values={past?.totals.bytes} />
      <Figure title="Dropped and rejected" unit="/s" value={short(dropped)} values={past?.totals.dropped} bad={Boolean(dropped)} />
      <Figure title="Connections stored" unit={fill(state.maps["connections"])} value={whole(state.connections)} />
    </dl>
  );
}

function fill(map: [number, number] | undefined): string {
  return map ? `of ${short(map[1])}` : "";
}

function Figure({ title, value, unit, values, bad }: { title: string; value: string; unit: string; values?: (number | null)[] | undefined; bad?: boolean }) {
  return (
    <div class="figure">
      <dt>{title}</dt>
      <dd>
        {value} <small>{unit}</small>
        <Spark values={values ?? (NONE as null[])} width={200} height={34} tone={bad ? "bad" : "plain"} />
      </dd>
    </div>
  );
}

export function Problems({ list: all, most = 20 }: { list: readonly Trouble[]; most?: number }) {
  if (!all.length) return null;
  return (
    <section class="panel" aria-labelledby="problems">
      <header>
        <h2 id="problems">To look at</h2>
        <span class="soft">{plural(all.length, "thing")}{all.length > 1 && ", the worst first"}</span>
      </header>
      <ul class="problems live-data">
        {all.slice(0, most).map((each) => (
          <li key={`${each.subject} ${each.text}`}>
            <Shape tone={tone(each.level)} />
            <a class="subject" href={each.link}>
              {each.subject}
            </a>
            <span class="text">{each.text}</span>
            <time>{each.since ? ago(each.since, now.value) : ""}</time>
            {each.remedy && <span class="remedy">{each.remedy}</span>}
          </li>
        ))}
        {all.length > most && (
          <li>
            <span />
            <span class="text soft">and {all.length - most} more</span>
          </li>
        )}
      </ul>
    </section>
  );
}

/** All that are under way, or those of one service. */
export function Drains({ of: service }: { of?: string }) {
  const drains = (present.value?.state.drains ?? []).filter((each) => !service || each.service === service);
  if (!drains.length) return null;
  return (
    <section class="panel" aria-labelledby="drains">
      <header>
        <h2 id="drains">Drains</h2>
        <span class="soft">{plural(drains.length, "backend")}</span>
      </header>
      <div class="inside form live-data">
        {drains.slice(0, 12).map((each) => (
          <DrainLine key={`${each.service}/${each.backend}`} drain={each} name={`${each.service}/${each.backend}`} />
        ))}
      </div>
    </section>
  );
}

/** Of a fleet: those that share the desired state, and those that connections are exchanged with. */
function Directors() {
  const fleet = present.value?.state.fleet;
  if (!fleet || !(fleet.peers.length || fleet.directors.length)) return null;
  const { store } = fleet;
  const told = (state: string, why: string) => (
    <>
      <StateWord state={state} title={why} />
      <span class="sub">{why}</span>
    </>
  );
  const direction = (one: Direction | undefined) => one && told(one.state, one.why || (one.lag === null ? "" : `${short(one.lag)} s behind`));
  const rows = fleet.directors.map((report) => ({ report, peer: fleet.peers.find((peer) => peer.name === report.name) as Peer | undefined }));
  const others = fleet.peers.filter((peer) => !rows.some((row) => row.peer === peer)).map((peer) => ({ report: undefined, peer }));
  return (
    <Panel
      title="Directors"
      said={`${fleet.name}${fleet.fleet && ` of the fleet ${fleet.fleet}`}${fleet.waiting && `: ${fleet.waiting}`}${store.endpoint && `; desired state in ${store.type}${store.reached ? "" : `, which cannot be reached: ${store.why}`}`}`}
    >
      <Table
        label="Directors"
        rows={[...rows, ...others]}
        id={(row) => row.report?.name ?? row.peer?.address ?? ""}
        empty=""
        heads={[
          {
            title: "Director",
            cell: ({ report, peer }) => (
              <>
                <b>{report?.name || peer?.name || "not met yet"}</b>
                <span class="sub">{report?.name === fleet.name ? "this one" : peer?.address}</span>
              </>
            ),
          },
          { title: "State", cell: ({ report }) => report && told(report.ready ? "ready" : "not ready", report.why) },
          { title: "Release", cell: ({ report, peer }) => report?.version || peer?.version },
          { title: "Revision", number: true, cell: ({ report }) => whole(report?.revision) },
          { title: "Has our connections", cell: (row) => direction(row.peer?.outgoing) },
          { title: "We have its connections", cell: (row) => direction(row.peer?.incoming) },
        ]}
      />
    </Panel>
  );
}

function DrainLine({ drain, name }: { drain: State["drains"][number]; name: string }) {
  const begun = Math.max(drain.connections_at_start, drain.remaining);
  const done = begun ? 1 - drain.remaining / begun : drain.settled ? 1 : 0;
  const end = drain.remaining === 0 && drain.settled ? "drained" : drain.estimated_end ? `done about ${ago(drain.estimated_end, now.value).replace("now", "this minute")}` : "no estimate yet";
  const deadline = drain.deadline ? `, ${drain.on_deadline === "cut" ? "cut" : "deadline"} ${ago(drain.deadline, now.value)}` : "";
  const text = `${whole(drain.remaining)} of ${whole(begun)} left, ${end}${deadline}${drain.reason && `: ${drain.reason}`}`;
  return (
    <div class="drain">
      <a class="name" href={`#/service/${encodeURIComponent(drain.service)}`}>
        {name}
      </a>
      <div class="bar move" role="progressbar" aria-label={`Drain of ${name}`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * done)}>
        <i style={{ width: `${100 * done}%` }} />
      </div>
      <span class="soft" title={text}>
        {text}
      </span>
    </div>
  );
}

const COLUMNS: readonly Column<ServiceRow>[] = [
  {
    key: "state",
    title: "State",
    width: "96px",
    slim: "72px",
    by: (row) => WORST.indexOf(row.operational) * 1e6 - (row.states["down"] ?? 0),
    cell: (row) => <StateWord state={row.operational} />,
  },
  {
    key: "name",
    title: "Service",
    width: "minmax(180px, 3fr)",
    slim: "minmax(0, 1fr)",
    by: (row) => row.name,
    cell: (row) => (
      <>
        <a class="name" href={`#/service/${encodeURIComponent(row.name)}`} title={row.name}>
          {row.name}
        </a>
        <span class="sub" title={details.value.get(row.name)?.listeners.join(", ")}>
          {listeners(row.name)}
        </span>
      </>
    ),
  },
  {
    key: "backends",
    title: "Backends",
    hint: "Those that take new connections, of all",
    width: "138px",
    slim: "56px",
    by: (row) => (row.backends_in_all ? row.serving / row.backends_in_all : 0),
    cell: (row) => (
      <span class="rate" style={{ justifyContent: "flex-start" }}>
        <StateBar states={row.states} all={row.backends_in_all} />
        {row.serving}/{row.backends_in_all}
      </span>
    ),
  },
  {
    key: "connections",
    title: "New/s",
    number: true,
    width: "minmax(164px, 1fr)",
    slim: "58px",
    by: (row) => row.rates?.[0] ?? -1,
    cell: (row) => (
      <span class="rate">
        <Spark values={history.value?.services[row.name]?.connections ?? (NONE as null[])} />
        <span style={{ minWidth: "48px" }}>{short(row.rates?.[0])}</span>
      </span>
    ),
  },
  {
    key: "packets",
    title: "Packets/s",
    number: true,
    wide: true,
    width: "84px",
    by: (row) => row.rates?.[1] ?? -1,
    cell: (row) => short(row.rates?.[1]),
  },
  { key: "bits", title: "bit/s", number: true, wide: true, width: "72px", by: (row) => row.rates?.[2] ?? -1, cell: (row) => bits(row.rates?.[2]) },
  { key: "drops", title: "Drops/s", hint: "Packets dropped and rejected", number: true, wide: true, width: "76px", by: (row) => row.rates?.[3] ?? -1, cell: (row) => short(row.rates?.[3]) },
  { key: "active", title: "Active", hint: "Connections in the table now", number: true, wide: true, width: "72px", by: (row) => row.active, cell: (row) => whole(row.active) },
];

function listeners(service: string): string {
  const all = details.value.get(service)?.listeners ?? [];
  return all.length > 2 ? `${all.slice(0, 2).join(", ")} and ${all.length - 2} more` : all.join(", ");
}

function Services() {
  const all = present.value?.services ?? [];
  const rows = shown.value;
  return (
    <section class="panel" aria-labelledby="services">
      <header>
        <h2 id="services">Services</h2>
        <span class="soft">{rows.length === all.length ? plural(all.length, "service") : `${rows.length} of ${all.length}`}</span>
        <div class="tools push">
          <input type="search" placeholder="Name, address, label" aria-label="Search services" value={search.value} onInput={(event) => (search.value = event.currentTarget.value)} />
          <Choice
            label="Which services"
            value={only.value}
            choices={[
              ["all", "All"],
              ["trouble", "In trouble"],
              ["moving", "In change"],
            ]}
            onChoose={(value) => (only.value = value)}
          />
          <Choice
            label="How they are shown"
            value={shape.value}
            choices={[
              ["table", "Table"],
              ["grid", "Grid"],
            ]}
            onChoose={(value) => {
              shape.value = value;
              store("overview.shape", value);
            }}
          />
        </div>
      </header>
      <div class="live-data">
        {!all.length && <p class="empty">No service is configured. Changes takes a configuration; on the command line: <code>xdpdirector config apply</code>.</p>}
        {all.length > 0 && !rows.length && <p class="empty">No service matches.</p>}
        {rows.length > 0 &&
          (shape.value === "grid" ? (
            <Tiles rows={sorted(rows, COLUMNS, sort.value)} />
          ) : (
            <Rows
              label="Services"
              columns={COLUMNS}
              rows={rows}
              height={48}
              id={(row) => row.name}
              sort={sort.value}
              onSort={(next) => {
                sort.value = next;
                store("overview.sort", next);
              }}
              open={(row) => `#/service/${encodeURIComponent(row.name)}`}
            />
          ))}
      </div>
    </section>
  );
}

function Tiles({ rows }: { rows: readonly ServiceRow[] }) {
  const past: History | null = history.value;
  return (
    <div class="tiles live-data">
      {rows.map((row) => (
        <a key={row.name} class={`tile ${row.operational === "up" && (row.states["down"] || row.states["partial"]) ? "warn" : tone(row.operational)}`} href={`#/service/${encodeURIComponent(row.name)}`}>
          <span class="line">
            <b title={row.name}>{row.name}</b>
            <StateWord state={row.operational} />
          </span>
          <span class="line soft">
            <span>
              {row.serving}/{row.backends_in_all} backends
            </span>
            <span>{short(row.rates?.[0])} new/s</span>
          </span>
          <span class="line soft">
            <span>{short(row.rates?.[1])} packets/s</span>
            <span>{bits(row.rates?.[2])} bit/s</span>
            <span>{short(row.rates?.[3])} drops/s</span>
          </span>
          <StateBar states={row.states} all={row.backends_in_all} />
          <Spark values={past?.services[row.name]?.connections ?? (NONE as null[])} width={220} height={26} />
        </a>
      ))}
    </div>
  );
}

export function Choice<T extends string>({ label, value, choices, onChoose }: { label: string; value: T | string; choices: readonly (readonly [T, string])[]; onChoose: (value: T) => void }) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {choices.map(([name, title]) => (
        <button key={name} type="button" aria-pressed={value === name} onClick={() => onChoose(name)}>
          {title}
        </button>
      ))}
    </div>
  );
}
