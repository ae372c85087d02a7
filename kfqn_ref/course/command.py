"""The command ``kfqn course``: release, grade, feedback, export."""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from sqlalchemy.exc import DatabaseError

from kfqn_ref.course import clean
from kfqn_ref.course import demo as demonstration
from kfqn_ref.course.classroom import Classroom, CourseError, Record
from kfqn_ref.course.clock import OUT_OF_TIME
from kfqn_ref.course.feedback import feedback as write_page
from kfqn_ref.course.grade import grade as grade_class
from kfqn_ref.course.handed_in import strays
from kfqn_ref.course.release import HERE, available
from kfqn_ref.course.release import release as release_one
from kfqn_ref.course.release import solutions as write_solutions
from kfqn_ref.course.review import Statistics, statistics
from kfqn_ref.course.review import override as give_by_hand
from kfqn_ref.course.sandbox import Limits, NoBox
from kfqn_ref.course.table import FORMS
from kfqn_ref.course.table import export as write_table

app = typer.Typer(
    help="Hand out, grade in a sandbox and give back assignments.",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)
app.__doc__ = app.info.help  # the table of commands shows it

Course = Annotated[
    Path, typer.Option("--course", "-c", help="The course folder; made by `release`.")
]
Student = Annotated[
    list[str] | None, typer.Option("--student", help="Only this student; may be repeated.")
]


@app.command()
def release(
    assignments: Annotated[list[str] | None, typer.Argument(help="Names; all by default.")] = None,
    course: Course = Path("course"),
    sources: Annotated[Path, typer.Option(help="Folder of the percent scripts.")] = HERE,
    per_student: Annotated[
        Path | None,
        typer.Option("--per-student", help="File of students, one a line: a variant for each."),
    ] = None,
) -> None:
    """Write the students' notebooks of assignments into the course folder."""
    with _told():
        students = _names(per_student)
        for name in assignments or available(sources):
            made = release_one(Classroom(course), name, sources, students=students)
            typer.echo(f"released {made}")


def _names(path: Path | None) -> list[str]:
    """The lines of a file that are not empty."""
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f"--per-student must be a file with a name a line: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise CourseError(f"--per-student must be a file with a name a line, {path} has none")
    return names


@app.command()
def solutions(
    assignment: Annotated[str, typer.Argument(help="Name of the assignment.")],
    course: Course = Path("course"),
) -> None:
    """Write pages with solutions and hidden tests, one a variant: for the instructor only."""
    with _told():
        pages = write_solutions(Classroom(course), assignment)
    typer.echo(f"wrote {len(pages)} pages to {pages[0].parent}: do not hand them out")


@app.command()
def grade(
    assignment: Annotated[str, typer.Argument(help="Name of the assignment.")],
    course: Course = Path("course"),
    student: Student = None,
    workers: Annotated[int, typer.Option(help="Submissions at the same time.")] = 2,
    seconds: Annotated[
        float, typer.Option(help="Processor time of a submission's box.")
    ] = Limits.seconds,
    cell_seconds: Annotated[
        float, typer.Option(help="Processor time of a cell or a call.")
    ] = Limits.cell_seconds,
    memory: Annotated[int, typer.Option(help="Memory of a box in MB.")] = Limits.memory_mb,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Run without a box, as yourself.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what is unchanged since it was graded.")
    ] = False,
) -> None:
    """Grade a class: every submission in a box without network or home.

    What was graded and is unchanged stays; so a run that was stopped goes on.
    """
    if workers < 1:
        raise typer.BadParameter(f"workers must be at least 1, got {workers}")
    try:
        limits = Limits(seconds=seconds, cell_seconds=cell_seconds, memory_mb=memory, unsafe=unsafe)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    console = Console(stderr=True)
    classroom = Classroom(course)
    if unsafe:
        console.print(
            "[bold red]--unsafe[/]: submissions run as you, with all that you can read and write"
        )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with _told():
        chosen = _chosen(classroom, assignment, student)
        for stray in strays(classroom.root / "submitted", assignment):
            console.print(clean.line(stray), highlight=False, markup=False, soft_wrap=True)
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(assignment, total=len(chosen))

            def show(record: Record) -> None:
                progress.advance(task)
                progress.console.print(line(record), highlight=False, soft_wrap=True)

            records = grade_class(
                classroom,
                assignment,
                students=chosen,
                limits=limits,
                workers=workers,
                progress=show,
                again=again or student is not None,
            )
            progress.update(task, completed=len(chosen))
    _sum_up(list(records.values()), course / "grades" / f"{assignment}.json")


