"""Whatever a submission brings is made inert before a person sees it.

Text and PNG pictures are shown, every other kind of output is left out with a note. Markdown is
rendered and cleaned by nh3, an allow-list of tags without scripts, styles, pictures, forms or
frames. What is stored for nbgrader's formgrader, which puts it into a page of its own server, is
the cleaned form already.
"""

import base64
import binascii
import html
import re
import unicodedata
from typing import Any

import nbformat
import nh3
from nbconvert.filters.markdown import markdown2html

from kfqn_ref.course.reading import NotGraded

LONGEST = 20_000  # characters of one text
LARGEST_PICTURE = 2 * 2**20  # bytes
MOST = 200  # outputs of a cell
SIGNS = '[]*?+<>&"\\|%#;{}$`'  # patterns, marks of a page, escapes
PNG = b"\x89PNG\r\n\x1a\n"

TAGS = set(
    "p br hr h1 h2 h3 h4 h5 h6 strong em b i u s del sub sup code pre blockquote ul ol li "
    "table thead tbody tr th td div span a".split()
)
ATTRIBUTES = {"a": {"href"}, "ol": {"start"}, "td": {"align"}, "th": {"align"}}
LEFT_OUT = "Left out here: {}. Text and PNG pictures are shown, nothing else."
PICTURE = "[A picture stood here: only the PNG outputs of cells are shown.]"
ANCHOR = re.compile(r'<a class="anchor-link" href="[^"]*">[^<]*</a>')
# What MathJax would act upon: the formgrader sets formulas with it.
ACTIVE_TEX = re.compile(
    r"\\(?=(?:href|url|require|style|class|cssId|data|html\w*|includegraphics|mmlToken)\b)"
)
MARK = {
    "cell_type": str, "checksum": str, "grade": bool, "grade_id": str, "locked": bool,
    "points": (int, float), "schema_version": int, "solution": bool, "task": bool,
}  # fmt: skip  # nbgrader's fields, and their kinds


def text(value: Any, longest: int = LONGEST) -> str:
    """Text that a terminal and a browser show as it stands: no control signs, no half letters."""
    whole = str(value).encode("utf-8", "replace").decode("utf-8")
    kept = "".join(sign for sign in whole if sign in "\n\t" or not _controls(sign))
    if len(kept) > longest:
        kept = kept[:longest] + f"\n[… {len(kept) - longest} more characters]\n"
    return kept


def _controls(sign: str) -> bool:
    """Whether a character steers instead of being seen: escapes, and marks that turn the text."""
    return unicodedata.category(sign) in ("Cc", "Cs") or sign in "\u2028\u2029" or _turns(sign)


def _turns(sign: str) -> bool:
    return "\u202a" <= sign <= "\u202e" or "\u2066" <= sign <= "\u2069"


def line(value: Any, longest: int = 300) -> str:
    """Text on one line: a name, a reason."""
    return " ".join(text(value, longest).split())


def require_name(student: str) -> None:
    """Refuse a folder's name that nbgrader or a page would take for more than a name.

    Raises:
        NotGraded: it has such a sign; nothing has been entered.
    """
    if set(student) & set(SIGNS) or student != line(student):
        reason = f"the name of the student's folder must not have any of {' '.join(SIGNS)}"
        raise NotGraded("wrong name", f"{reason}, nor signs that are not seen: rename it")


