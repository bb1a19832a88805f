// SPDX-License-Identifier: Apache-2.0
// The REST API's reference, from the OpenAPI document of the daemon that runs, with a curl line for each call.

import { signal } from "@preact/signals";
import { get } from "../api/client.ts";
import { Copy } from "../components/dialog.tsx";
import { Panel, Waiting, useLoaded } from "../components/parts.tsx";
import { curl } from "../view/cli.ts";
import { type Document, type Operation, example, kindOf, operationsOf } from "../view/openapi.ts";

const search = signal("");

export function Reference() {
  const document = useLoaded((signal) => get<Document>("/openapi.json", undefined, signal), []);
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const tags = document.value ? operationsOf(document.value) : [];
  return (
    <>
      <div class="heading">
        <h1>API</h1>
        <span class="soft">what programs can do; /openapi.json is all of it</span>
        <input class="push" type="search" placeholder="Path or word" aria-label="Search the API" value={search.value} onInput={(event) => (search.value = event.currentTarget.value)} />
      </div>
      <Waiting of={document}>
        {tags.map(({ tag, description, operations }) => {
          const shown = operations.filter((each) => words.every((word) => `${each.method} ${each.path} ${each.text}`.toLowerCase().includes(word)));
          return shown.length ? (
            <Panel key={tag} title={tag} said={description}>
              {shown.map((each) => (
                <Call key={each.id} one={each} document={document.value!} />
              ))}
            </Panel>
          ) : null;
        })}
      </Waiting>
    </>
  );
}

function Call({ one, document }: { one: Operation; document: Document }) {
  const body = one.body ? example(one.body, document) : undefined;
  return (
    <details class="call">
      <summary>
        <b class={`method ${one.method}`}>{one.method.toUpperCase()}</b> <code>{one.path}</code> <span class="soft">{one.text.split(/[.;]?(\s*$|(?<=[.;])\s|\n)/)[0]?.replace(/[.;]$/, "")}</span>
        {one.role && <span class="role">{one.role}</span>}
      </summary>
      <div class="inside form">
        <p>{one.text}</p>
        {one.parameters.length > 0 && (
          <table class="plain">
            <thead>
              <tr>
                <th scope="col">Parameter</th>
                <th scope="col">Kind</th>
                <th scope="col">Meaning</th>
              </tr>
            </thead>
            <tbody>
              {one.parameters.map((each) => (
                <tr key={each.in + each.name}>
                  <td>
                    <code>{each.name}</code> <span class="soft">{each.in}</span>
                  </td>
                  <td>{kindOf(each.schema)}</td>
                  <td>{each.description ?? ""}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
        <p class="soft">
          Answers: {one.answers.map(([status, text]) => `${status} ${text}`).join("; ")}
        </p>
        <Copy label="With curl, on the director" text={curl(one.method.toUpperCase(), one.path, body)} />
      </div>
    </details>
  );
}
