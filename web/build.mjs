// SPDX-License-Identifier: Apache-2.0
// Bundles src/ into the directory that is named, with digests in the names, compressed, and with the licences of what
// is in it. `node build.mjs DIRECTORY`; the daemon serves that directory as it is (api/routes/dashboard.py).

import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { minify } from "terser";

const HERE = dirname(fileURLToPath(import.meta.url));
const BUDGET = 60 * 1000; // octets of JavaScript and styles, by gzip
const SHIPPED = ["preact", "@preact/signals", "@preact/signals-core", "uplot"];

const place = process.argv[2];
if (!place) throw new Error("usage: node build.mjs DIRECTORY");

// Of uPlot what no chart here uses is left out: its static members, which hold the paths of bars and splines, and
// logarithmic scales. Another release than the locked one may be cut elsewhere: then this says so.
const UNUSED = ["rangeLog", "rangeAsinh", "logAxisSplits", "asinhAxisSplits", "log10AxisValsFilt", "log2AxisValsFilt", "snapLogY", "snapAsinhY"];
const smallerChart = {
  name: "smaller-chart",
  setup({ onLoad }) {
    onLoad({ filter: /uPlot\.esm\.js$/ }, async ({ path }) => {
      let text = await readFile(path, "utf8");
      const cut = (from, to, instead = "") => {
        const begin = text.indexOf(from);
        const end = text.indexOf(to, begin);
        if (begin < 0 || end < 0) throw new Error(`uPlot has no ${from.trim()}: it is another release`);
        text = text.slice(0, begin) + instead + text.slice(end);
      };
      cut("\nuPlot.assign = ", "\nexport { uPlot");
      for (const name of UNUSED) cut(`\nfunction ${name}(`, "\n}\n", `\nfunction ${name}() {`);
      return { contents: text, loader: "js" };
    });
  },
};

const made = await build({
  plugins: [smallerChart],
  absWorkingDir: HERE,
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: place,
  entryNames: "[name]-[hash]",
  write: false,
  legalComments: "none",
  logLevel: "warning",
});

const files = new Map(made.outputFiles.map((file) => [file.path.slice(file.path.lastIndexOf("/") + 1), Buffer.from(file.contents)]));
for (const [name, content] of files) {
  if (!name.endsWith(".js")) continue; // what esbuild leaves, terser finds: a twentieth
  const smaller = await minify(content.toString(), { module: true, ecma: 2020, compress: { passes: 3, pure_getters: true }, mangle: true });
  files.set(name, Buffer.from(smaller.code));
}
const named = (suffix) => [...files.keys()].find((name) => name.endsWith(suffix));
const size = [...files.values()].reduce((sum, content) => sum + gzipSync(content, { level: 9 }).length, 0);
const page = await readFile(join(HERE, "src/index.html"), "utf8");
files.set("index.html", Buffer.from(page.replace("app.js", named(".js")).replace("app.css", named(".css"))));
files.set("icon.svg", await readFile(join(HERE, "src/icon.svg")));
files.set("licenses.txt", Buffer.from(await licenses()));

await rm(place, { recursive: true, force: true });
await mkdir(place, { recursive: true });
for (const [name, content] of files) {
  if (name === "index.html") continue;
  await write(name, content);
}
await write("index.html", files.get("index.html")); // last: with it the daemon takes the others
console.log(`dashboard: ${size} of ${BUDGET} octets (gzip)`);
if (size > BUDGET) {
  console.error("dashboard: it is larger than that");
  process.exit(1);
}

async function write(name, content) {
  const path = join(place, name);
  await writeFile(`${path}.gz`, gzipSync(content, { level: 9 }));
  await writeFile(`${path}.br`, brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: content.length } }));
  await writeFile(path, content);
}

async function licenses() {
  const texts = await Promise.all(
    SHIPPED.map(async (name) => {
      const home = join(HERE, "node_modules", name);
      const { version } = JSON.parse(await readFile(join(home, "package.json"), "utf8"));
      const file = (await readdir(home)).find((each) => /^licen[cs]e/i.test(each));
      return `${name} ${version}\n\n${await readFile(join(home, file), "utf8")}`;
    }),
  );
  return ["The dashboard of XDP Director (Apache-2.0) holds these works.", ...texts].join(`\n\n${"-".repeat(78)}\n\n`);
}
