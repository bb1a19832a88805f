// SPDX-License-Identifier: Apache-2.0
// A table of any number of rows, of which only those in sight are drawn: all have one height. Columns sort.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export interface Column<Row> {
  key: string;
  title: string;
  /** A number stands at the right. */
  number?: boolean;
  /** What it sorts by; a column without it does not. */
  by?: (row: Row) => number | string;
  cell: (row: Row) => ComponentChildren;
  /** CSS grid track. */
  width: string;
  /** The track on narrow screens. */
  slim?: string;
  /** Left out on narrow screens. */
  wide?: boolean;
  hint?: string;
}

interface Props<Row> {
  label: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  height: number;
  id: (row: Row) => string;
  sort: string;
  onSort: (sort: string) => void;
  open?: (row: Row) => string;
  classOf?: (row: Row) => string;
}

const MARGIN = 8;
const FEW = 60; // rows that are all drawn

export function sorted<Row>(rows: readonly Row[], columns: readonly Column<Row>[], sort: string): Row[] {
  const [name, factor] = sort.startsWith("-") ? [sort.slice(1), -1] : [sort, 1];
  const by = columns.find((each) => each.key === name)?.by;
  if (!by) return [...rows];
  const keyed = rows.map((row, place) => ({ row, place, key: by(row) }));
  keyed.sort((one, other) => {
    const [a, b] = [one.key, other.key];
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return factor * order || one.place - other.place;
  });
  return keyed.map((each) => each.row);
}

export function Rows<Row>({ label, columns, rows, height, id, sort, onSort, open, classOf }: Props<Row>) {
  const body = useRef<HTMLDivElement>(null);
  const [sight, setSight] = useState<[number, number]>([0, FEW]);
  const ordered = sorted(rows, columns, sort);
  const isLong = rows.length > FEW;
  useEffect(() => {
    if (!isLong) return undefined;
    const look = () => {
      const top = body.current?.getBoundingClientRect().top ?? 0;
      const first = Math.max(0, Math.floor(-top / height) - MARGIN);
      const count = Math.ceil(innerHeight / height) + 2 * MARGIN;
      setSight((before) => (before[0] === first && before[1] === first + count ? before : [first, first + count]));
    };
    look();
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => {
      removeEventListener("scroll", look);
      removeEventListener("resize", look);
    };
  }, [isLong, height]);
  const [first, last] = isLong ? sight : [0, rows.length];
  const template = { "--columns": columns.map((each) => each.width).join(" "), "--narrow": columns.filter((each) => !each.wide).map((each) => each.slim ?? each.width).join(" ") };
  return (
    <div class="rows" role="table" aria-label={label} aria-rowcount={rows.length + 1} style={template}>
      <div class="row head" role="row" aria-rowindex={1}>
        {columns.map((column) => (
          <div
            key={column.key}
            role="columnheader"
            class={classes(column)}
            aria-sort={sort === column.key ? "ascending" : sort === `-${column.key}` ? "descending" : column.by ? "none" : undefined}
            title={column.hint}
          >
            {column.by ? (
              <button type="button" class="sort" onClick={() => onSort(sort === column.key ? `-${column.key}` : sort === `-${column.key}` || !column.number ? column.key : `-${column.key}`)}>
                {column.title}
                <span aria-hidden="true">{sort === column.key ? "▲" : sort === `-${column.key}` ? "▼" : ""}</span>
              </button>
            ) : (
              <span class="hidden">{column.title}</span>
            )}
          </div>
        ))}
      </div>
      <div ref={body} role="rowgroup" class="body" style={isLong ? { height: `${rows.length * height}px`, position: "relative" } : undefined}>
        {ordered.slice(first, last).map((row, place) => (
          <div
            key={id(row)}
            role="row"
            aria-rowindex={first + place + 2}
            class={`row ${open ? "opens" : ""} ${classOf?.(row) ?? ""}`}
            style={isLong ? { height: `${height}px`, position: "absolute", top: `${(first + place) * height}px`, left: 0, right: 0 } : { minHeight: `${height}px` }}
            onClick={
              open &&
              ((event) => {
                if (!(event.target as Element).closest("a,button,input,summary,details") && !getSelection()?.toString()) location.hash = open(row);
              })
            }
          >
            {columns.map((column) => (
              <div key={column.key} role="cell" class={classes(column)}>
                {column.cell(row)}
              </div>
            ))}
          </div>
        ))}
      </div>
    </div>
  );
}

function classes<Row>(column: Column<Row>): string {
  return `${column.number ? "number" : ""} ${column.wide ? "wide" : ""} c-${column.key}`;
}
