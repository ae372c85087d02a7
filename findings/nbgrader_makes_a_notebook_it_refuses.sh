#!/usr/bin/env bash
# nbgrader 0.9.6: DeduplicateIds, a step of autograding, empties the mark of the first of two cells with one id, and leaves
# the entry. Seen: nbgrader's own check of marks then refuses the notebook as one of schema 0.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nbgrader==0.9.6 nbformat==5.11.1
venv/bin/python - <<'END'
import nbformat.v4
from nbgrader.nbgraderformat import MetadataValidator, SchemaTooOldError
from nbgrader.preprocessors import DeduplicateIds

mark = {"grade_id": "q", "grade": True, "solution": True, "locked": False, "points": 2, "task": False,
        "schema_version": 3, "cell_type": "code"}
cells = [nbformat.v4.new_code_cell("x = 1", metadata={"nbgrader": dict(mark)}) for _ in range(2)]
notebook, _ = DeduplicateIds().preprocess(nbformat.v4.new_notebook(cells=cells), {})
marks = [cell.metadata.nbgrader for cell in notebook.cells]
print(marks)
assert marks == [{}, mark]
try:
    MetadataValidator().validate_nb(notebook)
except SchemaTooOldError as error:
    print(f"refused: {error}")
else:
    raise SystemExit("the notebook is accepted")
END