def _chosen(classroom: Classroom, assignment: str, named: list[str] | None) -> list[str]:
    """Those to grade: all, or those named, who must be there."""
    classroom.master(assignment)
    there = classroom.students()
    if strangers := sorted(set(named or []) - set(there)):
        raise CourseError(
            f"--student must name a folder of {classroom.root}/submitted "
            f"({', '.join(there) or 'it is empty'}), got {', '.join(strangers)}"
        )
    return named or there


def _sum_up(records: list[Record], path: Path) -> None:
    """The last lines of ``grade``; exit code 1 where somebody has no score for want of time."""
    if not records:
        return typer.echo(
            "nothing was handed in: put STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb into submitted/"
        )
    graded = [record for record in records if record.state == "graded"]
    mean = sum(record.seconds for record in graded) / max(1, len(graded))
    typer.echo(
        f"{len(graded)} of {len(records)} graded, {mean:.1f} s each; the records are in {path}"
    )
    typer.echo(aloud(records))
    if late := [record.student for record in records if record.state == OUT_OF_TIME]:
        again = "grade them again with --workers 1"
        typer.echo(f"no score, for want of time: {', '.join(late)}; {again}", err=True)
        raise typer.Exit(1)


def aloud(records: list[Record]) -> str:
    """A class in one sentence that can be read aloud."""
    graded = [record for record in records if record.state == "graded"]
    states = Counter(record.state for record in records if record.state != "graded")
    said = [f"{len(records)} submissions: {len(graded)} graded"]
    if graded:
        mean = sum(record.score for record in graded) / len(graded)
        full = sum(record.score == record.max_score for record in graded)
        said.append(f"{mean:.1f} of {graded[0].max_score:g} points on average, {full} with all")
    said += [f"{count} {state}" for state, count in states.items()]
    noted = sum(bool(record.notes) for record in graded)
    if noted:
        said.append(f"{noted} with a note to read")
    return "; ".join(said) + "."


def line(record: Record) -> str:
    """A record as a line of the terminal."""
    colour = "green" if record.score == record.max_score else "yellow"
    if record.state != "graded":
        colour = "red"
    score = "–" if record.state == OUT_OF_TIME else f"{record.score:g}"
    points = f"{score}/{record.max_score:g}"
    name = escape(clean.line(record.student))
    notes = escape(clean.line("; ".join(record.notes)))
    text = f"[{colour}]{record.state:<11}[/] {points:>9} {record.seconds:6.1f} s  {name}"
    return f"{text}  [dim]{notes}[/]" if notes else text


@app.command()
def feedback(
    assignment: Annotated[str, typer.Argument(help="Name of the assignment.")],
    course: Course = Path("course"),
    student: Student = None,
) -> None:
    """Write the page that each student gets back."""
    classroom = Classroom(course)
    failed = 0
    with _told():
        classroom.master(assignment)
        for name in student or classroom.records(assignment):
            try:
                typer.echo(clean.line(f"wrote {write_page(classroom, assignment, name)}", 4000))
            except CourseError as error:
                typer.echo(f"error: {error}", err=True)
                failed += 1
    if failed or not classroom.records(assignment):
        nothing = f"nothing has been graded yet: run `kfqn course grade {assignment}` first"
        told = f"pages missing: {failed}" if failed else nothing
        typer.echo(told, err=True)
        raise typer.Exit(1)


@app.command()
def export(
    course: Course = Path("course"),
    out: Annotated[Path, typer.Option(help="The CSV file.")] = Path("grades.csv"),
    assignment: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be repeated.")
    ] = None,
    form: Annotated[str, typer.Option(help="table, canvas or moodle.")] = "table",
) -> None:
    """Write all grades as a CSV file, those given by hand included."""
    if form not in FORMS:
        raise typer.BadParameter(f"--form must be one of {', '.join(FORMS)}, got {form}")
    classroom = Classroom(course)
    names = assignment or sorted(path.stem for path in (course / "grades").glob("*.json"))
    if not names:
        raise typer.BadParameter(
            f"nothing has been graded in {course}: run `kfqn course grade` first"
        )
    with _told():
        for name in names:
            classroom.master(name)
            if not classroom.records(name):
                raise CourseError(
                    f"nothing of {name} has been graded: run `kfqn course grade {name}` first"
                )
        typer.echo(f"wrote {write_table(classroom, out, names, form)} lines to {out}")


