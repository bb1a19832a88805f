// SPDX-License-Identifier: Apache-2.0
// What the program would do with a packet, and why; and what it does with those that come, one by one.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { Problem, ask } from "../api/client.ts";
import type { Explanation } from "../api/types.ts";
import { Copy, FieldInput, refusal } from "../components/dialog.tsx";
import { Panel, Table, Title } from "../components/parts.tsx";
import { StateWord } from "../components/state.tsx";
import { may, tell } from "../state.ts";
import { command } from "../view/cli.ts";
import { clock, plural, short, whole } from "../view/format.ts";
import { type Captured, pcapng } from "../view/pcapng.ts";
import { parser } from "../view/sse.ts";

interface Decision {
  time: string;
  client: string;
  client_port: number;
  vip: string;
  port: number;
  protocol: string;
  flags: string;
  verdict: string;
  reason: string;
  service: string | null;
  backend: string | null;
  interface: string | null;
  length: number;
  frame?: string | null;
}

const question = signal<Record<string, string>>({ client: "", client_port: "40000", vip: "", port: "80", protocol: "tcp", flags: "S" });

export function Explain() {
  return (
    <>
      <Title text="Explain and trace">what becomes of a packet, and of those that come</Title>
      <Question />
      <Trace />
    </>
  );
}

const FIELDS = [
  { name: "client", title: "Client", hint: "An address" },
  { name: "client_port", title: "Its port", kind: "number" as const, min: 1 },
  { name: "vip", title: "VIP", hint: "An address" },
  { name: "port", title: "Port", kind: "number" as const, min: 1 },
  { name: "protocol", title: "Protocol", kind: "select" as const, choices: ["tcp", "udp", "sctp", "esp", "ah", "gre"].map((each) => [each, each] as const) },
  {
    name: "flags",
    title: "TCP flags",
    kind: "select" as const,
    choices: [
      ["S", "SYN: opens one"],
      ["A", "ACK: of a running one"],
      ["FA", "FIN"],
      ["R", "RST"],
    ] as const,
  },
];

function Question() {
  const [found, setFound] = useState<Explanation | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const values = question.value;
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const body = { ...values, client_port: Number(values["client_port"]), port: Number(values["port"]), flags: values["protocol"] === "tcp" ? values["flags"] : "" };
      setFound((await ask<Explanation>("POST", "/v1/explain", { body })).value);
      setProblem(null);
    } catch (error) {
      setFound(null);
      if (error instanceof Problem) setProblem(error);
    }
    setBusy(false);
  };
  const ends = (address: string | undefined, port: string | undefined) => (address?.includes(":") ? `[${address}]:${port}` : `${address}:${port}`);
  return (
    <Panel title="Explain" said="The packet program itself is asked: nothing is sent, counted or remembered.">
      <form class="inside form" onSubmit={(event) => void submit(event)}>
        <div class="fields" style={{ alignItems: "start" }}>
          {FIELDS.filter((field) => field.name !== "flags" || values["protocol"] === "tcp").map((field) => (
            <FieldInput
              key={field.name}
              field={field}
              value={values[field.name] ?? ""}
              fault={problem?.faults.find((each) => each.pointer === `/${field.name}`)?.detail}
              onInput={(value) => (question.value = { ...values, [field.name]: value })}
            />
          ))}
        </div>
        <div class="buttons" style={{ justifyContent: "flex-start" }}>
          <button class="primary" type="submit" disabled={busy}>
            {busy ? "Asking…" : "What would become of it?"}
          </button>
        </div>
        {problem && (
          <p class="note bad" role="alert">
            {problem.message}
          </p>
        )}
        {found && <Found one={found} />}
        {found && <Copy label="The same on the command line" text={command(["explain", ends(values["client"], values["client_port"]), `${ends(values["vip"], values["port"])}/${values["protocol"]}`, values["protocol"] === "tcp" && values["flags"] !== "S" && "--flags", values["protocol"] === "tcp" && values["flags"] !== "S" && values["flags"]])} />}
      </form>
    </Panel>
  );
}

