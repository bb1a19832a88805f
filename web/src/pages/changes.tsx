// SPDX-License-Identifier: Apache-2.0
// What was changed, by whom and why; what happens; and a new configuration, planned before it is applied.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem, ask, get } from "../api/client.ts";
import { type Happening, happenings, present } from "../api/live.ts";
import type { Audited, Difference, Plan, Revision as RevisionDocument, RevisionSummary as Summary } from "../api/types.ts";
import { Act, type Change, Consequence, Copy, refusal } from "../components/dialog.tsx";
import { Panel, Table, Title, Waiting, useLoaded } from "../components/parts.tsx";
import { StateWord } from "../components/state.tsx";
import { may, now, route, tell } from "../state.ts";
import { command } from "../view/cli.ts";
import { lines } from "../view/difference.ts";
import { ago, moment, plural } from "../view/format.ts";

interface Page<T> {
  items: T[];
  next: string | null;
}

const TABS = [
  ["", "Revisions"],
  ["plan", "Plan and apply"],
  ["audit", "Audit"],
  ["events", "Events"],
] as const;

export function Changes() {
  const tab = route.value[1] ?? "";
  return (
    <>
      <Title text="Changes">what was changed, by whom and why</Title>
      <nav class="tabs" aria-label="Changes">
        {TABS.map(([name, title]) => (
          <a key={name} href={`#/changes/${name}`} aria-current={tab === name ? "page" : undefined}>
            {title}
          </a>
        ))}
      </nav>
      {tab === "plan" ? <Editor /> : tab === "audit" ? <Audit /> : tab === "events" ? <Events /> : <Revisions />}
    </>
  );
}

// Revisions

function Revisions() {
  const revision = present.value?.state.revision;
  const [most, setMost] = useState(50);
  const list = useLoaded((signal) => get<Page<Summary>>("/v1/revisions", { limit: most }, signal), [revision, most]);
  const [open, setOpen] = useState<number | null>(null);
  return (
    <Panel title="Revisions" said={revision ? `revision ${revision} is what is wanted now` : undefined}>
      <Waiting of={list}>
        {!list.value?.items.length && <p class="empty">Nothing has been changed yet.</p>}
        <ol class="revisions">
          {list.value?.items.map((each) => (
            <li key={each.revision}>
              <div class="line">
                <button type="button" class="quiet number" aria-expanded={open === each.revision} onClick={() => setOpen(open === each.revision ? null : each.revision)}>
                  {open === each.revision ? "▾" : "▸"} {each.revision}
                </button>
                <span class="reason">{each.reason || <span class="soft">no reason was given</span>}</span>
                <b>{each.author}</b>
                <time class="soft" title={moment(each.at)}>
                  {ago(each.at, now.value)}
                </time>
                {each.revision === revision ? (
                  <span class="soft">now</span>
                ) : (
                  <Act role="admin" small change={() => rollBack(each)}>
                    Roll back
                  </Act>
                )}
              </div>
              {open === each.revision && <Revision number={each.revision} />}
            </li>
          ))}
        </ol>
        {list.value?.next && (
          <div class="inside">
            <button type="button" onClick={() => setMost(Math.min(1000, most * 4))}>
              Show more
            </button>
          </div>
        )}
      </Waiting>
    </Panel>
  );
}

function Revision({ number }: { number: number }) {
  const one = useLoaded((signal) => get<RevisionDocument>(`/v1/revisions/${number}`, undefined, signal), [number]);
  return (
    <div class="inside">
      <Waiting of={one}>{one.value?.changes ? <Differences changes={one.value.changes} /> : <p class="soft">What was before is not kept any more.</p>}</Waiting>
    </div>
  );
}

export function Differences({ changes }: { changes: readonly Difference[] }) {
  const most = 200;
  const all = changes.flatMap(lines);
  if (!all.length) return <p class="soft">Nothing differs.</p>;
  return (
    <pre class="difference" tabIndex={0}>
      {all.slice(0, most).map((each, place) => (
        <div key={place} class={each.sign === "+" ? "plus" : each.sign === "-" ? "minus" : "place"}>
          {each.sign} {each.text}
        </div>
      ))}
      {all.length > most && `… and ${all.length - most} more lines`}
    </pre>
  );
}

