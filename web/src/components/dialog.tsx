// SPDX-License-Identifier: Apache-2.0
// Every change goes through here: what it would do is shown first, a reason is asked for, it is bound to what was seen
// (If-Match), a conflict gives a choice, and the command line that does the same can be copied.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem, ask } from "../api/client.ts";
import type { Plan, Role } from "../api/types.ts";
import { caller, may, tell } from "../state.ts";
import { plural } from "../view/format.ts";

export interface Request {
  method: string;
  path: string;
  body?: unknown;
  query?: Record<string, string | number | boolean | undefined>;
}

export interface Change {
  title: string;
  /** The word on the button. */
  verb: string;
  role: Role;
  /** What it means, in a sentence or two. */
  meaning: ComponentChildren;
  /** From what the fields say; null while they are not whole. */
  request: (values: Values, reason: string) => Request | null;
  fields?: Field[];
  command?: (values: Values, reason: string) => string;
  /** Whose ETag binds it; without it nothing does. */
  tagOf?: string;
  danger?: boolean;
  /** Said when it is done. */
  done: (values: Values) => string;
  /** What takes it back, from what was there before. */
  undo?: (before: unknown, values: Values) => { title: string; request: Request } | null;
  /** Without a dry run, where the API has none. */
  noPlan?: boolean;
  then?: (answer: unknown) => void;
}

export type Values = Record<string, string>;

export interface Field {
  name: string;
  title: string;
  kind?: "text" | "number" | "select" | "area";
  value?: string;
  choices?: readonly (readonly [string, string])[];
  hint?: string;
  optional?: boolean;
  min?: number;
}

const open = signal<Change | null>(null);

export function propose(change: Change): void {
  open.value = change;
}

/** A button that says why it cannot be used, instead of a dead one. */
export function Act({ change, role, children, small, quiet }: { change: () => Change; role: Role; children: ComponentChildren; small?: boolean; quiet?: boolean }) {
  const can = may(role);
  return (
    <button
      type="button"
      class={`${small ? "small" : ""} ${quiet ? "quiet" : ""} ${can ? "" : "locked"}`}
      aria-disabled={!can}
      title={can ? undefined : refusal(role)}
      onClick={() => (can ? propose(change()) : tell(refusal(role), "error"))}
    >
      {children}
    </button>
  );
}

export function refusal(role: Role): string {
  return `This needs the role ${role}; ${caller.value?.author ?? "nobody"} has the role ${caller.value?.role ?? "none"}.`;
}

export function Dialogs() {
  return open.value ? <ChangeDialog key={open.value.title} change={open.value} /> : null;
}

type Stage = "asking" | "doing" | "conflict";

function ChangeDialog({ change }: { change: Change }) {
  const box = useRef<HTMLDialogElement>(null);
  const [values, setValues] = useState<Values>(() => Object.fromEntries((change.fields ?? []).map((field) => [field.name, field.value ?? field.choices?.[0]?.[0] ?? ""])));
  const [reason, setReason] = useState("");
  const [stage, setStage] = useState<Stage>("asking");
  const [plan, setPlan] = useState<Plan | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [before, setBefore] = useState<{ tag: string; value: unknown } | null>(null);
  const planning = useRef(() => {});
  const request = change.request(values, "");
  const asked = JSON.stringify(request);

  useEffect(() => {
    box.current?.showModal();
    return () => box.current?.close();
  }, []);

  const look = async () => {
    if (!change.tagOf) return;
    try {
      const { tag, value } = await ask("GET", change.tagOf);
      setBefore({ tag, value });
    } catch (error) {
      if (error instanceof Problem) setProblem(error);
    }
  };
  useEffect(() => void look(), []);

  useEffect(() => {
    if (change.noPlan || !request) return undefined;
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const { value } = await ask<Plan>(request.method, request.path, { body: request.body, query: { ...request.query, dry_run: true }, signal: stop.signal });
        setPlan(value);
        setProblem(null);
      } catch (error) {
        if (stop.signal.aborted) return;
        setPlan(null);
        if (error instanceof Problem) setProblem(error);
      }
    }, 200);
    planning.current = () => {
      stop.abort();
      clearTimeout(timer);
    };
    return planning.current;
  }, [asked]);

  const close = () => (open.value = null);

  const carryOut = async (bound: boolean) => {
    const request = change.request(values, reason);
    if (!request) return;
    planning.current(); // a plan that came behind the change would find it done
    setStage("doing");
    try {
      const { value } = await ask(request.method, request.path, {
        body: request.body,
        ...(request.query ? { query: request.query } : {}),
        ...(bound && before?.tag ? { match: before.tag } : {}),
        ...(reason.trim() ? { reason } : {}),
      });
      const undo = change.undo?.(before?.value, values);
      close();
      tell(change.done(values), "ok", undo ? () => void takeBack(undo) : undefined);
      change.then?.(value);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      setProblem(error);
      setStage(error.status === 412 ? "conflict" : "asking");
    }
  };

  const fault = (name: string) => problem?.faults.find((each) => (each.pointer ?? each.parameter ?? "").replace(/^\//, "").split("/")[0] === name)?.detail;

  return (
    <dialog ref={box} aria-labelledby="change-title" onClose={close} onCancel={close}>
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          void carryOut(true);
        }}
      >
        <h2 id="change-title">{change.title}</h2>
        <div class="soft">{change.meaning}</div>
        {change.fields?.length ? (
          <div class={change.fields.some((each) => each.kind === "area") ? "form" : "fields"}>
            {change.fields.map((field) => (
              <FieldInput key={field.name} field={field} value={values[field.name] ?? ""} fault={fault(field.name)} onInput={(value) => setValues({ ...values, [field.name]: value })} />
            ))}
          </div>
        ) : null}
        <div class="field">
          <label for="reason">Reason</label>
          <input id="reason" value={reason} maxLength={500} placeholder="Why; kept with the change" autocomplete="off" onInput={(event) => setReason(event.currentTarget.value)} />
        </div>
        {stage !== "conflict" && plan && <Consequence plan={plan} />}
        {problem && stage !== "conflict" && (
          <p class="note bad" role="alert">
            {problem.message}
          </p>
        )}
        {stage === "conflict" && (
          <div class="note warn" role="alert">
            <b>Somebody changed it meanwhile.</b> What you saw is not what is there now. Look at it again, or do it all the same: your change is then made to what is there now.
          </div>
        )}
        {change.command && <Copy text={change.command(values, reason)} label="The same on the command line" />}
        <div class="buttons">
          <button type="button" onClick={close}>
            Cancel
          </button>
          {stage === "conflict" ? (
            <>
              <button
                type="button"
                onClick={() => {
                  setStage("asking");
                  setProblem(null);
                  void look();
                }}
              >
                Look again
              </button>
              <button type="button" class="danger" onClick={() => void carryOut(false)}>
                Do it all the same
              </button>
            </>
          ) : (
            <button type="submit" class={change.danger ? "danger" : "primary"} disabled={stage === "doing" || !request || (change.tagOf !== undefined && !before)}>
              {stage === "doing" ? "Working…" : change.verb}
            </button>
          )}
        </div>
      </form>
    </dialog>
  );
}

