// SPDX-License-Identifier: Apache-2.0
// The command line that does the same as a button. Pure.

/** As a shell takes it for one word. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

export function command(words: readonly (string | undefined | false | null)[], reason = ""): string {
  const said = words.filter((word): word is string => Boolean(word));
  if (reason.trim()) said.push("--reason", reason.trim());
  return ["xdpdirector", ...said.map(quoted)].join(" ");
}

/** The request as curl makes it on the director. */
export function curl(method: string, path: string, body?: unknown): string {
  const parts = ["curl", "--unix-socket", "/run/xdpdirector/default/api.sock"];
  if (method !== "GET") parts.push("-X", method);
  if (body !== undefined) parts.push("-H", quoted("content-type: application/json"), "-d", quoted(JSON.stringify(body)));
  return [...parts, quoted(`http://director${path}`)].join(" ");
}
