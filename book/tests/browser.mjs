// What the tests share: a server of the built pages and a browser that opens them.
import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const html = fileURLToPath(new URL("../_build/html/", import.meta.url));
export const pages = readdirSync(html).filter((name) => name.endsWith(".html"));
export const chapters = pages.filter((name) => !["genindex.html", "search.html", "py-modindex.html"].includes(name));
const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml",
  ".png": "image/png", ".json": "application/json", ".woff": "font/woff", ".woff2": "font/woff2" };
const chromiumPath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

export let browser, origin;
let server;

before(async () => {
  assert.ok(chromiumPath, "a Chromium must be installed, or CHROMIUM name it");
  server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    const file = join(html, path === "/" ? "index.html" : path);
    const found = file.startsWith(html) && existsSync(file) && extname(file);
    const status = found ? 200 : path === "/favicon.ico" ? 204 : 404; // browsers ask for that one by themselves
    response.writeHead(status, { "content-type": types[extname(file)] ?? "text/plain" });
    response.end(found ? readFileSync(file) : "");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${server.address().port}/`;
  browser = await chromium.launch({
    executablePath: chromiumPath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
  });
});

after(async () => {
  await browser?.close();
  server?.close();
});

// Open a page in a fresh context and return it with what went wrong while it loaded.
export async function open(name, { width = 1200, colorScheme = "light", base = origin } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  const wrong = [];
  let requests = 0;
  page.on("console", (message) => { if (message.type() === "error") wrong.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => wrong.push(`script: ${error.message}`));
  page.on("requestfailed", (request) => wrong.push(`failed: ${request.url()}`));
  page.on("response", (response) => { if (response.status() >= 400) wrong.push(`${response.status()}: ${response.url()}`); });
  page.on("request", (request) => {
    requests += 1;
    if (!request.url().startsWith(base) && !/^(data|blob):/.test(request.url())) wrong.push(`outside: ${request.url()}`);
  });
  await page.goto(base + name);
  await page.evaluate(async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; });
  return { page, wrong, close: () => context.close(), requests: () => requests };
}
