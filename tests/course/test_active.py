"""What a submission brings does nothing in the browser of the person who looks at it."""

import html
import io
import re

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter
from nbgrader.server_extensions.formgrader import handlers
from rich.console import Console
from traitlets.config import Config

from kfqn_ref.course import clean
from kfqn_ref.course.classroom import Classroom, Record
from kfqn_ref.course.command import line
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.feedback import feedback
from kfqn_ref.course.grade import grade
from kfqn_ref.course.regrade import Graded, grade_id, is_test
from kfqn_ref.course.release import release
from kfqn_ref.course.remote import Submission
from kfqn_ref.course.sandbox import Limits

from . import active
from .browser import Site, needs_browser
from .samples import MASTERS, Sample, hand_in
from .test_remote import allowed

NAME = "a1_bfgs"


def ran(document: str) -> list[str]:
    """The marks that active content left in the document."""
    found = re.search(r"<html[^>]*\bclass=\"([^\"]*)\"", document)
    return re.findall(r"ran-([\w-]+)", found[1]) if found else []


@pytest.fixture(scope="module")
def site():
    with Site() as site:
        yield site


@pytest.fixture(scope="module")
def graded(tmp_path_factory, site):
    """A course with one student whose notebook is full of active content, graded as it would be.

    The cells run without a box, which this test is not about: the code is ours.
    """
    classroom = Classroom(tmp_path_factory.mktemp("course"))
    release(classroom, NAME, fresh_seeds=False)
    sample = Sample("eve", NAME, 0, change=lambda made: active.notebook(made.cells, site.address))
    hand_in(sample, classroom.root)

    def run(desks, path):
        cells = nbformat.read(path, as_version=4).cells
        source = next(
            cell.source for cell in cells if "from IPython.display import HTML" in cell.source
        )
        with Submission(allowed(), limits=Limits(unsafe=True)) as submission:
            raw = submission.run(source)[1]
        tests = [grade_id(cell) for cell in cells if is_test(cell)]
        told = "✗ " + "".join(active.kinds(site.address).values())
        results = dict.fromkeys(tests, {"passed": False, "text": told})
        return Graded(dict.fromkeys(range(len(cells)), raw), results, [told])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Desks, "regrade", run)
        grade(classroom, NAME, limits=Limits(unsafe=True))
    return classroom


@needs_browser
def test_the_browser_of_this_test_acts_on_active_content(site):
    """Else the tests below would show nothing."""
    pieces = active.kinds(site.address)
    moves = pieces.pop("refresh")
    site.asked.clear()
    document = site.opened("<!doctype html><body>" + "\n".join(pieces.values()))
    assert set(ran(document)) >= {"script", "handler", "svg", "style", "animate", "toggle"}
    assert {path.rpartition(".")[2] for path in site.asked} >= {"png", "js", "css", "html", "mp4"}
    site.asked.clear()
    site.opened("<!doctype html>" + moves)
    assert site.asked


@needs_browser
def test_a_page_of_feedback_runs_nothing_and_asks_for_nothing(graded, site):
    page = feedback(graded, NAME, "eve")
    site.asked.clear()
    document = site.opened_file(page)
    assert not ran(document)
    assert not site.asked
    assert "<script" not in page.read_text(encoding="utf-8").lower()


@needs_browser
@pytest.mark.parametrize("policy", ["with", "without"])
def test_a_page_is_inert_by_its_content_and_its_policy_is_a_second_lock(graded, site, policy):
    page = feedback(graded, NAME, "eve").read_text(encoding="utf-8")
    if policy == "without":  # the content alone
        page = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    else:  # the policy alone
        pieces = "".join(
            piece for kind, piece in active.kinds(site.address).items() if kind != "refresh"
        )
        page = page.replace("</main>", pieces + "</main>")
    site.asked.clear()
    assert not ran(site.opened(page))
    assert not site.asked


