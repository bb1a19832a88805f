// SPDX-License-Identifier: Apache-2.0
// Requests to the API that this page came from, with a session's cookie: JSON in, JSON out, errors as `Problem`.

export interface Fault {
  detail: string;
  pointer?: string;
  parameter?: string;
}

/** An RFC 9457 problem. `slug` is the last word of its type, such as `stale`. */
export class Problem extends Error {
  status: number;
  slug: string;
  faults: Fault[];

  constructor(status: number, slug: string, detail: string, faults: Fault[] = []) {
    super(detail);
    this.status = status;
    this.slug = slug;
    this.faults = faults;
  }
}

export interface Asked {
  body?: unknown;
  query?: Record<string, string | number | boolean | undefined | null>;
  match?: string;
  reason?: string;
  accept?: string;
  signal?: AbortSignal;
}

export interface Answer<T> {
  value: T;
  tag: string;
}

let onLoggedOut: () => void = () => {};

export function whenLoggedOut(then: () => void): void {
  onLoggedOut = then;
}

export async function ask<T>(method: string, path: string, asked: Asked = {}): Promise<Answer<T>> {
  const headers: Record<string, string> = { accept: asked.accept ?? "application/json" };
  if (method !== "GET") headers["x-xdpdirector-dashboard"] = "1";
  if (asked.body !== undefined) headers["content-type"] = "application/json";
  if (asked.match) headers["if-match"] = asked.match;
  if (asked.reason) headers["change-reason"] = latin(asked.reason);
  let answer: Response;
  try {
    const body = asked.body === undefined ? {} : { body: JSON.stringify(asked.body) };
    const signal = asked.signal ? { signal: asked.signal } : {};
    answer = await fetch(path + queryOf(asked.query), { method, headers, cache: "no-store", ...body, ...signal });
  } catch (error) {
    if (asked.signal?.aborted) throw error;
    throw new Problem(0, "unreachable", "The director does not answer: is it running, and is the way to it open?");
  }
  if (!answer.ok) throw await problemOf(answer);
  const kind = answer.headers.get("content-type") ?? "";
  const text = await answer.text(); // empty where there is nothing to say
  const value = (text && kind.includes("json") ? JSON.parse(text) : text) as T;
  return { value, tag: answer.headers.get("etag") ?? "" };
}

export async function get<T>(path: string, query?: Asked["query"], signal?: AbortSignal): Promise<T> {
  return (await ask<T>("GET", path, { ...(query ? { query } : {}), ...(signal ? { signal } : {}) })).value;
}

/** All pages of a list, up to `most` items. */
export async function list<T>(path: string, query: Asked["query"] = {}, most = 5000): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null | undefined;
  do {
    const page = await get<{ items: T[]; next: string | null }>(path, { ...query, limit: 1000, cursor });
    items.push(...page.items);
    cursor = page.next;
  } while (cursor && items.length < most);
  return items;
}

async function problemOf(answer: Response): Promise<Problem> {
  if (answer.status === 401) onLoggedOut();
  const said = (await answer.json().catch(() => null)) as { type?: string; detail?: string; title?: string; errors?: Fault[] } | null;
  const slug = said?.type?.split(":").at(-1) ?? "";
  return new Problem(answer.status, slug, said?.detail ?? said?.title ?? `The director answered ${answer.status}.`, said?.errors);
}

function queryOf(query: Asked["query"]): string {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== "") said.set(name, String(value));
  }
  return said.size ? `?${said}` : "";
}

/** Headers are octets: UTF-8, each written as the character of its number. */
function latin(text: string): string {
  return Array.from(new TextEncoder().encode(text.replace(/\s+/g, " ").trim()), (octet) => String.fromCharCode(octet)).join("");
}

export function servicePath(service: string): string {
  return `/v1/services/${encodeURIComponent(service)}`;
}

export function backendPath(service: string, backend: string): string {
  return `${servicePath(service)}/backends/${encodeURIComponent(backend)}`;
}
