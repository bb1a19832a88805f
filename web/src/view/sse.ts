// SPDX-License-Identifier: Apache-2.0
// Server-sent events (WHATWG HTML, 9.2.6) out of pieces of text, which may end anywhere. Pure.

export function parser(tell: (event: string, data: string, id: string) => void): (piece: string) => void {
  let [rest, event, id] = ["", "", ""];
  let data: string[] = [];
  const take = (line: string) => {
    if (line === "") {
      if (data.length) tell(event || "message", data.join("\n"), id);
      event = "";
      data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") event = value;
    if (name === "data") data.push(value);
    if (name === "id") id = value;
  };
  return (piece) => {
    const lines = (rest + piece).split(/\r\n|\n|\r(?=[^\n])/);
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  };
}