function Found({ one }: { one: Explanation }) {
  return (
    <div class="form" role="status">
      <p class={`note ${{ forward: "ok", drop: "bad", reject: "warn" }[one.verdict] ?? ""}`}>
        <b>
          {one.verdict}
          {one.backend && ` to ${one.service}/${one.backend}`}
        </b>
        {one.mac && ` by ${one.mac} on ${one.way_out ?? one.interface}`} <span class="mono">[{one.reason}]</span>
        <br />
        because {one.why}
      </p>
      {one.slot && (
        <p class="soft">
          Slot {whole(one.slot.number)} of {whole(one.slot.slots)} of its ring is {one.slot.backend ?? "nobody"}'s{one.slot.in_flux && one.slot.before ? `, and was ${one.slot.before}'s before the last change` : ""}.
        </p>
      )}
      {one.candidates.length > 0 && (
        <Table
          label="Members and their loads"
          rows={one.candidates}
          id={(row) => row.backend}
          empty=""
          heads={[
            { title: "Backend", cell: (row) => <b>{row.backend}</b> },
            { title: "Serving", cell: (row) => <StateWord state={row.serving ? "up" : "out"} /> },
            { title: "Weight", number: true, cell: (row) => short(row.weight) },
            { title: "Active", number: true, cell: (row) => whole(row.active) },
            { title: "Inactive", number: true, cell: (row) => whole(row.inactive) },
            { title: "Chosen", cell: (row) => (row.backend === one.backend ? "chosen" : "") },
          ]}
        />
      )}
    </div>
  );
}

// The trace

const MOST = 500;
const decisions = signal<Decision[]>([]);
const missed = signal(0);
const running = signal<AbortController | null>(null);
const paused = signal(false);
const held = signal<Decision[]>([]);
const stopped = signal("");
const filters = signal<Record<string, string>>({ service: "", backend: "", client: "", reason: "", rate: "20" });

async function follow(withFrames: boolean): Promise<void> {
  const stop = new AbortController();
  running.value = stop;
  stopped.value = "";
  decisions.value = [];
  missed.value = 0;
  paused.value = false;
  try {
    const query = new URLSearchParams(Object.entries(filters.value).filter(([, value]) => value));
    if (withFrames) query.set("frames", "true");
    const answer = await fetch(`/v1/trace?${query}`, { headers: { accept: "text/event-stream" }, signal: stop.signal });
    if (!answer.ok || !answer.body) throw new Error(((await answer.json()) as { detail?: string }).detail ?? String(answer.status));
    let fresh: Decision[] = [];
    const parse = parser((event, data) => {
      if (event === "decision") fresh.push(JSON.parse(data) as Decision);
      if (event === "missed") missed.value += (JSON.parse(data) as { count: number }).count;
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parse(value);
      if (fresh.length) decisions.value = [...decisions.value, ...fresh].slice(-MOST);
      fresh = [];
    }
    stopped.value = "The director ended the trace.";
  } catch (error) {
    if (!stop.signal.aborted) stopped.value = error instanceof Error ? error.message : String(error);
  }
  if (running.value === stop) running.value = null;
}

function Trace() {
  const [frames, setFrames] = useState(true);
  useEffect(() => {
    const named = new URLSearchParams(location.hash.split("?")[1] ?? "").get("backend");
    if (named) filters.value = { ...filters.value, backend: named };
    const hide = () => document.hidden && running.value?.abort();
    document.addEventListener("visibilitychange", hide);
    return () => {
      document.removeEventListener("visibilitychange", hide);
      running.value?.abort();
    };
  }, []);
  const shown = paused.value ? held.value : decisions.value;
  const values = filters.value;
  const can = may("operate");
  const input = (name: string, title: string, hint: string) => <FieldInput key={name} field={{ name: `trace-${name}`, title, hint, optional: true }} value={values[name] ?? ""} onInput={(value) => (filters.value = { ...values, [name]: value })} />;
  return (
    <Panel
      title="Trace"
      said={missed.value ? `${whole(missed.value)} were too many and are not shown` : "It costs the traced packets a little, and ends when it is stopped."}
      tools={
        <>
          {running.value ? (
            <>
              <button
                type="button"
                aria-pressed={paused.value}
                onClick={() => {
                  held.value = decisions.value;
                  paused.value = !paused.value;
                }}
              >
                {paused.value ? "Go on" : "Pause"}
              </button>
              <button type="button" onClick={() => running.value?.abort()}>
                Stop
              </button>
            </>
          ) : (
            <button type="button" class={can ? "primary" : "locked"} aria-disabled={!can} title={can ? undefined : refusal("operate")} onClick={() => (can ? void follow(frames) : tell(refusal("operate"), "error"))}>
              Start
            </button>
          )}
          <button type="button" disabled={!shown.some((each) => each.frame)} onClick={() => download(shown)}>
            Download pcapng
          </button>
        </>
      }
    >
      <div class="inside form">
        <div class="fields" style={{ alignItems: "start" }}>
          {input("service", "Service", "")}
          {input("backend", "Backend", "SERVICE/BACKEND")}
          {input("client", "Client", "An address or a network")}
          {input("reason", "Reasons", "Such as drop,reject")}
          {input("rate", "At most a second", "")}
        </div>
        <label>
          <input type="checkbox" checked={frames} onChange={(event) => setFrames(event.currentTarget.checked)} />
          with the frames' first bytes, for the download
        </label>
        {stopped.value && <p class="note warn">{stopped.value}</p>}
      </div>
      <Table
        label="Traced packets"
        rows={[...shown].reverse().slice(0, 200)}
        id={(row) => `${row.time} ${row.client} ${row.client_port} ${row.reason}`}
        empty={running.value ? "No packet has come that matches." : "Nothing is traced."}
        heads={[
          { title: "Time", cell: (row) => <span class="mono">{clock(row.time)}</span> },
          { title: "Verdict", cell: (row) => <StateWord state={row.verdict} /> },
          { title: "Reason", cell: (row) => row.reason.split("_").slice(1).join(" ") },
          { title: "From", cell: (row) => <span class="mono">{end(row.client, row.client_port)}</span> },
          { title: "To", cell: (row) => <span class="mono">{`${end(row.vip, row.port)}/${row.protocol}`}</span> },
          { title: "Flags", cell: (row) => row.flags },
          { title: "Backend", cell: (row) => (row.backend ? `${row.service}/${row.backend}` : (row.service ?? "")) },
          { title: "Octets", number: true, cell: (row) => whole(row.length) },
        ]}
      />
    </Panel>
  );
}

function end(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

function download(shown: readonly Decision[]): void {
  const packets: Captured[] = shown.flatMap((each) => (each.frame ? [{ time: each.time, interface: each.interface, length: each.length, frame: each.frame, comment: [each.reason, each.service, each.backend].filter(Boolean).join(" ") }] : []));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([pcapng(packets)], { type: "application/octet-stream" }));
  link.download = "xdpdirector-trace.pcapng";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  tell(`${plural(packets.length, "packet")} in ${link.download}`);
}
