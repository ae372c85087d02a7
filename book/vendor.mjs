// Copy the parts of MathJax that the pages load to _vendor/mathjax. Not to _static: see _config.yml.
import { cpSync, mkdirSync, rmSync } from "node:fs";

const from = new URL("node_modules/mathjax/es5/", import.meta.url);
const to = new URL("_vendor/mathjax/", import.meta.url);
rmSync(to, { recursive: true, force: true });
mkdirSync(to, { recursive: true });
for (const part of ["tex-mml-chtml.js", "input", "sre", "a11y", "ui", "output"]) {
  cpSync(new URL(part, from), new URL(part, to), { recursive: true });
}
