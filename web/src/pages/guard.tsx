// SPDX-License-Identifier: Apache-2.0
// Who is denied, and what limits refused.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { get } from "../api/client.ts";
import { type Denied, present } from "../api/live.ts";
import { Act, type Change } from "../components/dialog.tsx";
import { Fill, Panel, Table, Title } from "../components/parts.tsx";
import { now } from "../state.ts";
import { command } from "../view/cli.ts";
import { ago, plural, short, whole } from "../view/format.ts";

const search = signal("");

export function Guard() {
  const guard = present.value?.guard;
  const rates = present.value?.state.verdicts["drop_denied"];
  const limits = Object.entries(guard?.limits ?? {}).map(([service, each]) => ({ service, ...each }));
  return (
    <>
      <Title text="Guard">who is denied, and what limits refused</Title>
      {!guard && <p class="empty">Waiting for the director…</p>}
      {guard && (
        <>
          <Panel
            title="Deny list"
            said={`${plural(guard.denied, "prefix", "prefixes")}; ${whole(guard.denied_packets)} packets dropped, ${short(rates?.[1])}/s now`}
            tools={
              <>
                <input type="search" placeholder="Is this address denied?" aria-label="Look for an address" value={search.value} onInput={(event) => (search.value = event.currentTarget.value)} />
                <Act role="operate" change={deny}>
                  Deny
                </Act>
              </>
            }
          >
            <div class="inside">
              <Fill entries={guard.denied} room={guard.room} />
              <p class="hint">
                {whole(guard.denied)} of {whole(guard.room)} places. {guard.top_is_known ? "Those that drop most come first." : "There are too many to know the busiest: look for an address."}
              </p>
            </div>
            <Entries top={guard.top} />
          </Panel>
          <Panel title="Limits" said="new connections that were refused">
            <Table
              label="Limits"
              rows={limits}
              id={(row) => row.service}
              empty={
                <>
                  No service has a limit: <code>limit</code> in its configuration sets one.
                </>
              }
              heads={[
                { title: "Service", cell: (row) => <a href={`#/service/${encodeURIComponent(row.service)}`}>{row.service}</a> },
                { title: "Limit", cell: (row) => (row.limit?.rate ? `${row.limit.rate}${row.limit.burst ? `, burst ${row.limit.burst}` : ""}` : row.limit ? "by source only" : "none any more") },
                { title: "Over the service's", number: true, cell: (row) => whole(row.refused.by_service) },
                { title: "Over the source's", number: true, cell: (row) => whole(row.refused.by_source) },
              ]}
            />
          </Panel>
        </>
      )}
    </>
  );
}

function Entries({ top }: { top: readonly Denied[] }) {
  const [over, setOver] = useState<Denied[] | null>(null);
  const [problem, setProblem] = useState("");
  const asked = search.value.trim();
  useEffect(() => {
    setOver(null);
    setProblem("");
    if (!asked) return undefined;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      get<{ items: Denied[] }>("/v1/guard/deny", { client: asked, limit: 100 }, stop.signal)
        .then(({ items }) => setOver(items))
        .catch((error: unknown) => {
          if (!stop.signal.aborted) setProblem(error instanceof Error ? error.message : String(error));
        });
    }, 250);
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [asked, top.length]);
  if (problem) return <p class="empty">{problem}</p>;
  return (
    <Table
      label="Denied prefixes"
      rows={asked ? (over ?? []) : top}
      id={(row) => row.prefix}
      empty={asked ? (over ? "Nothing on the deny list covers it." : "Looking…") : "Nobody is denied."}
      heads={[
        { title: "Prefix", cell: (row) => <b class="mono">{row.prefix}</b> },
        {
          title: "Reason",
          text: true,
          cell: (row) => (
            <>
              {row.reason || <span class="soft">none was given</span>}
              {row.warnings.map((each) => (
                <p key={each} class="note warn">
                  {each}
                </p>
              ))}
            </>
          ),
        },
        { title: "By", cell: (row) => (row.from_file ? `${row.author}, in the file` : row.author) },
        { title: "Since", cell: (row) => ago(row.since, now.value) },
        { title: "Packets", number: true, cell: (row) => whole(row.packets) },
        {
          title: "Allow",
          cell: (row) => (
            <Act role="operate" small change={() => allow(row)}>
              Allow
            </Act>
          ),
        },
      ]}
    />
  );
}

function deny(): Change {
  return {
    title: "Deny a network",
    verb: "Deny",
    role: "operate",
    meaning: "All its packets to any service are dropped, those of connections that run among them.",
    fields: [{ name: "prefix", title: "Prefix", hint: "Such as 203.0.113.0/24 or 2001:db8::1" }],
    request: (values, reason) => (values["prefix"] ? { method: "POST", path: "/v1/guard/deny", body: { prefix: values["prefix"], ...(reason ? { reason } : {}) } } : null),
    command: (values, reason) => command(["guard", "deny", values["prefix"] || "PREFIX"], reason),
    done: (values) => `${values["prefix"]} is denied`,
    undo: (_, values) => ({ title: `${values["prefix"]} is allowed again`, request: { method: "DELETE", path: `/v1/guard/deny/${encodeURIComponent(values["prefix"] ?? "")}` } }),
  };
}

function allow(row: Denied): Change {
  const path = `/v1/guard/deny/${encodeURIComponent(row.prefix)}`;
  return {
    title: `Allow ${row.prefix}`,
    verb: "Allow",
    role: "operate",
    meaning: `It is denied since ${ago(row.since, now.value)}${row.reason ? `: ${row.reason}` : "."} ${row.from_file ? "It stands in the configuration file: take it out there, too." : ""}`,
    request: () => ({ method: "DELETE", path }),
    command: () => command(["guard", "allow", row.prefix]),
    tagOf: path,
    done: () => `${row.prefix} is allowed`,
    undo: () => ({ title: `${row.prefix} is denied again`, request: { method: "POST", path: "/v1/guard/deny", body: { prefix: row.prefix, reason: row.reason } } }),
  };
}
