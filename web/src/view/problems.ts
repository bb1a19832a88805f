// SPDX-License-Identifier: Apache-2.0
// Whether all is well, in one sentence, and what is wrong, the worst first, each with a remedy. Pure.

import type { State } from "../api/live.ts";
import { plural } from "./format.ts";

export type Level = "error" | "warning" | "note";

export interface Trouble {
  level: Level;
  subject: string;
  text: string;
  remedy: string;
  /** Seconds since 1970, where that is known. */
  since: number | null;
  /** A page that shows more. */
  link: string;
}

const ORDER: readonly Level[] = ["error", "warning", "note"];

/** Services and network findings that are wrong, before backends that others stand in for. */
export function troubles(state: State): Trouble[] {
  const found: Trouble[] = [];
  const add = (level: Level, subject: string, text: string, remedy: string, since: number | null, link: string) =>
    found.push({ level, subject, text, remedy, since, link });
  if (state.trouble) {
    add("error", "director", `The present cannot be seen: ${state.trouble}`, "Look into the daemon's log.", null, "#/network");
  }
  for (const text of state.problems) {
    add("error", "director", text, "Packets go on by the last state that is known. `xdpdirector doctor` says more.", null, "#/network");
  }
  for (const each of state.services_down) {
    if (each.operational === "down") {
      const why = state.troubled.find((one) => one.service === each.service && one.reason)?.reason;
      add(
        "error",
        each.service,
        !each.backends ? "It has no backend: its clients are not served." : `No backend serves, so its clients are not served${why ? `: ${why}` : "."}`,
        each.backends ? "Look at its servers, or enable one that is out." : "Add a backend.",
        null,
        `#/service/${encodeURIComponent(each.service)}`,
      );
    } else if (each.operational === "partial") {
      const text = "It serves on some of its VIPs, and not on others.";
      add("warning", each.service, text, "See which VIP each backend lacks.", null, `#/service/${encodeURIComponent(each.service)}`);
    }
  }
  for (const each of state.findings) {
    add("warning", each.subject, each.text, each.remedy, Date.parse(each.since) / 1000, "#/network");
  }
  const out = new Set(state.services_down.filter((each) => each.operational === "down").map((each) => each.service));
  for (const each of state.troubled) {
    if (out.has(each.service)) continue; // its service says so
    if (each.operational === "unknown" && !each.reason) continue; // it has only just begun to be asked
    const word = each.operational === "partial" ? "is down for some VIPs" : `is ${each.operational}`;
    add(
      "warning",
      `${each.service}/${each.backend}`,
      each.reason ? `${word}: ${each.reason}` : word,
      `Others take its clients. Look at the server on ${each.address}; to work on it in peace, put it in maintenance.`,
      each.since,
      `#/service/${encodeURIComponent(each.service)}`,
    );
  }
  for (const text of state.warnings) add("note", "director", text, "The doctor, on the page Network, has the evidence and the remedy.", null, "#/network");
  for (const [name, [entries, room]] of Object.entries(state.maps)) {
    if (room && entries > 0.8 * room) {
      const text = `The table '${name}' is ${Math.round((100 * entries) / room)} % full.`;
      add("warning", "director", text, `Raise sizes.${name} in the configuration, and restart the daemon.`, null, "#/network");
    }
  }
  return found.sort((one, other) => ORDER.indexOf(one.level) - ORDER.indexOf(other.level));
}

export interface Verdict {
  level: "ok" | "warning" | "error";
  sentence: string;
}

export function verdict(state: State, found: readonly Trouble[] = troubles(state)): Verdict {
  const errors = found.filter((each) => each.level === "error").length;
  const warnings = found.filter((each) => each.level === "warning").length;
  const all = `${plural(state.serving, "backend")} of ${state.backends} serve${state.serving === 1 ? "s" : ""} ${plural(state.services, "service")}`;
  if (!state.ready || errors) {
    const down = state.services_down.filter((each) => each.operational === "down");
    if (down.length === 1 && state.ready) return { level: "error", sentence: `${down[0]!.service} is down; ${all}.` };
    if (down.length && state.ready) return { level: "error", sentence: `${plural(down.length, "service is", "services are")} down; ${all}.` };
    return { level: "error", sentence: state.ready ? `Something is wrong; ${all}.` : `Not ready: packets may not be directed as wanted; ${all}.` };
  }
  if (warnings) {
    const rest = state.troubled_in_all ? `${plural(state.troubled_in_all, "backend")} out, ` : "";
    return { level: "warning", sentence: `Clients are served; ${rest}${plural(warnings, "thing")} to look at. ${all}.` };
  }
  if (!state.services) return { level: "ok", sentence: "All is well, and there is nothing to do yet: no service is configured." };
  return { level: "ok", sentence: `All is well: ${all}.` };
}
