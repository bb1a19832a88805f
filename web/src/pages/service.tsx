// SPDX-License-Identifier: Apache-2.0
// One service: what it is, how its backends are and what each gets, and what can be done to them.

import { computed, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Problem, backendPath, get, servicePath } from "../api/client.ts";
import { type BackendRow, type State, history, present } from "../api/live.ts";
import type { ServiceView as Details } from "../api/types.ts";
import { Chart } from "../components/chart.tsx";
import { Act, type Change, propose, refusal } from "../components/dialog.tsx";
import { Panel, Table } from "../components/parts.tsx";
import { type Column, Rows } from "../components/rows.tsx";
import { StateWord, stateOf, tone } from "../components/state.tsx";
import { may, now, route, store, stored, tell } from "../state.ts";
import { command } from "../view/cli.ts";
import { ago, began, bits, moment, percent, plural, short, whole } from "../view/format.ts";
import { verdictsOf } from "../view/verdicts.ts";
import { Choice, Drains } from "./overview.tsx";

const details = signal<Details | null>(null);
const trouble = signal("");
const search = signal("");
const only = signal<"all" | "out">("all");
const sort = signal(stored("service.sort", "state"));
const WORST = ["down", "partial", "drain", "drained", "maintenance", "unknown", "up"];

/** Its address, and before it the tunnel if there is one: what is cut off where there is no room is the address. */
const whereOf = (row: BackendRow) => (row.forward === "direct" ? row.address : `${row.forward} to ${row.address}`);

const rows = computed(() => {
  const word = search.value.toLowerCase().trim();
  return (present.value?.service?.backends ?? []).filter((row) => {
    if (only.value === "out" && row.serving && row.operational === "up") return false;
    return !word || `${row.name} ${whereOf(row)} ${row.reason} ${row.admin} ${row.operational}`.toLowerCase().includes(word);
  });
});

export function Service() {
  const name = route.value[1] ?? "";
  const revision = present.value?.state.revision;
  useEffect(() => {
    if (details.value?.name !== name) details.value = null;
    const stop = new AbortController();
    get<Details>(servicePath(name), undefined, stop.signal)
      .then((found) => {
        details.value = found;
        trouble.value = "";
      })
      .catch((error: unknown) => {
        if (!stop.signal.aborted) trouble.value = error instanceof Problem ? error.message : String(error);
      });
    return () => stop.abort();
  }, [name, revision]);
  const row = present.value?.service?.name === name ? present.value.service : null;
  if (trouble.value && !row) {
    return (
      <>
        <Heading name={name} state="unknown" />
        <p class="note bad" role="alert">
          {trouble.value}
        </p>
      </>
    );
  }
  return (
    <>
      <Heading name={name} state={row?.operational ?? "unknown"} />
      {details.value && <Facts one={details.value} />}
      <Charts name={name} />
      <Drains of={name} />
      <Backends name={name} />
      <Verdicts of={present.value?.service?.verdicts} said="of this service: forwarded, and why not" />
    </>
  );
}

function Heading({ name, state }: { name: string; state: string }) {
  const row = present.value?.service;
  return (
    <div class="heading">
      <a class="crumb" href="#/">
        Overview
      </a>
      <span class="soft" aria-hidden="true">
        /
      </span>
      <h1>{name}</h1>
      <StateWord state={state} />
      {row && (
        <span class="soft live-data">
          {row.serving} of {plural(row.backends_in_all, "backend")} serving, {plural(row.active, "connection")}
        </span>
      )}
      <span class="push">
        <Act role="operate" change={() => addBackend(name)}>
          Add a backend
        </Act>
      </span>
    </div>
  );
}

