// SPDX-License-Identifier: Apache-2.0
// Logging in with a token, or with the code of a login link, which is taken out of the address at once.

import { useEffect, useState } from "preact/hooks";
import { Problem, ask } from "../api/client.ts";
import type { Caller } from "../api/types.ts";
import { caller, loginTrouble } from "../state.ts";

export async function logIn(body: { token: string } | { code: string }): Promise<void> {
  try {
    caller.value = (await ask<Caller>("POST", "/v1/sessions", { body })).value;
    loginTrouble.value = "";
  } catch (error) {
    loginTrouble.value = error instanceof Problem ? error.message : String(error);
  }
}

export function Login({ over }: { over: boolean }) {
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => document.getElementById("token")?.focus(), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    await logIn({ token: token.trim() });
    setBusy(false);
    setToken("");
  };
  return (
    <main class="login" id="main">
      <form onSubmit={(event) => void submit(event)}>
        <img src="icon.svg" width="44" height="44" alt="" />
        <h1>XDP Director</h1>
        {over && <p class="note">The session has ended. Log in again to go on.</p>}
        {loginTrouble.value && (
          <p class="note bad" role="alert">
            {loginTrouble.value}
          </p>
        )}
        <label for="token">Token</label>
        <input id="token" name="token" type="password" autocomplete="current-password" spellcheck={false} required value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        <button type="submit" class="primary" disabled={busy}>
          {busy ? "Logging in…" : "Log in"}
        </button>
        <p class="hint">
          On the director itself, <code>xdpdirector dashboard</code> prints a link that logs in once. <code>xdpdirector token add NAME --role read</code> makes a token.
        </p>
      </form>
    </main>
  );
}
