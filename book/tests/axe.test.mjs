// Every page by the rules of axe: on a desk and on a telephone, by day and by night.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { open, pages } from "./browser.mjs";

const axe = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const bad = ["serious", "critical"];

// What a rule says depends on the colours or on the width only where it is named here. AXE=all applies all rules everywhere.
const states = [
  { width: 1200, colorScheme: "light", rules: undefined },
  { width: 1200, colorScheme: "dark", rules: ["color-contrast", "link-in-text-block"] },
  { width: 390, colorScheme: "dark", rules: ["scrollable-region-focusable", "label-content-name-mismatch", "target-size", "aria-hidden-focus"] },
  { width: 390, colorScheme: "light", rules: [] },
].map((state) => (process.env.AXE === "all" ? { ...state, rules: undefined } : state)).filter(({ rules }) => rules?.length !== 0);

// Drawn formulas and pictures are hidden from a screen reader, which reads the words beside them: boxes of their sizes are enough.
function emptyDrawings() {
  for (const drawing of document.querySelectorAll("mjx-math")) {
    const { width, height } = drawing.getBoundingClientRect();
    drawing.replaceChildren();
    Object.assign(drawing.style, { display: "inline-block", width: `${width}px`, height: `${height}px` });
  }
  for (const drawing of document.querySelectorAll(".kfqn-figure svg, .kfqn-frame svg")) drawing.replaceChildren();
}

// What axe has to say, as lines.
function violations({ rules, bad }) {
  const options = { resultTypes: ["violations"], preload: false, ...(rules && { runOnly: { type: "rule", values: rules } }) };
  return window.axe.run(document, options).then(({ violations: found }) =>
    found.filter((rule) => bad.includes(rule.impact)).flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`)));
}

test("axe finds nothing serious on any page, wide or narrow, light or dark", { timeout: 1_200_000 }, async (t) => {
  const found = [];
  for (const name of pages) {
    const { page, close } = await open(name);
    await page.evaluate(emptyDrawings);
    await page.evaluate(axe);
    for (const { width, colorScheme, rules } of states) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(100); // the page is laid out, and its script finds what scrolls
      const lines = await page.evaluate(violations, { rules, bad });
      found.push(...lines.map((line) => `${name}, ${width} pixels, ${colorScheme}: ${line}`));
    }
    await close();
  }
  assert.deepEqual(found, []);
  t.diagnostic(`${pages.length} pages in ${states.length} states`);
});
