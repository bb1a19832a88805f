// SPDX-License-Identifier: Apache-2.0
// A capture for Wireshark (pcapng, draft-ietf-opsawg-pcapng), with a comment on each packet, as xdpdirector/replay writes it. Pure.

export interface Captured {
  time: string;
  interface: string | null;
  length: number;
  frame: string;
  comment: string;
}

const text = new TextEncoder();

function padded(octets: Uint8Array): Uint8Array {
  const made = new Uint8Array(Math.ceil(octets.length / 4) * 4);
  made.set(octets);
  return made;
}

function joined(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const made = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    made.set(part, at);
    at += part.length;
  }
  return made;
}

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer); // every browser's machine is little-endian
}

function option(code: number, value: Uint8Array): Uint8Array {
  return joined([words(code | (value.length << 16)), padded(value)]);
}

function block(kind: number, ...parts: Uint8Array[]): Uint8Array {
  const body = joined(parts);
  const length = 12 + body.length;
  return joined([words(kind, length), body, words(length)]);
}

export function pcapng(packets: readonly Captured[]): Uint8Array<ArrayBuffer> {
  const end = words(0);
  const blocks = [block(0x0a0d0d0a, words(0x1a2b3c4d, 1, 0xffffffff, 0xffffffff))];
  const interfaces = new Map<string, number>();
  for (const each of packets) {
    const name = each.interface ?? "";
    let number = interfaces.get(name);
    if (number === undefined) {
      number = interfaces.size;
      interfaces.set(name, number);
      blocks.push(block(1, words(1, 0), option(2, text.encode(name)), option(9, Uint8Array.of(6)), end));
    }
    const frame = Uint8Array.from(atob(each.frame), (char) => char.charCodeAt(0));
    const fraction = /\.(\d+)/.exec(each.time)?.[1] ?? "";
    const micros = BigInt(Math.floor(Date.parse(each.time) / 1000)) * 1000000n + BigInt(fraction.padEnd(6, "0").slice(0, 6));
    const stamp = [Number(micros >> 32n), Number(micros & 0xffffffffn)] as const;
    blocks.push(block(6, words(number, ...stamp, frame.length, each.length), padded(frame), option(1, text.encode(each.comment)), end));
  }
  return joined(blocks);
}
