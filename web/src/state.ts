// SPDX-License-Identifier: Apache-2.0
// Who is logged in, where the page is, and what the user has chosen. What the director says is in api/live.ts.

import { computed, signal } from "@preact/signals";
import { Problem, get } from "./api/client.ts";
import { heard, line, present } from "./api/live.ts";
import type { Caller, Role } from "./api/types.ts";
import { troubles, verdict } from "./view/problems.ts";

const ROLES: readonly Role[] = ["read", "operate", "admin"];

export const caller = signal<Caller | null>(null);
/** Whether it is known who is logged in, or that nobody is. */
export const known = signal(false);
export const loginTrouble = signal("");
export const route = signal<string[]>(routeOf(location.hash));
/** Seconds since 1970 by the director's clock, at the last look. */
export const now = computed(() => present.value?.state.at ?? Date.now() / 1000);
export const found = computed(() => (present.value ? troubles(present.value.state) : []));
export const health = computed(() => (present.value ? verdict(present.value.state, found.value) : null));
export const isLive = computed(() => line.value === "live");

export function may(role: Role): boolean {
  return caller.value !== null && ROLES.indexOf(caller.value.role) >= ROLES.indexOf(role);
}

export function routeOf(hash: string): string[] {
  return hash.replace(/^#\/?/, "").replace(/\?.*/, "").split("/").map(decode);
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

addEventListener("hashchange", () => {
  route.value = routeOf(location.hash);
});

export async function meet(): Promise<void> {
  try {
    caller.value = await get<Caller>("/v1/sessions/current");
  } catch (error) {
    caller.value = null;
    if (!(error instanceof Problem && error.status === 401)) loginTrouble.value = String(error instanceof Error ? error.message : error);
  }
  known.value = true;
}

// What is kept in this browser

export type Theme = "auto" | "light" | "dark";
export const theme = signal<Theme>(stored("theme", "auto") as Theme);

export function setTheme(next: Theme): void {
  theme.value = next;
  store("theme", next);
}

export function stored(name: string, otherwise: string): string {
  try {
    return localStorage.getItem(`xdpdirector.${name}`) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function store(name: string, value: string): void {
  try {
    localStorage.setItem(`xdpdirector.${name}`, value);
  } catch {
    // private windows may refuse: then it is forgotten
  }
}

// Words that come and go

export interface Toast {
  id: number;
  text: string;
  level: "ok" | "error";
  undo?: (() => void) | undefined;
}

export const toasts = signal<Toast[]>([]);
let next = 1;

export function tell(text: string, level: "ok" | "error" = "ok", undo?: () => void): void {
  const toast: Toast = { id: next++, text, level, undo };
  toasts.value = [...toasts.value.slice(-3), toast];
  setTimeout(() => dismiss(toast.id), undo ? 60_000 : level === "error" ? 15_000 : 6000);
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((each) => each.id !== id);
}

export { heard };
