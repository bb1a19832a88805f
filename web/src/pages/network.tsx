// SPDX-License-Identifier: Apache-2.0
// What is true on the LAN and in the kernel, and what is wrong with it.

import { get } from "../api/client.ts";
import { present } from "../api/live.ts";
import type { Holdings } from "../api/types.ts";
import { Fill, Panel, Table, Title, Waiting, useLoaded } from "../components/parts.tsx";
import { Shape, StateWord, tone } from "../components/state.tsx";
import { found, now } from "../state.ts";
import { ago, plural, whole } from "../view/format.ts";
import { Problems } from "./overview.tsx";
import { Verdicts } from "./service.tsx";

interface Diagnosis {
  topic: string;
  level: string;
  text: string;
  evidence: string;
  remedy: string;
}

export function Network() {
  const seen = present.value;
  const holdings = useLoaded((signal) => get<Holdings>("/v1/dataplane", undefined, signal), [seen?.state.attachments.map((each) => each.program_id).join()]);
  const lan = seen?.lan;
  return (
    <>
      <Title text="Network">what is true on the LAN and in the kernel</Title>
      <Problems list={found.value.filter((each) => each.link === "#/network")} />
      <Doctor />
      <Panel title="Interfaces" said={holdings.value ? `program ${holdings.value.program.id}, ${whole(holdings.value.program.instructions)} instructions` : undefined}>
        <Table
          label="Interfaces"
          rows={seen?.state.attachments ?? []}
          id={(row) => row.interface}
          empty="The program is attached to no interface: nothing is directed."
          heads={[
            { title: "Interface", cell: (row) => <b>{row.interface}</b> },
            { title: "Mode", cell: (row) => row.mode },
            { title: "Program", number: true, cell: (row) => row.program_id },
            { title: "Transmit errors", number: true, cell: (row) => (row.transmit_errors === null ? "the driver does not tell" : whole(row.transmit_errors)) },
          ]}
        />
      </Panel>
      <Panel title="Neighbours" said={lan ? plural(lan.neighbours.length, "address", "addresses") : undefined}>
        {lan ? (
          <Table
            label="Neighbours"
            rows={lan.neighbours.slice(0, 500)}
            id={(row) => row.address}
            empty="There is no backend whose neighbour could be looked for."
            heads={[
              { title: "Address", cell: (row) => <b>{row.address}</b> },
              { title: "State", cell: (row) => <StateWord state={row.state} title={row.why} /> },
              { title: "MAC", cell: (row) => <span class="mono">{row.mac ?? ""}</span> },
              { title: "Interface", cell: (row) => row.interface ?? "" },
              { title: "Backends", text: true, cell: (row) => row.backends.join(", ") },
              { title: "MAC changes", number: true, cell: (row) => (row.mac_changes ? `${row.mac_changes}, last ${ago(row.mac_changed_at, now.value)}` : "0") },
              { title: "Why", text: true, cell: (row) => row.why },
            ]}
          />
        ) : (
          <p class="empty">Waiting for the director…</p>
        )}
      </Panel>
      {lan && lan.presence.length > 0 && (
        <Panel title="VIPs on the backends" said="whether each machine has the VIPs that it is to answer for">
          <Table
            label="VIPs on the backends"
            rows={lan.presence.slice(0, 500)}
            id={(row) => `${row.address} ${row.vip}`}
            empty=""
            heads={[
              { title: "Backend", text: true, cell: (row) => <strong>{row.backends.join(", ")}</strong> },
              { title: "Address", cell: (row) => row.address },
              { title: "VIP", cell: (row) => row.vip },
              { title: "Presence", cell: (row) => <StateWord state={row.presence} /> },
              { title: "How that is known", text: true, cell: (row) => row.evidence },
              { title: "Asked", cell: (row) => <time>{ago(row.asked_at, now.value)}</time> },
            ]}
          />
        </Panel>
      )}
      <Verdicts of={seen?.state.verdicts} said="of all services of this director, since the program was loaded" />
      <Panel title="Maps" said="how full the kernel's tables are">
        <Waiting of={holdings}>
          <Table
            label="Maps"
            rows={[...(holdings.value?.maps ?? [])].sort((one, other) => (other.entries ?? 0) / other.room - (one.entries ?? 0) / one.room)}
            id={(row) => row.name}
            empty=""
            heads={[
              { title: "Map", cell: (row) => <span class="mono">{row.name}</span> },
              { title: "Type", cell: (row) => row.type },
              { title: "Id", number: true, cell: (row) => row.id },
              { title: "Entries", number: true, cell: (row) => whole(row.entries) },
              { title: "Room", number: true, cell: (row) => whole(row.room) },
              { title: "Fill", cell: (row) => (row.entries === null ? "" : <Fill entries={row.entries} room={row.room} />) },
            ]}
          />
        </Waiting>
      </Panel>
    </>
  );
}

function Doctor() {
  const seen = useLoaded((signal) => get<{ items: Diagnosis[] }>("/v1/doctor", undefined, signal), []);
  const items = seen.value?.items ?? [];
  const wrong = items.filter((each) => each.level !== "ok");
  return (
    <Panel
      title="Doctor"
      said={seen.value ? `${plural(items.length - wrong.length, "thing")} well, ${wrong.length} to look at` : undefined}
      tools={
        <button type="button" disabled={seen.busy} onClick={seen.again}>
          {seen.busy ? "Examining…" : "Run it again"}
        </button>
      }
    >
      <Waiting of={seen}>
        {wrong.length ? (
          <ul class="problems">
            {wrong.map((each) => (
              <li key={each.text}>
                <Shape tone={tone(each.level)} />
                <span class="subject">{each.topic}</span>
                <span class="text">
                  {each.text} <span class="soft">({each.evidence})</span>
                </span>
                <span class="soft">{each.level}</span>
                {each.remedy && <span class="remedy">{each.remedy}</span>}
              </li>
            ))}
          </ul>
        ) : (
          <p class="empty">Everything that the director stands on is as it should be.</p>
        )}
      </Waiting>
    </Panel>
  );
}
