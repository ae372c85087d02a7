"""Figures of the book: one style, colours that colour-blind readers tell apart, light and dark
pages.

A picture is shown as inline SVG on a page (its black and its palette follow the page's colours) and
as PNG in the PDF. An explorable is a picture for every position of its sliders; without scripts,
and in the PDF, it is the picture of its start.
"""

import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE = "#0072b2"
ORANGE = "#d55e00"
GREEN = "#009e73"
PINK = "#cc79a7"
YELLOW = "#e69f00"
SKY = "#56b4e9"
COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)  # Okabe and Ito
GREY = "#7f7f7f"
MARKERS = "osD^vP"
_PIXELS_AN_INCH = (
    125  # of a figure at its widest on a page: its text is then as large as the page's
)

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "axes.titlesize": 11.5,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "svg.hashsalt": "kfqn_ref",  # the same figure is the same file
}


rcParams.update(_STYLE)  # for all that is drawn on the figures of this module, also later


def figure(
    rows: int = 1, columns: int = 1, *, width: float = 5.2, height: float = 3.4, **subplots: Any
) -> tuple[Figure, Any]:
    """Return a figure in the book's style and its axes (one, or an array of them); sizes in
    inches.
    """
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **subplots)


def _svg(fig: Figure, prefix: str) -> str:
    """Return the figure as inline SVG whose colours are the page's and whose ids start with
    ``prefix``.
    """
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"(id=\"|url\(#|href=\"#)", rf"\g<1>{prefix}", svg)
    svg = svg.replace("#000000", "currentColor").replace("#ffffff", "var(--kfqn-paper)")
    for number, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--kfqn-{number})")
    # A small figure is not blown up to the width of the page.
    width = round(_PIXELS_AN_INCH * fig.get_figwidth())
    # Text is black by default, without saying so: the page's colour instead.
    own = f'<svg fill="currentColor" aria-hidden="true" style="--kfqn-width: {width}px" '
    return re.sub(r"\n\s*", "\n", svg).replace("<svg ", own, 1)


def _png(fig: Figure) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


@dataclass(frozen=True)
class Picture:
    """What a cell shows: ``html`` on a page, ``png`` in the PDF, ``alt`` for who sees neither."""

    html: str
    png: bytes
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/html": self.html, "image/png": self.png, "text/plain": self.alt}


def show(fig: Figure, alt: str) -> Picture:
    """Return the figure as the value of a cell.

    Args:
        fig: a figure of :func:`figure`.
        alt: what a reader who does not see it must know, a sentence or two.
    """
    html = (
        '<div class="kfqn-figure" role="img" '
        f'aria-label="{escape(alt)}">{_svg(fig, _name(alt))}</div>'
    )
    return Picture(html, _png(fig), alt)


def explorable(
    draw: Callable[..., Figure],
    *,
    alt: str,
    start: Sequence[int] | None = None,
    **sliders: Sequence[Any],
) -> Picture:
    """Return a figure with sliders, drawn beforehand for every position: no server, no network.

    Args:
        draw: called with one value of every slider by name; returns a figure of :func:`figure`.
        alt: what the figure shows and what moving the sliders does.
        start: index of the first value shown, one a slider; the first of each by default.
        sliders: the values of each slider; an underscore in a name is shown as a space.

    Raises:
        ValueError: more than 80 pictures: a page that heavy does not load on a telephone.
    """
    positions = list(itertools.product(*sliders.values()))
    if not 0 < len(positions) <= 80:
        raise ValueError(f"the sliders must have 1 to 80 positions together, got {len(positions)}")
    first = tuple(start or [0] * len(sliders))
    start_values = tuple(list(values)[i] for values, i in zip(sliders.values(), first, strict=True))
    name = _name(alt)
    frames = []
    png = b""
    for number, values in enumerate(positions):
        fig = draw(**dict(zip(sliders, values, strict=True)))
        hidden = " hidden"
        if values == start_values:
            hidden = ""
            png = _png(fig)
        picture = _svg(fig, f"{name}-{number}-")
        frames.append(f'<div class="kfqn-frame"{hidden}>{picture}</div>')
    controls = [
        _slider(label, values, i) for (label, values), i in zip(sliders.items(), first, strict=True)
    ]
    html = (
        f'<div class="kfqn-explorable" role="group" aria-label="Figure with sliders">'
        f'<div class="kfqn-frames" role="img" aria-label="{escape(alt)}">{"".join(frames)}</div>'
        f'<div class="kfqn-controls">{"".join(controls)}</div></div>'
    )
    return Picture(html, png, alt)


def _name(alt: str) -> str:
    """Return an id that is the same at every build, and different for different figures."""
    return f"f{sum(ord(letter) * 31**i for i, letter in enumerate(alt)) % 2**32:x}-"


def _words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _slider(label: str, values: Sequence[Any], index: int) -> str:
    words = [escape(_words(value)) for value in values]
    return (
        f"<label><span>{escape(label.replace('_', ' '))}</span>"
        f'<input type="range" min="0" max="{len(words) - 1}" step="1" value="{index}" '
        f'data-values="{"|".join(words)}" aria-valuetext="{words[index]}">'
        f"<output>{words[index]}</output></label>"
    )
