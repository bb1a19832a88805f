// SPDX-License-Identifier: Apache-2.0
// Numbers, durations and moments as people read them. Pure.

const SCALE: readonly (readonly [number, string])[] = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];
export const UNKNOWN = "–";

/** Three digits and a unit: 1.23 k. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  for (const [scale, unit] of SCALE) {
    if (Math.abs(value) >= scale * 0.9995) return `${Number((value / scale).toPrecision(3))}\u202f${unit}`;
  }
  if (value === 0) return "0";
  return Math.abs(value) < 10 ? String(Number(value.toPrecision(2))) : String(Math.round(value));
}

/** Octets of a second as bits of a second. */
export function bits(octets: number | null | undefined): string {
  return octets === null || octets === undefined ? UNKNOWN : short(octets * 8);
}

/** All digits, in groups of three. */
export function whole(value: number | null | undefined): string {
  if (value === null || value === undefined) return UNKNOWN;
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

export function percent(part: number, all: number): string {
  if (all <= 0) return UNKNOWN;
  const share = (100 * part) / all;
  return share > 0 && share < 0.1 ? "<0.1 %" : `${share < 10 ? Number(share.toFixed(1)) : Math.round(share)} %`;
}

/** Two units at most: 3 h 5 min. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return hours ? `${days} d ${hours} h` : `${days} d`;
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  if (minutes) return minutes < 10 && whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return `${whole} s`;
}

/** When a backend began to be as it is shown: its drain where it has one, else its check's verdict. */
export function began(row: { since: number; drain: { since: string } | null }): number | string {
  return row.drain?.since ?? row.since;
}

/** Of a moment, in seconds since 1970 or as ISO 8601, seen from `now`. */
export function ago(when: number | string | null | undefined, now: number): string {
  if (when === null || when === undefined) return UNKNOWN;
  const seconds = now - (typeof when === "number" ? when : Date.parse(when) / 1000);
  if (seconds < -1) return `in ${duration(-seconds)}`;
  return seconds < 2 ? "now" : `${duration(seconds)} ago`;
}

export function moment(when: number | string): string {
  const date = new Date(typeof when === "number" ? when * 1000 : when);
  const two = (value: number) => String(value).padStart(2, "0");
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
}

export function clock(when: number | string): string {
  return moment(when).slice(11);
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${whole(count)} ${count === 1 ? one : many}`;
}
