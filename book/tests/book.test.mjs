// The book as a reader meets it: in a browser, offline, with a mouse, a keyboard, a telephone, at night.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, chapters, html, open, origin, pages } from "./browser.mjs";

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
  assert.match(await plain.locator(".kfqn-noscript:visible").innerText(), /no JavaScript.*LaTeX.*sliders/s);
  assert.ok(await plain.locator("div.solution.dropdown").first().locator("section, .section").first().isVisible());
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

test("on paper nothing is folded and nothing is cut off", async () => {
  const paper = 718; // pixels of A4 between the margins of a printer
  for (const name of chapters) {
    const { page, close } = await open(name, { width: paper });
    await page.emulateMedia({ media: "print" });
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    const folded = await page.locator(".bd-article details:not([open])").count();
    assert.equal(folded, 0, `${name}: cells that paper would not show`);
    const shapes = ".bd-article :is(mjx-math, pre, table, svg, img)";
    const cut = await page.locator(shapes).evaluateAll((all, right) => all.filter((e) => e.getBoundingClientRect().right > right).map((e) => e.textContent.slice(0, 60)), paper + 1);
    assert.deepEqual(cut, [], `${name}: wider than paper`);
    await close();
  }
});
