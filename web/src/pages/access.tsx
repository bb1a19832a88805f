// SPDX-License-Identifier: Apache-2.0
// Who may come in: tokens, and the sessions of those who are logged in here.

import { useState } from "preact/hooks";
import { get } from "../api/client.ts";
import type { NewToken, Session, Token } from "../api/types.ts";
import { Act, type Change, Copy } from "../components/dialog.tsx";
import { Panel, Table, Title, Waiting, useLoaded } from "../components/parts.tsx";
import { caller, may, now } from "../state.ts";
import { command, curl } from "../view/cli.ts";
import { ago, plural } from "../view/format.ts";

const MEANING: Record<string, string> = { read: "looks", operate: "works on backends", admin: "does everything" };

export function Access() {
  const one = caller.value;
  return (
    <>
      <Title text="Access">
        {one?.author} has the role {one?.role}
      </Title>
      {may("admin") ? (
        <>
          <Tokens />
          <Sessions />
        </>
      ) : (
        <p class="note">
          Who may come in is shown to the role admin. {one?.author} has the role {one?.role}, which {MEANING[one?.role ?? "read"]}.
        </p>
      )}
    </>
  );
}

function Tokens() {
  const tokens = useLoaded((signal) => get<{ items: Token[] }>("/v1/tokens", undefined, signal), []);
  const [made, setMade] = useState<NewToken | null>(null);
  const add = (): Change => ({
    title: "Add a token",
    verb: "Add",
    role: "admin",
    meaning: "Whoever has its text comes in over TCP with its role. The text is shown once.",
    fields: [
      { name: "name", title: "Name", hint: "Who or what will use it" },
      { name: "role", title: "Role", kind: "select", choices: Object.entries(MEANING).map(([role, means]) => [role, `${role}: ${means}`] as const) },
      { name: "lifetime", title: "Lifetime", optional: true, hint: "Such as 30d; none: for ever" },
    ],
    request: (values) => (values["name"] ? { method: "POST", path: "/v1/tokens", body: { name: values["name"], role: values["role"], ...(values["lifetime"] ? { lifetime: values["lifetime"] } : {}) } } : null),
    command: (values) => command(["token", "add", values["name"] || "NAME", "--role", values["role"], values["lifetime"] && "--lifetime", values["lifetime"]]),
    done: (values) => `The token ${values["name"]} is made`,
    then: (answer) => {
      setMade(answer as NewToken);
      tokens.again();
    },
  });
  return (
    <Panel
      title="Tokens"
      said={tokens.value && plural(tokens.value.items.length, "token")}
      tools={
        <Act role="admin" change={add}>
          Add a token
        </Act>
      }
    >
      {made && (
        <div class="inside form">
          <Copy label={`The text of ${made.name}: it is not shown again`} text={made.token} />
          <button type="button" class="small" style={{ justifySelf: "start" }} onClick={() => setMade(null)}>
            It is kept; hide it
          </button>
        </div>
      )}
      <Waiting of={tokens}>
        <Table
          label="Tokens"
          rows={tokens.value?.items ?? []}
          id={(row) => row.name}
          empty="There is no token: over TCP one comes in by a login link alone."
          heads={[
            { title: "Name", cell: (row) => <b>{row.name}</b> },
            { title: "Role", cell: (row) => `${row.role}: ${MEANING[row.role] ?? ""}` },
            { title: "Made", cell: (row) => ago(row.created, now.value) },
            { title: "Expires", cell: (row) => (row.expires ? ago(row.expires, now.value) : "never") },
            { title: "Last used", cell: (row) => (row.last_used ? ago(row.last_used, now.value) : "never") },
            {
              title: "Remove",
              cell: (row) => (
                <Act
                  role="admin"
                  small
                  change={() => ({
                    title: `Remove the token ${row.name}`,
                    verb: "Remove",
                    role: "admin",
                    danger: true,
                    meaning: "It lets nobody in any more, at once; streams and sessions that came with it end. It cannot be taken back.",
                    request: () => ({ method: "DELETE", path: `/v1/tokens/${encodeURIComponent(row.name)}` }),
                    command: () => command(["token", "remove", row.name]),
                    done: () => `The token ${row.name} is removed`,
                    then: tokens.again,
                  })}
                >
                  Remove
                </Act>
              ),
            },
          ]}
        />
      </Waiting>
    </Panel>
  );
}

function Sessions() {
  const sessions = useLoaded((signal) => get<{ items: Session[] }>("/v1/sessions", undefined, signal), []);
  const end = (row: Session): Change => {
    const path = `/v1/sessions/${row.id}`;
    return {
      title: `End the session of ${row.author}`,
      verb: "End it",
      role: "admin",
      danger: true,
      noPlan: true,
      meaning: `Who sits at ${row.source} is logged out at once, and has to log in again.`,
      request: () => ({ method: "DELETE", path }),
      command: () => curl("DELETE", path),
      done: () => `The session of ${row.author} has ended`,
      then: sessions.again,
    };
  };
  return (
    <Panel title="Sessions" said={sessions.value && `${plural(sessions.value.items.length, "login")} at the dashboard`}>
      <Waiting of={sessions}>
        <Table
          label="Sessions"
          rows={sessions.value?.items ?? []}
          id={(row) => row.id}
          empty="Nobody is logged in: you come over the unix socket."
          heads={[
            { title: "Who", cell: (row) => <b>{row.author}</b> },
            { title: "Role", cell: (row) => row.role },
            { title: "From", cell: (row) => row.source },
            { title: "Began", cell: (row) => ago(row.created, now.value) },
            { title: "Last used", cell: (row) => ago(row.last_used, now.value) },
            { title: "Ends", cell: (row) => ago(row.expires, now.value) },
            {
              title: "End",
              cell: (row) =>
                row.id === caller.value?.session?.id ? (
                  "this one"
                ) : (
                  <Act role="admin" small change={() => end(row)}>
                    End it
                  </Act>
                ),
            },
          ]}
        />
      </Waiting>
    </Panel>
  );
}