@app.command()
def override(
    assignment: Annotated[str, typer.Argument(help="Name of the assignment.")],
    student: Annotated[str, typer.Option(help="Whose.")],
    part: Annotated[str, typer.Option(help="Name of the test.")],
    points: Annotated[float, typer.Option(help="Points in place of the test's.")],
    reason: Annotated[str, typer.Option(help="Why; the student reads it.")] = "",
    course: Course = Path("course"),
) -> None:
    """Give points by hand in place of a test's, with a reason."""
    with _told():
        give_by_hand(Classroom(course), assignment, student, part, points, reason)
    typer.echo(clean.line(f"{student}: {part} has {points:g} points; run feedback and export"))


@app.command()
def stats(
    assignment: Annotated[str, typer.Argument(help="Name of the assignment.")],
    course: Course = Path("course"),
) -> None:
    """Sum up a class: scores, the hardest tests, mistakes, and answers that are alike."""
    with _told():
        found = statistics(Classroom(course), assignment)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for text in report(found):
        console.print(text)


def report(found: Statistics) -> list[str]:
    """Statistics as lines of text."""
    lines = [f"{count:4} {state}" for state, count in found.states.items()]
    lines += ["", "points  submissions"]
    counts = Counter(int(score) for score in found.scores)
    lines += [f"{points:6}  {'█' * counts[points]} {counts[points]}" for points in sorted(counts)]
    lines += ["", "test                failed   mistakes, from the hardest test on"]
    for part in found.parts:
        told = "; ".join(f"{count} × {text}" for text, count in part.mistakes)
        lines.append(f"{part.name:<20}{part.failed:5}    {told}")
    if found.alike:
        lines += ["", "Answers of the same shape: a hint to look, and no verdict."]
        lines += [clean.line(f"{a} and {b}: {ratio:.0%}") for a, b, ratio in found.alike]
    return lines


@app.command()
def demo(
    course: Annotated[Path, typer.Option("--course", "-c", help="A new folder.")] = Path("demo"),
    workers: Annotated[int, typer.Option(help="Submissions at the same time.")] = 2,
) -> None:
    """Make a course with twelve fictional submissions, grade it, and show what comes of it."""
    if course.exists():
        raise typer.BadParameter(f"--course must be a new folder, got {course}, which exists")
    with _told():
        name = demonstration.NAME
        classroom = demonstration.make(course)
        grade(name, course, workers=workers)
        for student in classroom.students():
            write_page(classroom, name, student)
        write_table(classroom, course / "grades.csv", [name])
        stats(name, course)
    typer.echo(f"\npages: {course}/feedback/STUDENT/{name}/{name}.html; table: {course}/grades.csv")


@app.command()
def look(
    course: Course = Path("course"),
    port: Annotated[int, typer.Option(help="Port of this machine.")] = 8888,
) -> None:
    """Open JupyterLab with the formgrader: on this machine only, and with a token."""
    with _told():
        if not (course / "gradebook.db").is_file():
            raise CourseError(f"{course} is no course: it has no gradebook; release first")
    typer.echo("JupyterLab listens on 127.0.0.1 and asks for the token of the address below.")
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1"]
    os.chdir(course)
    os.execv(sys.executable, [*command, f"--ServerApp.port={port}", "--no-browser"])


class _told:
    """Errors that have a remedy become one line and exit code 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CourseError | NoBox):
            raise typer.BadParameter(str(error)) from error
        if isinstance(error, DatabaseError):
            reason = f"the gradebook must be one that can be written ({error.orig})"
            raise typer.BadParameter(f"{reason}; what was done before is kept") from error
        if isinstance(error, OSError):
            parents = Path(error.filename).parents if isinstance(error.filename, str) else ()
            where = next((place for place in parents if os.access(place, os.F_OK)), "the disk")
            reason = (
                f"a folder must be one that can be written, got {where} ({error.strerror or error})"
            )
            raise typer.BadParameter(reason) from error
