/* The sliders of kfqn_ref.experiments.book.figures.explorable: show the picture that belongs to their positions. */
document.addEventListener("DOMContentLoaded", () => {
  // A folded cell is named by the words that it shows, not by a label that says something else.
  for (const summary of document.querySelectorAll("details > summary[aria-label]")) summary.removeAttribute("aria-label");
  for (const figure of document.querySelectorAll(".kfqn-explorable")) {
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
});
