// SPDX-License-Identifier: Apache-2.0
// The dashboard's beginning: who is there, then the page that the address names, and the stream that it needs.

import { effect, signal } from "@preact/signals";
import { type ComponentChild, render } from "preact";
import { whenLoggedOut } from "./api/client.ts";
import { type Wanted, begin, follow, line } from "./api/live.ts";
import { Dialogs } from "./components/dialog.tsx";
import { Shell } from "./components/shell.tsx";
import { Access } from "./pages/access.tsx";
import { Changes } from "./pages/changes.tsx";
import { Explain } from "./pages/explain.tsx";
import { Guard } from "./pages/guard.tsx";
import { Login, logIn } from "./pages/login.tsx";
import { Network } from "./pages/network.tsx";
import { Overview, Wall } from "./pages/overview.tsx";
import { Reference } from "./pages/reference.tsx";
import { Service } from "./pages/service.tsx";
import { caller, known, meet, route, theme } from "./state.ts";
import "./style/app.css";

interface Page {
  wants: Wanted;
  show: () => ComponentChild;
}

const wasIn = signal(false);

function page([name = "", decoded = ""]: string[]): Page {
  switch (name) {
    case "wall":
      return { wants: { topics: ["services"] }, show: () => <Wall /> };
    case "service":
      return { wants: { topics: [], service: decoded }, show: () => <Service /> };
    case "explain":
      return { wants: { topics: [] }, show: () => <Explain /> };
    case "network":
      return { wants: { topics: ["lan"] }, show: () => <Network /> };
    case "changes":
      return { wants: { topics: decoded === "events" ? ["events"] : [] }, show: () => <Changes /> };
    case "guard":
      return { wants: { topics: ["guard"] }, show: () => <Guard /> };
    case "access":
      return { wants: { topics: [] }, show: () => <Access /> };
    case "api":
      return { wants: { topics: [] }, show: () => <Reference /> };
    default:
      return { wants: { topics: ["services"] }, show: () => <Overview /> };
  }
}

function App() {
  if (!known.value) return <p class="before">Loading the dashboard…</p>;
  if (!caller.value) return <Login over={wasIn.value} />;
  const here = page(route.value);
  if (route.value[0] === "wall") return here.show();
  return (
    <>
      <Shell>{here.show()}</Shell>
      <Dialogs />
    </>
  );
}

function loggedOut(): void {
  if (caller.value) wasIn.value = true;
  caller.value = null;
}

/** A login link's, also where it is followed in a page that is open. */
async function useCode(): Promise<void> {
  const [name, code] = route.value;
  if (name !== "login" || !code) return;
  history.replaceState(null, "", location.pathname); // no code stays in the address
  route.value = [""];
  await logIn({ code });
}

async function start(): Promise<void> {
  whenLoggedOut(loggedOut);
  begin(loggedOut);
  await useCode();
  if (!caller.value) await meet();
  known.value = true;
  effect(() => follow(caller.value ? page(route.value).wants : null));
  effect(() => void document.documentElement.classList.toggle("is-stale", line.value === "stale" || line.value === "lost"));
  addEventListener("hashchange", () => {
    scrollTo(0, 0);
    void useCode();
  });
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const dress = () => {
  document.documentElement.dataset["theme"] = theme.value === "auto" ? (dark.matches ? "dark" : "light") : theme.value;
};
dark.addEventListener("change", dress);
effect(dress);

render(<App />, document.getElementById("app")!);
void start();
