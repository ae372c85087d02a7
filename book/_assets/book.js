/* What the pages of the book do in a browser. Without scripts they show the same text, formulas and first pictures. */

/* Keyboards scroll only what they can focus: a formula, table or output that is wider than its place becomes focusable. */
const scrollable = ".bd-article :is(div.math, p, pre, table, .pst-scrollable-table-container, div.cell_output, div.output)";

function letKeyboardsScroll(element) {
  const scrolls = /auto|scroll/.test(getComputedStyle(element).overflowX) && element.scrollWidth > element.clientWidth;
  if (scrolls) element.tabIndex = 0;
  else element.removeAttribute("tabindex");
}

/* A button with a label of its own; Font Awesome puts drawings with titles in the place of its icons, sooner or later. */
function hideIcons(button) {
  for (const icon of button.querySelectorAll(".theme-switch")) {
    icon.removeAttribute("title");
    icon.removeAttribute("aria-labelledby");
    icon.querySelector("title")?.remove();
    icon.setAttribute("aria-hidden", "true");
  }
}

/* The names that the theme and Sphinx give to some elements say something else than what is shown. */
function repairNames() {
  const labelled = "details > summary[aria-label], .search-button-field[aria-label]"; // their words are their name
  for (const element of document.querySelectorAll(labelled)) element.removeAttribute("aria-label");
  for (const button of document.querySelectorAll(".theme-switch-button")) {
    hideIcons(button);
    new MutationObserver(() => hideIcons(button)).observe(button, { childList: true });
  }
  for (const list of document.querySelectorAll(".citation-list[role]")) list.removeAttribute("role"); // its entries are no list items
}

/* The sliders of kfqn_ref.experiments.book.figures.explorable: show the picture that belongs to their positions. */
function connectSliders(figure) {
  const frames = figure.querySelectorAll(".kfqn-frame");
  const sliders = [...figure.querySelectorAll("input[type=range]")];
  const show = () => {
    let position = 0;
    for (const slider of sliders) {
      const value = slider.dataset.values.split("|")[slider.value];
      position = position * (Number(slider.max) + 1) + Number(slider.value);
      slider.setAttribute("aria-valuetext", value);
      slider.nextElementSibling.textContent = value;
    }
    frames.forEach((frame, i) => { frame.hidden = i !== position; });
  };
  sliders.forEach((slider) => slider.addEventListener("input", show));
  show(); // a browser may restore slider positions on reload
}

/* Folded cells are unfolded for paper, and folded again after it. */
function unfoldForPaper() {
  const folded = [...document.querySelectorAll(".bd-article details:not([open])")];
  folded.forEach((details) => { details.open = true; });
  addEventListener("afterprint", () => folded.forEach((details) => { details.open = false; }), { once: true });
}

document.addEventListener("DOMContentLoaded", () => {
  repairNames();
  document.querySelectorAll(".kfqn-explorable").forEach(connectSliders);
  // An element changes its size when its formula is rendered, when it is unfolded and when the window changes.
  const sizes = new ResizeObserver((changes) => changes.forEach((change) => letKeyboardsScroll(change.target)));
  document.querySelectorAll(scrollable).forEach((element) => sizes.observe(element));
  addEventListener("beforeprint", unfoldForPaper);
});