function rollBack(each: Summary): Change {
  const path = `/v1/revisions/${each.revision}/rollback`;
  return {
    title: `Roll back to revision ${each.revision}`,
    verb: "Roll back",
    role: "admin",
    danger: true,
    meaning: `What was wanted then (${moment(each.at)}, ${each.author}) is wanted again, admin states included. It is a new revision, so it can be rolled back, too.`,
    request: (_, reason) => ({ method: "POST", path, body: reason ? { reason } : {} }),
    command: (_, reason) => command(["revisions", "rollback", String(each.revision)], reason),
    tagOf: "/v1/config",
    done: () => `Rolled back to revision ${each.revision}`,
  };
}

// A new configuration

interface Checked {
  document: unknown;
  faults: { line: number; column: number; pointer: string; detail: string }[];
}

const draft = signal<{ text: string; tag: string } | null>(null);

function Editor() {
  const area = useRef<HTMLTextAreaElement>(null);
  const [checked, setChecked] = useState<Checked | null>(null);
  const [plan, setPlan] = useState<Plan | null>(null);
  const [problem, setProblem] = useState("");
  const [conflict, setConflict] = useState(false);
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const can = may("admin");
  const text = draft.value?.text ?? "";

  const load = async () => {
    try {
      const { value, tag } = await ask<string>("GET", "/v1/config", { accept: "application/yaml" });
      draft.value = { text: value, tag };
      setConflict(false);
      setProblem("");
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
  };
  useEffect(() => {
    if (!draft.value) void load();
  }, []);

  useEffect(() => {
    if (!can || !text.trim()) return undefined;
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const { value } = await ask<Checked>("POST", "/v1/config/check", { body: { yaml: text }, signal: stop.signal });
        setChecked(value);
        setPlan(null);
        if (value.faults.length) return;
        setPlan((await ask<Plan>("PUT", "/v1/config", { body: value.document, query: { dry_run: true }, signal: stop.signal })).value);
        setProblem("");
      } catch (error) {
        if (!stop.signal.aborted) setProblem(error instanceof Problem ? error.message : String(error));
      }
    }, 400);
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [text, can, present.value?.state.revision]);

  const apply = async (bound: boolean) => {
    if (!checked) return;
    setBusy(true);
    try {
      await ask("PUT", "/v1/config", { body: checked.document, ...(bound && draft.value?.tag ? { match: draft.value.tag } : {}), reason });
      tell("The configuration is applied");
      setReason("");
      await load();
    } catch (error) {
      if (error instanceof Problem && error.status === 412) setConflict(true);
      else setProblem(error instanceof Error ? error.message : String(error));
    }
    setBusy(false);
  };

  const go = (line: number, column: number) => {
    const box = area.current;
    if (!box) return;
    const at = text.split("\n").slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
    box.focus();
    box.setSelectionRange(at, at);
    box.scrollTop = Math.max(0, (line - 8) * 19);
  };

  return (
    <div class="two">
      <Panel
        title="Configuration"
        said="in the form of the file"
        tools={
          <button type="button" onClick={() => void load()}>
            Load what is wanted now
          </button>
        }
      >
        <textarea
          ref={area}
          class="yaml mono"
          aria-label="Configuration as YAML"
          spellcheck={false}
          rows={30}
          wrap="off"
          value={text}
          onInput={(event) => (draft.value = { text: event.currentTarget.value, tag: draft.value?.tag ?? "" })}
        />
      </Panel>
      <Panel title="Plan" said={checked?.faults.length ? plural(checked.faults.length, "fault") : plan ? plural(plan.changes.length, "change") : undefined}>
        <div class="inside form">
          {!can && <p class="note">{refusal("admin")}</p>}
          {problem && (
            <p class="note bad" role="alert">
              {problem}
            </p>
          )}
          {checked && checked.faults.length > 0 && (
            <ul class="faults" role="alert">
              {checked.faults.map((each) => (
                <li key={`${each.line}:${each.column} ${each.detail}`}>
                  <button type="button" class="quiet small mono" onClick={() => go(each.line, each.column)}>
                    {each.line}:{each.column}
                  </button>
                  <span>{each.detail}</span>
                </li>
              ))}
            </ul>
          )}
          {plan && !checked?.faults.length && (
            <>
              <Consequence plan={plan} />
              {plan.changes.length > 0 && <Differences changes={plan.changes} />}
              {plan.changes.length > 0 && (
                <>
                  <div class="field">
                    <label for="why">Reason</label>
                    <input id="why" value={reason} maxLength={500} placeholder="Why; kept with the revision" onInput={(event) => setReason(event.currentTarget.value)} />
                  </div>
                  {conflict && (
                    <div class="note warn" role="alert">
                      <b>Somebody changed it meanwhile.</b> The plan above is against what is wanted now. Apply it all the same, or load what is wanted now and begin anew.
                    </div>
                  )}
                  <div class="buttons">
                    <button type="button" class={conflict ? "danger" : "primary"} disabled={busy} onClick={() => void apply(!conflict)}>
                      {busy ? "Working…" : conflict ? "Apply it all the same" : "Apply"}
                    </button>
                  </div>
                  <Copy label="The same on the command line" text={command(["config", "apply", "director.yaml"], reason)} />
                </>
              )}
            </>
          )}
        </div>
      </Panel>
    </div>
  );
}

