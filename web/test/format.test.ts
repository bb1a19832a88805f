// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, began, bits, duration, percent, plural, short, whole } from "../src/view/format.ts";

const rows: [() => string, string][] = [
  [() => short(0), "0"],
  [() => short(0.04), "0.04"],
  [() => short(9.96), "10"],
  [() => short(999), "999"],
  [() => short(999.6), "1\u202fk"],
  [() => short(1234), "1.23\u202fk"],
  [() => short(12_345_678), "12.3\u202fM"],
  [() => short(null), "–"],
  [() => short(Number.NaN), "–"],
  [() => bits(125_000), "1\u202fM"],
  [() => bits(undefined), "–"],
  [() => whole(1234567), "1\u202f234\u202f567"],
  [() => String(began({ since: 5, drain: null })), "5"],
  [() => String(began({ since: 5, drain: { since: "2026-11-30T10:00:00Z" } })), "2026-11-30T10:00:00Z"],
  [() => percent(1, 3), "33 %"],
  [() => percent(1, 5000), "<0.1 %"],
  [() => percent(0, 0), "–"],
  [() => duration(59.4), "59 s"],
  [() => duration(61), "1 min 1 s"],
  [() => duration(3900), "1 h 5 min"],
  [() => duration(90_000), "1 d 1 h"],
  [() => ago(100, 160), "1 min ago"],
  [() => ago("1970-01-01T00:01:40Z", 101), "now"],
  [() => ago(200, 100), "in 1 min 40 s"],
  [() => plural(1, "backend"), "1 backend"],
  [() => plural(1200, "address", "addresses"), "1\u202f200 addresses"],
];

for (const [write, text] of rows) test(`${write}`, () => assert.equal(write(), text));
