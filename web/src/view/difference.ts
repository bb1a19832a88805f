// SPDX-License-Identifier: Apache-2.0
// A difference of two configurations as lines to read: the place, what was, what is. Pure.

import type { Difference } from "../api/types.ts";

export interface Line {
  sign: " " | "+" | "-";
  text: string;
}

export function lines(each: Difference): Line[] {
  const place = each.pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
    .join(" / ");
  const made: Line[] = [{ sign: " ", text: place || "all" }];
  if (each.before !== undefined && each.before !== null) made.push(...shown(each.before).map((text): Line => ({ sign: "-", text })));
  if (each.after !== undefined && each.after !== null) made.push(...shown(each.after).map((text): Line => ({ sign: "+", text })));
  return made;
}

/** As YAML shows it, without what is empty. */
export function shown(value: unknown, indent = ""): string[] {
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item !== "object" || item === null)) return [`${indent}[${value.map(scalar).join(", ")}]`];
    return value.flatMap((item) => shown(item, `${indent}  `).map((line, place) => (place ? line : `${indent}- ${line.trimStart()}`)));
  }
  if (typeof value === "object" && value !== null) {
    return Object.entries(value)
      .filter(([, item]) => item !== null && !(typeof item === "object" && Object.keys(item as object).length === 0))
      .flatMap(([name, item]) => {
        const inside = shown(item, `${indent}  `);
        const isFlat = typeof item !== "object" || (Array.isArray(item) && inside.length === 1);
        return isFlat ? [`${indent}${name}: ${inside[0]?.trimStart() ?? ""}`] : [`${indent}${name}:`, ...inside];
      });
  }
  return [indent + scalar(value)];
}

function scalar(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
