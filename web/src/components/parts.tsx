// SPDX-License-Identifier: Apache-2.0
// Small parts that several pages share.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Problem } from "../api/client.ts";

export interface Loaded<T> {
  value: T | null;
  problem: string;
  busy: boolean;
  again: () => void;
}

/** What `load` gives; anew when a key differs, and when it is asked for. What was there stays meanwhile. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, keys: readonly unknown[]): Loaded<T> {
  const [value, setValue] = useState<T | null>(null);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(true);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    setBusy(true);
    load(stop.signal)
      .then((found) => {
        setValue(found);
        setProblem("");
      })
      .catch((error: unknown) => {
        if (!stop.signal.aborted) setProblem(error instanceof Problem ? error.message : String(error));
      })
      .finally(() => {
        if (!stop.signal.aborted) setBusy(false);
      });
    return () => stop.abort();
  }, [...keys, turn]);
  return { value, problem, busy, again: () => setTurn((count) => count + 1) };
}

export function Panel({ title, said, tools, children }: { title: string; said?: ComponentChildren; tools?: ComponentChildren; children: ComponentChildren }) {
  const id = `panel-${title.replace(/\W+/g, "-").toLowerCase()}`;
  return (
    <section class="panel" aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {said && <span class="soft">{said}</span>}
        {tools && <div class="tools push">{tools}</div>}
      </header>
      {children}
    </section>
  );
}

export interface Head<Row> {
  title: string;
  number?: boolean;
  /** Long text, which breaks anywhere. */
  text?: boolean;
  cell: (row: Row) => ComponentChildren;
}

export function Table<Row>({ label, heads, rows, id, empty }: { label: string; heads: readonly Head<Row>[]; rows: readonly Row[]; id: (row: Row) => string; empty: ComponentChildren }) {
  if (!rows.length) return <p class="empty">{empty}</p>;
  return (
    <div class="scroll live-data" tabIndex={0} role="region" aria-label={`Table: ${label}`}>
      <table class="plain">
        <thead>
          <tr>
            {heads.map((head) => (
              <th key={head.title} scope="col" class={head.number ? "number" : ""}>
                {head.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={id(row)}>
              {heads.map((head) => (
                <td key={head.title} class={head.number ? "number" : head.text ? "text" : ""}>
                  {head.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** What a list shows while there is nothing of it yet. */
export function Waiting({ of: loaded, children }: { of: Loaded<unknown>; children: ComponentChildren }) {
  if (loaded.problem)
    return (
      <div class="inside">
        <p class="note bad" role="alert">
          {loaded.problem}
        </p>
      </div>
    );
  if (loaded.value === null) return <p class="empty">Loading…</p>;
  return <>{children}</>;
}

export function Title({ text, children }: { text: string; children?: ComponentChildren }) {
  return (
    <div class="heading">
      <h1>{text}</h1>
      {children && <span class="soft">{children}</span>}
    </div>
  );
}

export function Fill({ entries, room }: { entries: number; room: number }) {
  const part = room ? entries / room : 0;
  return (
    <div class={`bar ${part > 0.95 ? "bad" : part > 0.8 ? "warn" : ""}`} role="meter" aria-label="Fill" aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * part)}>
      <i style={{ width: `${Math.max(part ? 1 : 0, 100 * part)}%` }} />
    </div>
  );
}
