// SPDX-License-Identifier: Apache-2.0
// The packet program's verdicts, in the order in which a person asks for them. Pure.

export interface Verdict {
  name: string;
  verdict: string;
  reason: string;
  count: number;
  rate: number | null;
}

const ORDER = ["drop", "reject", "pass", "forward"];

/** Those that have happened; the busiest of each verdict first, forwarding last. */
export function verdictsOf(verdicts: Record<string, [number, number | null]>): Verdict[] {
  return Object.entries(verdicts)
    .filter(([, [count]]) => count > 0)
    .map(([name, [count, rate]]) => {
      const [verdict = "", ...words] = name.split("_");
      return { name, verdict, reason: words.join(" "), count, rate };
    })
    .sort((one, other) => ORDER.indexOf(one.verdict) - ORDER.indexOf(other.verdict) || (other.rate ?? 0) - (one.rate ?? 0) || other.count - one.count);
}
