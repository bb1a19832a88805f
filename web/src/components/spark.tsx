// SPDX-License-Identifier: Apache-2.0
// A line of the last quarter of an hour. Says nothing that the number beside it does not, so readers skip it.

import { memo } from "../view/memo.ts";

export interface Area {
  line: string;
  fill: string;
}

/** Paths in a box of that size: holes where nothing was counted, zero at the bottom. */
export function paths(values: readonly (number | null)[], width: number, height: number, slots = 90): Area {
  const top = Math.max(1e-9, ...values.map((value) => value ?? 0));
  const step = width / Math.max(1, slots - 1);
  const start = Math.max(0, slots - values.length);
  let [line, fill] = ["", ""];
  let from: number | null = null;
  let x = 0;
  values.forEach((value, place) => {
    const next = (start + place) * step;
    if (value === null) {
      if (from !== null) fill += `L${x.toFixed(1)} ${height}Z`;
      from = null;
      return;
    }
    x = next;
    const y = (height - 1 - (value / top) * (height - 2)).toFixed(1);
    if (from === null) {
      from = x;
      line += `M${x.toFixed(1)} ${y}`;
      fill += `M${x.toFixed(1)} ${height}L${x.toFixed(1)} ${y}`;
    } else {
      line += `L${x.toFixed(1)} ${y}`;
      fill += `L${x.toFixed(1)} ${y}`;
    }
  });
  if (from !== null) fill += `L${x.toFixed(1)} ${height}Z`;
  return { line, fill };
}

interface Props {
  values: readonly (number | null)[];
  width?: number;
  height?: number;
  tone?: string;
}

export const Spark = memo(
  ({ values, width = 96, height = 22, tone = "plain" }: Props) => {
    const { line, fill } = paths(values, width, height);
    return (
      <svg class={`spark ${tone}`} viewBox={`0 0 ${width} ${height}`} width={width} height={height} preserveAspectRatio="none" aria-hidden="true">
        <path class="fill" d={fill} />
        <path class="line" d={line} vector-effect="non-scaling-stroke" />
      </svg>
    );
  },
  (one, other) => one.values === other.values && one.width === other.width && one.tone === other.tone,
);