def formgrader_page(classroom: Classroom) -> str:
    """What nbgrader's formgrader shows of the student, without nbgrader's own scripts."""
    config = Config()
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [handlers.template_path]
    exporter = HTMLExporter(config=config)
    about = {"assignment_id": NAME, "notebook_id": NAME, "submission_id": "1", "index": 0}
    about |= {"total": 1, "base_url": "", "student": "eve", "last_name": "", "first_name": ""}
    path = classroom.root / "autograded" / "eve" / NAME / f"{NAME}.ipynb"
    page, _ = exporter.from_filename(str(path), resources=about | {"notebook_path": "x"})
    body = page[page.index("<body") :]
    return re.sub(r"<script[^>]*src=[^>]*></script>", "", body)


@needs_browser
def test_the_formgrader_s_view_runs_nothing_and_asks_for_nothing(graded, site):
    page = formgrader_page(graded)
    own = set(re.findall(r"(?:href|src)=\"(/[^\"]+)\"", page))  # nbgrader's own files
    site.asked.clear()
    document = site.opened("<!doctype html>" + page)
    assert not ran(document)
    assert set(site.asked) <= own


@needs_browser
@pytest.mark.filterwarnings("ignore:No lexer found")  # its language is active content as well
def test_the_same_view_of_the_notebook_as_it_was_handed_in_would_act(graded, site, tmp_path):
    """The cleaning is what makes the difference, and not the formgrader."""
    theirs = graded.root / "submitted" / "eve" / NAME / f"{NAME}.ipynb"
    other = Classroom(tmp_path)
    place = tmp_path / "autograded" / "eve" / NAME / f"{NAME}.ipynb"
    place.parent.mkdir(parents=True)
    place.write_bytes(theirs.read_bytes())
    site.asked.clear()
    assert ran(site.opened("<!doctype html>" + formgrader_page(other))) or site.asked


def stored(classroom: Classroom) -> nbformat.NotebookNode:
    path = classroom.root / "autograded" / "eve" / NAME / f"{NAME}.ipynb"
    return nbformat.read(path, as_version=4)


def test_the_stored_notebook_has_text_and_pictures_and_says_what_is_left_out(graded):
    outputs = [output for cell in stored(graded).cells for output in cell.get("outputs", [])]
    kinds = {mime for output in outputs for mime in output.get("data", {})}
    assert kinds <= {"text/plain", "image/png"}
    words = "".join(output.get("text", "") for output in outputs)
    for kind in ("text/html", "image/svg+xml", "application/javascript", "widget-view"):
        assert kind in words
    assert "image/png that is none" in words
    assert "\x1b" not in nbformat.writes(stored(graded))


def test_the_stored_notebook_has_the_metadata_of_the_assignment_alone(graded):
    notebook = stored(graded)
    assert set(notebook.metadata) == {"kernelspec", "language_info", "kfqn"}
    assert notebook.metadata.language_info.name == "python"
    assert all(set(cell.metadata) <= {"nbgrader"} for cell in notebook.cells)
    assert not any(cell.get("attachments") for cell in notebook.cells)
    assert {cell.cell_type for cell in notebook.cells} == {"code", "markdown"}


def test_words_of_the_assignment_stay_as_they_are_and_other_words_keep_their_sense(graded):
    own = {cell.source for cell in MASTERS[NAME].cells if cell.cell_type == "markdown"}
    assert own <= {cell.source for cell in stored(graded).cells}
    source = (
        "# A\n\n**b** and $a < b$, `c & d`\n\n| x |\n|---|\n| 1 |\n\n    if a < b:\n\n        y"
    )
    made = clean.markdown(source)
    for piece in (
        "<h1>A</h1>",
        "<strong>b</strong>",
        "$a &lt; b$",
        "<code>c &amp; d</code>",
        "<td>1",
    ):
        assert piece in made
    assert "if a &lt; b:\n\n    y" in made
    assert html.unescape(clean.inert(source)).count("if a < b:\n\n    y") == 1


def test_a_name_or_a_reason_in_the_terminal_is_text(capsys):
    name, note = "[red]\x1b[31mada\x1b]0;title\x07", "[link=http://x]note[/link]\x1b[2J\nnext"
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200, color_system=None)
    console.print(line(Record(name, "graded", 1.0, 2.0, notes=(note,))), highlight=False)
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue().replace("\x1b[2m", ""))
    assert "[red]" in out.getvalue()
    assert "[link=http://x]" in out.getvalue()
    assert out.getvalue().count("\n") == 1