function Facts({ one }: { one: Details }) {
  const check = one.check;
  const facts: [string, string][] = [
    ["Listeners", one.listeners.join(", ")],
    ["Scheduler", one.hash ? `${one.scheduler} by ${one.hash}` : one.scheduler],
    ["Persistence", one.persistence ? `${one.persistence.timeout}, clients of a /${one.persistence.prefix}` : "none"],
    ["Check", check ? `${check.type}, every ${check.interval}, up after ${check.rise}, down after ${check.fall}` : "none: each backend counts as up"],
    ["When none is left", one.fallback ? `to ${one.fallback}` : one.on_empty],
    ["When one goes down", `its connections: ${one.on_down}`],
    ["Limit", one.limit ? Object.entries(one.limit).filter(([, value]) => value !== null && typeof value !== "object").map((each) => each.join(" ")).join(", ") || "by source" : "none"],
    ["Slow start", String(one.slow_start ?? "none")],
  ];
  const labels = Object.entries(one.labels ?? {});
  if (labels.length) facts.push(["Labels", labels.map((each) => each.join("=")).join(", ")]);
  return (
    <dl class="facts panel" style={{ padding: "14px 16px" }}>
      {facts.map(([title, text]) => (
        <div key={title}>
          <dt>{title}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
}

function Charts({ name }: { name: string }) {
  const past = history.value;
  const one = past?.services[name];
  const at = past?.at ?? [];
  const rates = present.value?.service?.rates;
  return (
    <section class="charts live-data" aria-label="Charts">
      <div class="panel">
        <Chart title="New connections" unit={`${short(rates?.[0])}/s`} at={at} series={[{ title: "", values: one?.connections ?? [], colour: "accent" }]} />
      </div>
      <div class="panel">
        <Chart title="Packets in" unit={`${short(rates?.[1])}/s`} at={at} series={[{ title: "", values: one?.packets ?? [], colour: "accent" }]} />
      </div>
      <div class="panel">
        <Chart title="Traffic in" unit={`${bits(rates?.[2])}bit/s`} at={at} series={[{ title: "", values: (one?.bytes ?? []).map((each) => (each === null ? null : each * 8)), colour: "accent" }]} />
      </div>
      <div class="panel">
        <Chart title="Dropped and rejected" unit={`${short(rates?.[3])}/s`} at={at} series={[{ title: "", values: one?.dropped ?? [], colour: "bad" }]} />
      </div>
    </section>
  );
}

// Shares

function shares(all: readonly BackendRow[]): (row: BackendRow) => { expected: number; real: number; part: number; whole: number } {
  const weight = all.reduce((sum, row) => sum + (row.serving ? row.effective_weight : 0), 0);
  const opened = all.reduce((sum, row) => sum + (row.rates?.[0] ?? 0), 0);
  return (row) => ({
    expected: weight && row.serving ? row.effective_weight / weight : 0,
    real: opened ? (row.rates?.[0] ?? 0) / opened : 0,
    part: row.rates?.[0] ?? 0,
    whole: opened,
  });
}

function columns(service: string, all: readonly BackendRow[]): Column<BackendRow>[] {
  const share = shares(all);
  return [
    {
      key: "state",
      title: "State",
      width: "122px",
      slim: "96px",
      by: (row) => WORST.indexOf(stateOf(row.admin, row.operational)),
      cell: (row) => (
        <>
          <StateWord state={row.passive ?? stateOf(row.admin, row.operational)} title={`wanted: ${row.admin}; check: ${row.operational}`} />
          <span class="sub" title={`since ${moment(began(row))}`}>
            {ago(began(row), now.value)}
          </span>
        </>
      ),
    },
    {
      key: "name",
      title: "Backend",
      width: "minmax(170px, 3fr)",
      slim: "minmax(0, 1fr)",
      by: (row) => row.name,
      cell: (row) => (
        <>
          <b title={row.name}>{row.name}</b> <span class="soft">{whereOf(row)}</span>
          <span class={`sub ${tone(row.operational)}`} title={row.reason}>
            {row.drain ? `${whole(row.drain.remaining)} left${row.drain.reason && `: ${row.drain.reason}`}` : row.reason || (row.operational === "unknown" ? "its check has not said anything yet" : "")}
          </span>
        </>
      ),
    },
    {
      key: "weight",
      title: "Weight",
      hint: "The configured one, and what it is worth now",
      number: true,
      wide: true,
      width: "78px",
      by: (row) => row.effective_weight,
      cell: (row) => (row.effective_weight === row.weight ? row.weight : `${short(row.effective_weight)} of ${row.weight}`),
    },
    {
      key: "share",
      title: "Share of new",
      hint: "The bar and the first number: its part of the new connections; the mark and the second: what its weight asks for",
      wide: true,
      width: "minmax(150px, 1fr)",
      by: (row) => share(row).real,
      cell: (row) => {
        const { expected, real, part, whole: sum } = share(row);
        return (
          <span class="share">
            <span class="bar" aria-hidden="true">
              <i style={{ width: `${100 * real}%` }} />
              {expected > 0 && <i class="ghost" style={{ width: `${100 * expected}%` }} />}
            </span>
            <span class="soft">
              {percent(part, sum)} / {percent(expected, 1)}
            </span>
          </span>
        );
      },
    },
    { key: "active", title: "Active", number: true, width: "66px", slim: "50px", by: (row) => row.connections[0], cell: (row) => whole(row.connections[0]) },
    { key: "inactive", title: "Closing", hint: "Inactive connections in the table, and such that showed one packet", number: true, wide: true, width: "66px", by: (row) => row.connections[1], cell: (row) => whole(row.connections[1] + row.connections[2]) },
    { key: "opened", title: "New/s", number: true, wide: true, width: "62px", by: (row) => row.rates?.[0] ?? -1, cell: (row) => short(row.rates?.[0]) },
    { key: "packets", title: "Packets/s", number: true, wide: true, width: "74px", by: (row) => row.rates?.[1] ?? -1, cell: (row) => short(row.rates?.[1]) },
    { key: "bits", title: "bit/s", number: true, wide: true, width: "66px", by: (row) => row.rates?.[2] ?? -1, cell: (row) => bits(row.rates?.[2]) },
    { key: "do", title: "Actions", width: "44px", cell: (row) => <Menu service={service} row={row} /> },
  ];
}

function Backends({ name }: { name: string }) {
  const all = present.value?.service?.name === name ? present.value.service.backends : null;
  if (!all) return <p class="empty">Waiting for its backends…</p>;
  return (
    <section class="panel" aria-labelledby="backends">
      <header>
        <h2 id="backends">Backends</h2>
        <span class="soft">{rows.value.length === all.length ? plural(all.length, "backend") : `${rows.value.length} of ${all.length}`}</span>
        <div class="tools push">
          <input type="search" placeholder="Name, address, reason" aria-label="Search backends" value={search.value} onInput={(event) => (search.value = event.currentTarget.value)} />
          <Choice
            label="Which backends"
            value={only.value}
            choices={[
              ["all", "All"],
              ["out", "Not serving"],
            ]}
            onChoose={(value) => (only.value = value)}
          />
        </div>
      </header>
      {!all.length && <p class="empty">It has no backend yet: its clients are refused. Add one.</p>}
      {all.length > 0 && !rows.value.length && <p class="empty">No backend matches.</p>}
      {rows.value.length > 0 && (
        <div class="live-data">
          <Rows
            label={`Backends of ${name}`}
            columns={columns(name, all)}
            rows={rows.value}
            height={54}
            id={(row) => row.name}
            sort={sort.value}
            onSort={(next) => {
              sort.value = next;
              store("service.sort", next);
            }}
          />
        </div>
      )}
    </section>
  );
}

/** `said`: whose they are. */
export function Verdicts({ of: counts, said }: { of: State["verdicts"] | undefined; said: string }) {
  const all = verdictsOf(counts ?? {});
  return (
    <Panel title="Verdicts on packets, by reason" said={said}>
      <Table
        label="Verdicts"
        rows={all}
        id={(each) => each.name}
        empty="No packet has come yet."
        heads={[
          { title: "Verdict", cell: (each) => <StateWord state={each.verdict} /> },
          { title: "Reason", cell: (each) => each.reason || "to its backends" },
          { title: "Packets/s", number: true, cell: (each) => short(each.rate) },
          { title: "Packets", number: true, cell: (each) => whole(each.count) },
        ]}
      />
    </Panel>
  );
}

// What can be done

function Menu({ service, row }: { service: string; row: BackendRow }) {
  const choose = (change: () => Change) => (event: Event) => {
    (event.currentTarget as Element).closest("details")?.removeAttribute("open");
    if (may("operate")) propose(change());
    else tell(refusal("operate"), "error");
  };
  return (
    <details
      class="menu"
      onFocusOut={(event) => {
        const menu = event.currentTarget;
        if (!menu.contains(event.relatedTarget as Node | null)) menu.open = false;
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") event.currentTarget.open = false;
      }}
    >
      <summary aria-label={`Actions for ${row.name}`} title={may("operate") ? undefined : refusal("operate")}>
        •••
      </summary>
      <div>
        {row.admin !== "drain" && (
          <button type="button" onClick={choose(() => drain(service, row))}>
            Drain…
          </button>
        )}
        {row.admin !== "enabled" && (
          <button type="button" onClick={choose(() => admin(service, row, "enable"))}>
            Enable…
          </button>
        )}
        {row.admin !== "maintenance" && (
          <button type="button" onClick={choose(() => admin(service, row, "maintenance"))}>
            Maintenance…
          </button>
        )}
        <button type="button" onClick={choose(() => weight(service, row))}>
          Weight…
        </button>
        <button type="button" onClick={choose(() => remove(service, row))}>
          Remove…
        </button>
        <a class="button" href={`#/explain?backend=${encodeURIComponent(`${service}/${row.name}`)}`}>
          Trace its packets
        </a>
      </div>
    </details>
  );
}

const BACK = { enabled: "enable", drain: "drain", maintenance: "maintenance" } as const;

/** Puts the admin state that was there before back. */
function back(service: string, row: BackendRow) {
  const verb = BACK[row.admin as keyof typeof BACK] ?? "enable";
  return { title: `${row.name} is ${row.admin === "drain" ? "draining" : row.admin} again`, request: { method: "POST", path: `${backendPath(service, row.name)}/${verb}`, body: { reason: "undo in the dashboard" } } };
}

function drain(service: string, row: BackendRow): Change {
  const path = backendPath(service, row.name);
  return {
    title: `Drain ${row.name}`,
    verb: "Drain",
    role: "operate",
    meaning: (
      <>
        It takes no new connections; the {plural(row.connections[0], "connection")} that it has go on until they end by themselves, or until the deadline.
      </>
    ),
    fields: [
      { name: "deadline", title: "Deadline", optional: true, hint: "Such as 10m; none: until the last one ends" },
      {
        name: "on_deadline",
        title: "What is left then",
        kind: "select",
        choices: [
          ["keep", "goes on"],
          ["cut", "is cut"],
        ],
      },
    ],
    request: (values, reason) => ({
      method: "POST",
      path: `${path}/drain`,
      body: { ...(reason ? { reason } : {}), ...(values["deadline"] ? { deadline: values["deadline"], on_deadline: values["on_deadline"] } : {}) },
    }),
    command: (values, reason) =>
      command(["backend", "drain", `${service}/${row.name}`, ...(values["deadline"] ? ["--deadline", values["deadline"], "--on-deadline", values["on_deadline"]] : [])], reason),
    tagOf: path,
    done: () => `${row.name} drains`,
    undo: () => back(service, row),
  };
}

function admin(service: string, row: BackendRow, verb: "enable" | "maintenance"): Change {
  const path = backendPath(service, row.name);
  return {
    title: verb === "enable" ? `Enable ${row.name}` : `Put ${row.name} in maintenance`,
    verb: verb === "enable" ? "Enable" : "Put in maintenance",
    role: "operate",
    danger: verb === "maintenance" && row.connections[0] > 0,
    meaning: verb === "enable" ? "It takes new connections as soon as its check is content." : "It gets no packet any more, and its connections end. To let them end by themselves, drain it first.",
    request: (_, reason) => ({ method: "POST", path: `${path}/${verb}`, body: reason ? { reason } : {} }),
    command: (_, reason) => command(["backend", verb, `${service}/${row.name}`], reason),
    tagOf: path,
    done: () => (verb === "enable" ? `${row.name} is enabled` : `${row.name} is in maintenance`),
    undo: () => back(service, row),
  };
}

function weight(service: string, row: BackendRow): Change {
  const path = backendPath(service, row.name);
  return {
    title: `Weight of ${row.name}`,
    verb: "Set the weight",
    role: "operate",
    meaning: "Its share of new connections beside the others; 0 takes none. Connections that run stay where they are.",
    fields: [{ name: "weight", title: "Weight", kind: "number", value: String(row.weight), min: 0 }],
    request: (values) => (/^\d+$/.test(values["weight"] ?? "") ? { method: "PATCH", path, body: { weight: Number(values["weight"]) } } : null),
    command: (values) => command(["backend", "set", `${service}/${row.name}`, "--weight", values["weight"]]),
    tagOf: path,
    done: (values) => `${row.name} has the weight ${values["weight"]}`,
    undo: () => ({ title: `${row.name} has the weight ${row.weight} again`, request: { method: "PATCH", path, body: { weight: row.weight } } }),
  };
}

function remove(service: string, row: BackendRow): Change {
  const path = backendPath(service, row.name);
  return {
    title: `Remove ${row.name}`,
    verb: "Remove",
    role: "operate",
    danger: true,
    meaning: "It goes from the service. What it has of connections is cut off, unless it is drained first.",
    fields: [
      {
        name: "how",
        title: "Its connections",
        kind: "select",
        choices: [
          ["none", "refuse if it has any"],
          ["force", "cut them off"],
        ],
      },
    ],
    request: (values) => ({ method: "DELETE", path, query: values["how"] === "force" ? { force: true } : {} }),
    command: (values) => command(["backend", "remove", `${service}/${row.name}`, values["how"] === "force" && "--force"]),
    tagOf: path,
    done: () => `${row.name} is removed`,
    undo: (before) => (before ? { title: `${row.name} is there again`, request: { method: "PUT", path, body: before } } : null),
  };
}

function addBackend(service: string): Change {
  return {
    title: `Add a backend to ${service}`,
    verb: "Add",
    role: "operate",
    meaning: "It takes new connections as soon as its MAC address is known and its check is content. It has to own the VIPs itself: the doctor's findings tell when it does not.",
    fields: [
      { name: "name", title: "Name", hint: "Letters, digits, . _ -" },
      { name: "address", title: "Address", hint: "In the director's own network" },
      { name: "weight", title: "Weight", kind: "number", value: "1", min: 0 },
    ],
    request: (values) =>
      values["name"] && values["address"] && /^\d+$/.test(values["weight"] ?? "")
        ? { method: "POST", path: `${servicePath(service)}/backends`, body: { name: values["name"], address: values["address"], weight: Number(values["weight"]) } }
        : null,
    command: (values) => command(["backend", "add", `${service}/${values["name"] || "NAME"}`, values["address"] || "ADDRESS", values["weight"] !== "1" && "--weight", values["weight"] !== "1" && values["weight"]]),
    done: (values) => `${values["name"]} is added`,
    undo: (_, values) => ({ title: `${values["name"]} is removed again`, request: { method: "DELETE", path: backendPath(service, values["name"] ?? ""), query: { force: true } } }),
  };
}

