// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { State } from "../src/api/live.ts";
import { command, curl, quoted } from "../src/view/cli.ts";
import { lines, shown } from "../src/view/difference.ts";
import { pcapng } from "../src/view/pcapng.ts";
import { troubles, verdict } from "../src/view/problems.ts";
import { parser } from "../src/view/sse.ts";
import { verdictsOf } from "../src/view/verdicts.ts";

const WELL: State = {
  at: 1000,
  revision: 3,
  tag: "",
  ready: true,
  problems: [],
  warnings: [],
  findings: [],
  fleet: { name: "", fleet: "", waiting: "", peers: [] },
  services: 2,
  backends: 4,
  serving: 4,
  services_down: [],
  troubled: [],
  troubled_in_all: 0,
  drains: [],
  rates: [1, 2, 3, 0],
  connections: 5,
  clients_turned_away: 0,
  drift_repaired: 0,
  maps: { connections: [5, 100] },
  attachments: [],
  verdicts: {},
};
const OUT = { service: "web", backend: "web1", address: "192.0.2.21", operational: "down", reason: "connection refused", since: 900, serving: false };

test("all is well in one sentence", () => {
  assert.deepEqual(verdict(WELL), { level: "ok", sentence: "All is well: 4 backends of 4 serve 2 services." });
});

test("a backend that is out is no outage, and has a remedy", () => {
  const found = troubles({ ...WELL, serving: 3, troubled: [OUT], troubled_in_all: 1 });
  assert.equal(found.length, 1);
  assert.equal(found[0]?.level, "warning");
  assert.match(found[0]?.text ?? "", /connection refused/);
  assert.notEqual(found[0]?.remedy, "");
});

test("a service that is down comes first, with the reason, and says it for its backends", () => {
  const state = { ...WELL, serving: 2, troubled: [OUT], troubled_in_all: 1, warnings: ["the disk is full"], services_down: [{ service: "web", operational: "down", backends: 1 }] };
  const found = troubles(state);
  assert.deepEqual(found.map((each) => [each.level, each.subject]), [["error", "web"], ["note", "director"]]);
  assert.match(found[0]?.text ?? "", /connection refused/);
  assert.equal(verdict(state).level, "error");
});

test("what is not ready is never well", () => {
  assert.match(verdict({ ...WELL, ready: false, problems: ["maps differ"] }).sentence, /^Not ready/);
});

test("a present that cannot be seen is an error", () => {
  assert.equal(troubles({ ...WELL, trouble: "no map" })[0]?.level, "error");
});

test("a table that is nearly full", () => {
  assert.match(troubles({ ...WELL, maps: { connections: [90, 100] } })[0]?.remedy ?? "", /sizes\.connections/);
});

for (const size of [1, 2, 3, 7, 1000]) {
  test(`events in pieces of ${size}`, () => {
    const told: string[][] = [];
    const parse = parser((...words) => told.push(words));
    const text = ': a comment\n\nid: 7\nevent: present\ndata: {"a":1}\ndata: 2\n\nevent: x\r\ndata:y\r\n\r\ndata: z\n\n';
    for (let at = 0; at < text.length; at += size) parse(text.slice(at, at + size));
    assert.deepEqual(told, [["present", '{"a":1}\n2', "7"], ["x", "y", "7"], ["message", "z", "7"]]);
  });
}

test("words of a command line", () => {
  assert.equal(quoted("web/web1"), "web/web1");
  assert.equal(quoted("it's $HOME"), "'it'\\''s $HOME'");
  assert.equal(command(["backend", "drain", "web/web1", false, undefined], " new disk "), "xdpdirector backend drain web/web1 --reason 'new disk'");
  assert.match(curl("POST", "/v1/tokens", { name: "a'b" }), /-d '\{"name":"a'\\''b"\}'/);
});

test("a difference as lines", () => {
  assert.deepEqual(
    lines({ action: "changed", pointer: "/services/web/backends/a~1b/weight", before: 1, after: 2 }).map((each) => each.sign + each.text),
    [" services / web / backends / a/b / weight", "-1", "+2"],
  );
  assert.deepEqual(shown({ listeners: ["192.0.2.10:80/tcp"], check: null, backends: { web1: { address: "192.0.2.21", labels: {} } } }), ["listeners: [192.0.2.10:80/tcp]", "backends:", "  web1:", "    address: 192.0.2.21"]);
});

test("verdicts: what is dropped first, the busiest first", () => {
  const names = verdictsOf({ forward_connection: [5, 1], drop_denied: [1, 0], drop_malformed: [2, 3], pass_local: [0, 0] }).map((each) => each.name);
  assert.deepEqual(names, ["drop_malformed", "drop_denied", "forward_connection"]);
});

test("a capture: blocks whose lengths agree, and the packet's octets", () => {
  const made = pcapng([{ time: "2026-01-02T03:04:05.678901Z", interface: "eth0", length: 100, frame: btoa("\x01\x02\x03\x04\x05"), comment: "drop_denied" }]);
  const view = new DataView(made.buffer);
  const kinds: number[] = [];
  for (let at = 0; at < made.length; at += view.getUint32(at + 4, true)) {
    const length = view.getUint32(at + 4, true);
    kinds.push(view.getUint32(at, true));
    assert.equal(view.getUint32(at + length - 4, true), length);
    if (kinds.at(-1) === 6) {
      const micros = (BigInt(view.getUint32(at + 12, true)) << 32n) | BigInt(view.getUint32(at + 16, true));
      assert.equal(micros, BigInt(Date.parse("2026-01-02T03:04:05Z")) * 1000n + 678901n);
      assert.deepEqual([view.getUint32(at + 20, true), view.getUint32(at + 24, true)], [5, 100]);
      assert.deepEqual([...made.slice(at + 28, at + 33)], [1, 2, 3, 4, 5]);
    }
  }
  assert.deepEqual(kinds, [0x0a0d0d0a, 1, 6]);
});
