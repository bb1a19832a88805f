// SPDX-License-Identifier: Apache-2.0
// A chart of the last quarter of an hour, drawn by uPlot; a table of its last values stands beside it for readers.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { clock, short } from "../view/format.ts";
import { theme } from "../state.ts";

export interface Series {
  title: string;
  values: readonly (number | null)[];
  /** A name of a colour among the tokens. */
  colour: string;
}

interface Props {
  title: string;
  unit: string;
  at: readonly number[];
  series: readonly Series[];
  height?: number;
}

export function Chart({ title, unit, at, series, height = 150 }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const names = series.map((each) => each.title).join();
  useEffect(() => {
    const box = place.current;
    if (!box) return undefined;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("soft"), font: `11px ${getComputedStyle(document.body).fontFamily}`, grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const made = new uPlot(
      {
        width: box.clientWidth,
        height,
        padding: [8, 18, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        scales: { x: { time: true }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
        axes: [
          { ...axis, size: 24, values: (_, ticks) => ticks.map((tick) => clock(tick).slice(0, tick % 60 ? 8 : 5)), space: 70 },
          { ...axis, size: 48, values: (_, ticks) => ticks.map((tick) => short(tick)), space: 34 },
        ],
        series: [
          {},
          ...series.map((each) => ({ label: each.title, stroke: colour(each.colour), width: 1.6, fill: series.length === 1 ? `color-mix(in srgb, ${colour(each.colour)} 12%, transparent)` : "transparent", points: { show: false }, spanGaps: false })),
        ],
      },
      [[...at], ...series.map((each) => [...each.values])] as uPlot.AlignedData,
      box,
    );
    chart.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: box.clientWidth, height }));
    watch.observe(box);
    return () => {
      watch.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [names, height, theme.value, document.documentElement.dataset["theme"]]);
  useEffect(() => {
    chart.current?.setData([[...at], ...series.map((each) => [...each.values])] as uPlot.AlignedData);
  }, [at, series]);
  const last = series.map((each) => `${each.title ? `${each.title} ` : ""}${short(each.values.at(-1))}`).join(", ");
  return (
    <figure class="chart">
      <figcaption>
        <h2>{title}</h2>
        <span class="soft">{unit}</span>
        {series.length > 1 && (
          <span class="legend">
            {series.map((each) => (
              <span key={each.title}>
                <i style={{ background: `var(--${each.colour})` }} />
                {each.title}
              </span>
            ))}
          </span>
        )}
      </figcaption>
      {at.length < 2 && <p class="empty">The first points come within {at.length ? 10 : 20} s.</p>}
      <div ref={place} role="img" aria-label={`${title}, ${unit}, the last quarter of an hour; now ${last}`} style={at.length < 2 ? { display: "none" } : undefined} />
    </figure>
  );
}