def picture(data: Any) -> str:
    """A PNG picture in base64, written anew; nothing where it is none."""
    try:
        raw = base64.b64decode("".join(str(data).split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    if not raw.startswith(PNG) or len(raw) > LARGEST_PICTURE:
        return ""
    return base64.b64encode(raw).decode()


def outputs(raw: Any) -> list[Any]:
    """What the box says that a cell showed, as outputs of a notebook: text, pictures, errors."""
    found = [_output(one) for one in raw[:MOST] if isinstance(one, dict)]
    return [one for some in found for one in some]


def _output(raw: dict[str, Any]) -> list[Any]:
    match raw.get("kind"):
        case "stream":
            return [stream(text(raw.get("text", "")))]
        case "error":
            name = line(raw.get("ename", "Error"), 100)
            value = line(raw.get("evalue", ""))
            return [error(name, value, text(raw.get("traceback", "")))]
        case "display_data" | "execute_result":
            data = raw.get("data")
            if not isinstance(data, dict):
                data = {}
            return _displayed(data, raw.get("dropped"))
    return []


def _displayed(data: dict[str, Any], dropped: Any) -> list[Any]:
    kept = {}
    names = list(dropped) if isinstance(dropped, list) else []
    if "text/plain" in data:
        kept["text/plain"] = text(data["text/plain"])
    if "image/png" in data:
        kept["image/png"] = picture(data["image/png"])
        if not kept["image/png"]:
            del kept["image/png"]
            names.append("image/png that is none, or is larger than 2 MB")
    shown = [nbformat.v4.new_output("display_data", data=kept)] if kept else []
    if left := ", ".join(line(name, 80) for name in names[:10]):
        shown.append(stream(LEFT_OUT.format(left) + "\n"))
    return shown


def stream(words: str) -> Any:
    """Text as an output."""
    return nbformat.v4.new_output("stream", name="stdout", text=words)


def error(name: str, value: str, *lines: str) -> Any:
    """An error that nbgrader counts and a reader sees."""
    return nbformat.v4.new_output("error", ename=name, evalue=value, traceback=list(lines))


def markdown(source: str) -> str:
    """Markdown as HTML that can do nothing."""
    rendered = ANCHOR.sub("", markdown2html(text(source, 10 * LONGEST)))
    pictures = "<img" in rendered.lower()
    cleaned = nh3.clean(
        rendered,
        tags=TAGS,
        clean_content_tags={"script", "style"},
        attributes=ATTRIBUTES,
        attribute_filter=_only_the_web,
        link_rel="noopener noreferrer nofollow",
        url_schemes={"http", "https", "mailto"},
    )
    cleaned = ACTIVE_TEX.sub("", cleaned)
    if pictures:
        cleaned += f"<p>{PICTURE}</p>"
    return cleaned


def _only_the_web(tag: str, name: str, value: str) -> str | None:
    """Keep a link that leads to a page of the web: none into the server that shows it."""
    if name == "href" and not re.match(r"(https?://|mailto:)", value.strip(), re.IGNORECASE):
        return None
    return value


def inert(source: str) -> str:
    """Markdown whose rendering, by whatever renders it next, is the cleaned HTML, letter by letter.

    HTML in one line is passed through by Markdown. Where it would not be, the source is shown.
    """
    block = "<div>" + markdown(source).replace("\n", "&#10;") + "</div>"
    if markdown2html(block).strip() == block:
        return block
    return "<div><pre>" + html.escape(text(source)).replace("\n", "&#10;") + "</pre></div>"


def notebook(submitted: Any, master: Any) -> Any:
    """The notebook to be stored: what the master does not have is made inert.

    Outputs are not touched: they are those of :func:`outputs`, or the grader's own.
    """
    own = {(cell.cell_type, cell.source) for cell in master.cells}
    for number, cell in enumerate(submitted.cells):
        mark = cell.metadata.get("nbgrader")
        cell.metadata = nbformat.from_dict({})
        if mark:
            cell.metadata["nbgrader"] = nbformat.from_dict(_mark(mark))
        cell.pop("attachments", None)
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.source = text(cell.source, 10 * LONGEST)
        elif (cell.cell_type, cell.source) not in own:
            cell.source = _words(cell)
        if cell.cell_type == "raw":
            cell.cell_type = "markdown"
    notes = [line(note) for note in submitted.metadata.get("kfqn", {}).get("notes", [])]
    about = {key: master.metadata[key] for key in ("kernelspec", "language_info")
             if key in master.metadata}  # fmt: skip  # the master's alone
    submitted.metadata = nbformat.from_dict(about | {"kfqn": {"notes": notes}})
    return submitted


def _words(cell: Any) -> str:
    if cell.cell_type == "markdown":
        return inert(cell.source)
    return inert("```\n" + cell.source.replace("`", "'") + "\n```")


def _mark(mark: Any) -> dict[str, Any]:
    return {key: value for key, value in mark.items() if isinstance(value, MARK.get(key, ()))}
