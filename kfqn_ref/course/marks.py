"""Put the marks of a notebook in order: each cell of the assignment once, where it can be graded.

A front end may drop marks, copy them, or turn a cell into text; a student may move, split and
delete cells. Afterwards every marked cell of the master is there once, of its kind, with the
master's text where a student does not write, and no test stands above the functions that it tests.
"""

from typing import Any

import nbformat
from nbconvert.exporters.exporter import ResourcesDict
from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions

from kfqn_ref.course.reading import NotGraded
from kfqn_ref.course.regrade import grade_id, is_solution, is_test
from kfqn_ref.course.source import additions, defined, same

LOST = (
    "this notebook has lost its marks, and none of its cells was recognised: copy your functions "
    "into the cells of the hand-out, save it in Jupyter, and hand that in"
)
FOUND = "the notebook has lost marks (of {}): the cells were found by their text and functions"


class Marks:
    """The cells of a submission beside those of the master.

    Args:
        notebook: as :func:`kfqn_ref.course.reading.read` returns it; its cells are changed.
    """

    def __init__(self, notebook: Any, master: Any):
        self.cells: list[Any] = notebook.cells
        self.master = {grade_id(cell): cell for cell in master.cells if grade_id(cell)}
        self.order = list(self.master)
        self.texts = [cell.source.split() for cell in master.cells if not grade_id(cell)]
        self.released = {name: released(cell) for name, cell in self.master.items()}
        self.notes: list[str] = []

    def restore(self) -> list[str]:
        """Put all in order; return what student and teacher should know.

        Raises:
            NotGraded: no cell of the assignment is there.
        """
        for cell in self.cells:
            if grade_id(cell) not in self.master:
                cell.metadata.pop("nbgrader", None)
        self._find_lost()
        self._drop_copies()
        for name in self.order:
            self._as_in_master(name)
        self._add_missing()
        self._setup_first()
        self._tests_after_functions()
        self._note_rivals()
        for number, cell in enumerate(self.cells):
            cell["id"] = f"cell-{number}"  # one each, whatever was handed in
        return self.notes

    def _places(self, name: str) -> list[int]:
        return [index for index, cell in enumerate(self.cells) if grade_id(cell) == name]

    def _find_lost(self) -> None:
        """Give cells without a mark the one that they had."""
        lost = [name for name in self.order if not self._places(name)]
        found = [name for name in lost if self._find(name)]
        if len(lost) == len(self.order) and not found:
            raise NotGraded("lost its marks", LOST)
        tests = [name for name in found if not self.master[name].metadata.nbgrader.solution]
        if tests:
            self.notes.append(FOUND.format(", ".join(found)))

    def _find(self, name: str) -> bool:
        """Mark the cell that is the master's; False where there is none."""
        free = [cell for cell in self.cells if not grade_id(cell)]
        cell = self.master[name]
        functions = defined(self.master[name].source)
        if not cell.metadata.nbgrader.solution:
            alike = [own for own in free if self._unchanged(name, own)][:1]
        elif functions:
            alike = [own for own in free if own.cell_type == "code"]
            alike = [own for own in alike if functions & defined(own.source)]
        else:
            alike = self._between(name, free)
        for own in alike:
            own.metadata["nbgrader"] = {"grade_id": name}
        return bool(alike)

    def _unchanged(self, name: str, own: Any) -> bool:
        """Whether a cell is as handed out, or as the master has it."""
        sources = self.released[name], self.master[name].source
        return any(same(own.source, source) for source in sources)

    def _between(self, name: str, free: list[Any]) -> list[Any]:
        """The longest new text that stands where an answer in words belongs."""
        before, after = self._neighbours(name)
        kind = self.master[name].cell_type
        here = [cell for cell in self.cells[before + 1 : after] if cell in free]
        new = [c for c in here if c.cell_type == kind and c.source.split() not in self.texts]
        return sorted(new, key=lambda cell: len(cell.source))[-1:]

    def _neighbours(self, name: str) -> tuple[int, int]:
        """Places of the marked cells before and after, in the master's order."""
        number = self.order.index(name)
        before = [place for other in self.order[:number] for place in self._places(other)]
        after = [place for other in self.order[number + 1 :] for place in self._places(other)]
        return max(before, default=-1), min(after, default=len(self.cells))

    def _drop_copies(self) -> None:
        """Leave each mark to one cell: the copies stay, as cells without a mark."""
        for name in self.order:
            places = self._places(name)
            if len(places) > 1:
                keep = self._which(name, places)
                for place in places:
                    if place != keep:
                        self.cells[place].metadata.pop("nbgrader")

    def _note_rivals(self) -> None:
        """Say which of several definitions of a function counts."""
        code = [cell.source for cell in self.cells if cell.cell_type == "code"]
        for function in sorted(set().union(*(defined(c.source) for c in self.master.values()))):
            count = sum(function in defined(source) for source in code)
            if count > 1:
                rule = "the last definition that runs before a test counts there"
                self.notes.append(f"{function} is defined in {count} cells: {rule}")

    def _which(self, name: str, places: list[int]) -> int:
        """Which of several copies is the cell itself."""
        kind = self.master[name].cell_type
        places = [p for p in places if self.cells[p].cell_type == kind] or places
        if is_test(self.master[name]):
            return next((p for p in places if not self._undefined(name, p)), places[-1])
        if not self.master[name].metadata.nbgrader.solution:
            return places[0]  # a setup cell
        tests = [p for test in self._tests_of(name) for p in self._places(test)]
        early = [place for place in places if place < max(tests, default=len(self.cells))]
        new = [p for p in early or places if not self._unchanged(name, self.cells[p])]
        return (new or early or places)[-1]

    def _tests_of(self, name: str) -> list[str]:
        """The tests between a solution cell of the master and the next one."""
        found = []
        for other in self.order[self.order.index(name) + 1 :]:
            if self.master[other].metadata.nbgrader.solution and found:
                break
            if is_test(self.master[other]):
                found.append(other)
        return found

    def _as_in_master(self, name: str) -> None:
        """Kind, mark and, where a student does not write, text; new definitions get a cell."""
        master = self.master[name]
        mark = self.master[name].metadata.nbgrader
        for place in self._places(name):
            own = self.cells[place]
            if own.cell_type != master.cell_type and not self._switched_off(name):
                self.notes.append(f"{name} was turned into {own.cell_type}: it is run as before")
            elif own.cell_type != master.cell_type:
                own.metadata.pop("nbgrader")
                continue
            self.cells[place] = _new(master.cell_type, own.source, mark)
            if not mark.solution and master.cell_type == "code":
                self._put_back(name, place, own.source)

    def _switched_off(self, name: str) -> bool:
        """Whether another cell of code has the functions of this one."""
        others = [cell for cell in self.cells if grade_id(cell) != name]
        return bool(defined(self.master[name].source) & _functions(others))

    def _put_back(self, name: str, place: int, source: str) -> None:
        """The master's text in a locked cell; what a student defined there stands beside it."""
        if any(same(source, text) for text in (self.released[name], self.master[name].source)):
            return
        told = f"the locked cell {name} was changed and has been put back"
        self.cells[place].source = self.master[name].source
        if new := additions(source, self.master[name].source):
            beside = place if is_test(self.master[name]) else place + 1
            self.cells.insert(beside, nbformat.v4.new_code_cell(new))
            told += "; its new definitions stand in a cell of their own"
        self.notes.append(told)

    def _add_missing(self) -> None:
        """Each marked cell that is not there, after the one before it."""
        after = -1
        for name in self.order:
            places = self._places(name)
            if not places:
                cell = self.master[name]
                mark = self.master[name].metadata.nbgrader
                source = "# This cell was missing." if mark.solution else cell.source
                after += 1
                self.cells.insert(after, _new(cell.cell_type, source, mark))
            else:
                after = places[0]

    def _setup_first(self) -> None:
        """A locked cell that others need stands above them."""
        for name, master in self.master.items():
            if is_test(master) or is_solution(master) or master.cell_type != "code":
                continue
            later = self.order[self.order.index(name) + 1 :]
            users = [place for other in later for place in self._places(other)]
            place = self._places(name)[0]
            if place > min(users, default=len(self.cells)):
                first = next(i for i, cell in enumerate(self.cells) if cell.cell_type == "code")
                self.cells.insert(first, self.cells.pop(place))
                self.notes.append(f"{name} stood below the cells that need it: it was run first")

    def _undefined(self, test: str, place: int) -> set[str]:
        """Functions of the assignment that are defined below a place, and not above it."""
        above = self.order[: self.order.index(test)]
        wanted = set().union(*(defined(self.master[name].source) for name in above))
        return (wanted & _functions(self.cells[place:])) - _functions(self.cells[:place])

    def _tests_after_functions(self) -> None:
        """Move a test that stands above a function it tests below the first cell that has it."""
        moved: list[str] = []
        for name in self.order:
            place = self._places(name)[0] if is_test(self.master[name]) else -1
            missing = self._undefined(name, place) if place >= 0 else set()
            if not missing:
                continue
            cell = self.cells.pop(place)
            has = [i for i, own in enumerate(self.cells) if missing & defined(own.source)]
            # the first cell that has each of them; the last of these
            spot = max(min(i for i in has if f in defined(self.cells[i].source)) for f in missing)
            while spot + 1 < len(self.cells) and grade_id(self.cells[spot + 1]) in moved:
                spot += 1
            self.cells.insert(spot + 1, cell)
            moved.append(name)
        if moved:
            told = ", ".join(moved)
            self.notes.append(f"{told} stood above the functions tested: run below them instead")


def _functions(cells: list[Any]) -> set[str]:
    """Names of the functions that cells of code define."""
    return set().union(*(defined(cell.source) for cell in cells if cell.cell_type == "code"))


def _new(kind: str, source: str, mark: Any) -> Any:
    new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return new(source, metadata={"nbgrader": dict(mark)})


def released(cell: Any) -> str:
    """The text of a marked cell as students get it."""
    mark = cell.metadata.nbgrader
    copy = nbformat.v4.new_notebook(cells=[_new(cell.cell_type, cell.source, mark)])
    for step in (ClearSolutions(), ClearHiddenTests()):
        copy, _ = step.preprocess(copy, ResourcesDict())
    return copy.cells[0].source