// The audit

function Audit() {
  const [author, setAuthor] = useState("");
  const [most, setMost] = useState(100);
  const [plans, setPlans] = useState(false);
  const list = useLoaded((signal) => (may("operate") ? get<Page<Audited>>("/v1/audit", { author, limit: most }, signal) : Promise.resolve({ items: [], next: null })), [author, most, present.value?.state.revision]);
  if (!may("operate")) return <p class="note">{refusal("operate")}</p>;
  return (
    <Panel title="Audit" said="each try to change something, also those that were refused" tools={
        <>
          <input type="search" placeholder="Author, such as root" aria-label="Only by this author" value={author} onChange={(event) => setAuthor(event.currentTarget.value.trim())} />
          <button type="button" aria-pressed={plans} onClick={() => setPlans(!plans)}>
            Plans, too
          </button>
        </>
      }>
      <Waiting of={list}>
        <Table
          label="Audit"
          rows={(list.value?.items ?? []).filter((each) => plans || !each.request.includes("dry_run=true"))}
          id={(row) => String(row.id)}
          empty="Nobody has tried to change anything."
          heads={[
            { title: "When", cell: (row) => <time title={moment(row.at)}>{ago(row.at, now.value)}</time> },
            { title: "Who", cell: (row) => <b title={row.source}>{row.author}</b> },
            { title: "Outcome", cell: (row) => <StateWord state={row.outcome} /> },
            {
              title: "What",
              text: true,
              cell: (row) => (
                <>
                  {row.operation} <span class="soft mono">{row.request}</span>
                </>
              ),
            },
            { title: "Reason", text: true, cell: (row) => row.reason || row.detail },
            { title: "Revision", number: true, cell: (row) => row.revision ?? "" },
          ]}
        />
        {list.value?.next && (
          <div class="inside">
            <button type="button" onClick={() => setMost(Math.min(1000, most * 3))}>
              Show more
            </button>
          </div>
        )}
      </Waiting>
    </Panel>
  );
}

// Events

function toneOf(kind: string): string {
  if (/\.(down|partial|problem|absent|denied|refused|failed|lost|finding|drift)/.test(kind)) return "warning";
  return /\.(up|present|resolved|allowed|recovered)/.test(kind) ? "up" : "";
}

function Events() {
  const [word, setWord] = useState("");
  const [held, setHeld] = useState<Happening[] | null>(null);
  const all = held ?? happenings.value;
  const wanted = word.toLowerCase().trim();
  const shown = all.filter((each) => !wanted || `${each.kind} ${each.subject} ${each.text}`.toLowerCase().includes(wanted)).reverse();
  return (
    <Panel
      title="Events"
      said={held ? "paused" : `${plural(shown.length, "event")}, the newest first, live`}
      tools={
        <>
          <input type="search" placeholder="Kind, subject, word" aria-label="Filter events" value={word} onInput={(event) => setWord(event.currentTarget.value)} />
          <button type="button" aria-pressed={held !== null} onClick={() => setHeld(held ? null : happenings.value)}>
            {held ? "Go on" : "Pause"}
          </button>
        </>
      }
    >
      <Table
        label="Events"
        rows={shown.slice(0, 300)}
        id={(row) => String(row.id)}
        empty={wanted ? "No event matches." : "Nothing has happened since the daemon began."}
        heads={[
          { title: "When", cell: (row) => <time title={moment(row.at)}>{ago(row.at, now.value)}</time> },
          { title: "Kind", cell: (row) => <span class={`kind ${toneOf(row.kind)}`}>{row.kind}</span> },
          { title: "Subject", cell: (row) => <b>{row.subject}</b> },
          { title: "What", text: true, cell: (row) => row.text },
          { title: "By", cell: (row) => String(row.data["author"] ?? "") },
        ]}
      />
    </Panel>
  );
}
