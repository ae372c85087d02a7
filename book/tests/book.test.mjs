// The book as a reader meets it: in a browser, offline, with a mouse, a keyboard, a telephone, at night.
import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const html = fileURLToPath(new URL("../_build/html/", import.meta.url));
const pages = readdirSync(html).filter((name) => name.endsWith(".html"));
const chapters = pages.filter((name) => !["genindex.html", "search.html", "py-modindex.html"].includes(name));
const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml",
  ".png": "image/png", ".json": "application/json", ".woff": "font/woff", ".woff2": "font/woff2" };
const chromiumPath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

let browser, server, origin;

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
async function open(name, { width = 1200, colorScheme = "light", base = origin } = {}) {
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

test("every page loads without an error or a request to the outside, and all its formulas are rendered", async (t) => {
  let formulas = 0, requests = 0;
  for (const name of pages) {
    const { page, wrong, close, requests: sent } = await open(name);
    const written = await page.locator(".math").count();
    const rendered = await page.locator(".math mjx-container").count();
    const failed = await page.locator("mjx-merror, [data-mjx-error]").count();
    assert.deepEqual(wrong, [], name);
    assert.equal(rendered, written, `${name}: formulas rendered, of those written`);
    assert.equal(failed, 0, `${name}: formulas that MathJax refuses`);
    formulas += rendered;
    requests += sent();
    await close();
  }
  assert.ok(formulas > 500, `a book of mathematics has more than 500 formulas, found ${formulas}`);
  t.diagnostic(`${pages.length} pages, ${formulas} formulas, ${requests} requests, none to the outside`);
});

test("search finds 'secant', in the chapter that explains it too", async () => {
  const { page, wrong, close } = await open("search.html?q=secant");
  await page.waitForSelector("#search-results ul.search li a");
  await page.waitForFunction(() => /found|matching/i.test(document.querySelector("#search-results .search-summary, #search-results p")?.textContent ?? ""));
  const links = await page.locator("#search-results li a").evaluateAll((all) => all.map((a) => a.getAttribute("href")));
  assert.ok(links.some((link) => link.startsWith("newton.html")), `found only ${links}`);
  assert.deepEqual(wrong, []);
  await close();
});

test("every slider moves its figure, by keyboard, and says its value", async (t) => {
  let figures = 0;
  for (const name of chapters) {
    const { page, close } = await open(name);
    for (const figure of await page.locator(".kfqn-explorable").all()) {
      figures += 1;
      const shown = () => figure.locator(".kfqn-frame:not([hidden])").evaluateAll((all) => all.map((f) => [...f.parentNode.children].indexOf(f)));
      for (const slider of await figure.locator("input[type=range]").all()) {
        const [before] = await shown();
        const text = await slider.getAttribute("aria-valuetext");
        await slider.focus();
        await page.keyboard.press((await slider.evaluate((s) => s.value === s.max)) ? "ArrowLeft" : "ArrowRight");
        const now = await shown();
        assert.equal(now.length, 1, `${name}: exactly one picture is shown`);
        assert.notEqual(now[0], before, `${name}: the picture changes`);
        assert.notEqual(await slider.getAttribute("aria-valuetext"), text, `${name}: the value is said`);
      }
      const pictures = await figure.locator(".kfqn-frame svg").evaluateAll((all) => new Set(all.map((svg) => svg.innerHTML.replaceAll(/f[0-9a-f]+-\d+-/g, ""))).size);
      assert.ok(pictures > 1, `${name}: the pictures differ`);
    }
    await close();
  }
  assert.ok(figures >= 5, `at least five explorables, found ${figures}`);
  t.diagnostic(`${figures} explorables`);
});

test("an explorable needs no server and no script to be read", async () => {
  const { page, wrong, close } = await open("newton.html", { base: new URL(`file://${html}`).href });
  assert.deepEqual(wrong, []);
  await close();
  const context = await browser.newContext({ javaScriptEnabled: false });
  const plain = await context.newPage();
  await plain.goto(`${origin}newton.html`);
  assert.equal(await plain.locator(".kfqn-frame:visible").count(), await plain.locator(".kfqn-explorable").count());
  await context.close();
});

test("folded solutions open on a click", async (t) => {
  let solutions = 0;
  for (const name of chapters) {
    const { page, close } = await open(name);
    for (const solution of await page.locator("div.solution.dropdown").all()) {
      const body = solution.locator("section, .section").first();
      const hidden = await body.evaluate((b) => getComputedStyle(b).opacity === "0" || b.offsetHeight === 0 || getComputedStyle(b).visibility === "hidden");
      assert.ok(hidden, `${name}: a solution is folded at first`);
      await solution.locator("button.toggle-button").click();
      await page.waitForFunction((b) => b.offsetHeight > 0 && getComputedStyle(b).visibility === "visible", await body.elementHandle());
      solutions += 1;
    }
    await close();
  }
  assert.ok(solutions >= 10, `exercises have solutions, found ${solutions}`);
  t.diagnostic(`${solutions} solutions`);
});

test("no page is wider than a telephone", async () => {
  for (const name of pages) {
    const { page, close } = await open(name, { width: 390 });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 390, `${name} is ${width} pixels wide on a screen of 390`);
    const lost = await page.locator("div.math").evaluateAll((all) => all.filter((d) => d.querySelector("mjx-math")?.getBoundingClientRect().left < d.getBoundingClientRect().left - 1).length);
    assert.equal(lost, 0, `${name}: formulas whose left end cannot be reached`);
    await close();
  }
});

test("figures have alternative text, and follow the page into the dark", async () => {
  const luminance = (colour) => colour.match(/\d+(\.\d+)?/g).slice(0, 3).map(Number).reduce((sum, c) => sum + c, 0) / 3;
  for (const name of chapters) {
    const { page, close } = await open(name, { colorScheme: "dark" });
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.ok(luminance(background) < 60, `${name} is dark: ${background}`);
    for (const figure of await page.locator(".kfqn-figure svg, .kfqn-frame:not([hidden]) svg").all()) {
      const colour = await figure.evaluate((svg) => getComputedStyle(svg).color);
      assert.ok(luminance(colour) > 150, `${name}: lines and words of figures are light: ${colour}`);
      assert.match(await figure.evaluate((svg) => getComputedStyle(svg).backgroundColor), /rgba\(0, 0, 0, 0\)/);
    }
    for (const figure of await page.locator(".kfqn-figure, .kfqn-frames").all()) {
      assert.ok((await figure.getAttribute("aria-label")).length > 30, `${name}: a figure says what it shows`);
    }
    const images = await page.locator(".bd-article img").evaluateAll((all) => all.filter((i) => !i.alt.trim()).length);
    assert.equal(images, 0, `${name}: images without alternative text`);
    await close();
  }
});