async function takeBack({ title, request }: { title: string; request: Request }): Promise<void> {
  try {
    await ask(request.method, request.path, { body: request.body, ...(request.query ? { query: request.query } : {}), reason: `undo in the dashboard: ${title}` });
    tell(title);
  } catch (error) {
    tell(`It cannot be taken back: ${error instanceof Error ? error.message : String(error)}`, "error");
  }
}

export function FieldInput({ field, value, fault, onInput }: { field: Field; value: string; fault?: string | undefined; onInput: (value: string) => void }) {
  const id = `field-${field.name}`;
  const shared = { id, value, required: !field.optional, "aria-describedby": fault || field.hint ? `${id}-hint` : undefined, "aria-invalid": fault ? true : undefined };
  return (
    <div class="field">
      <label for={id}>{field.title}</label>
      {field.kind === "select" ? (
        <select {...shared} onChange={(event) => onInput(event.currentTarget.value)}>
          {field.choices?.map(([name, title]) => (
            <option key={name} value={name}>
              {title}
            </option>
          ))}
        </select>
      ) : (
        <input {...shared} type={field.kind === "number" ? "number" : "text"} min={field.min} autocomplete="off" spellcheck={false} onInput={(event) => onInput(event.currentTarget.value)} />
      )}
      {(fault || field.hint) && (
        <span id={`${id}-hint`} class={fault ? "error" : "hint"}>
          {fault ?? field.hint}
        </span>
      )}
    </div>
  );
}

export function Consequence({ plan }: { plan: Plan }) {
  const lost = plan.affected.reduce((sum, each) => sum + each.connections, 0);
  const unsure = plan.affected.some((each) => !each.exact);
  if (!plan.changes.length) return <p class="note">Nothing would change: it is so already.</p>;
  return (
    <div class="form">
      {plan.affected.length > 0 ? (
        <div class="note bad">
          <b>
            {unsure ? "At least " : ""}
            {plural(lost, "connection")} would end.
          </b>
          {plan.affected.slice(0, 5).map((each) => (
            <div key={`${each.service}/${each.backend}`}>
              {each.service}/{each.backend}: {each.exact ? "" : "at least "}
              {each.connections}, {each.why}
            </div>
          ))}
          {plan.affected.length > 5 && <div>and {plan.affected.length - 5} more backends</div>}
        </div>
      ) : (
        <p class="note ok">No connection would end.</p>
      )}
      {plan.missing.map((each) => (
        <p key={`${each.service}/${each.backend}`} class="note warn">
          {each.service}/{each.backend} would not serve at once: {each.why}
        </p>
      ))}
    </div>
  );
}

export function Copy({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  return (
    <div class="field">
      <span class="hint">{label}</span>
      <div class="copy">
        <code>{text}</code>
        <button
          type="button"
          class="small"
          onClick={async () => {
            try {
              await navigator.clipboard.writeText(text);
              setCopied(true);
              setTimeout(() => setCopied(false), 1500);
            } catch {
              tell("The browser does not let pages copy here: mark the text.", "error");
            }
          }}
        >
          {copied ? "Copied" : "Copy"}
        </button>
      </div>
    </div>
  );
}
