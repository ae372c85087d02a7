#!/usr/bin/env bash
# jupytext 1.19: a line of Python in a code cell that looks like a magic command is a comment in the script. Seen: a line that
# continues an expression with "%b" makes the script a syntax error; "mv @ x" (a matrix named mv, shown) is not run.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jupytext==1.19.6 nbformat==5.11.1
cat > convert.py <<'END'
import ast

import jupytext
from nbformat.v4 import new_code_cell, new_notebook

KERNEL = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
for source in ("rest = (a\n%b)", "mv @ x"):
    ast.parse(source)  # it is Python
    notebook = new_notebook(cells=[new_code_cell(source)], metadata=KERNEL)
    script = jupytext.writes(notebook, "py:percent")
    print(repr(script.split("# %%\n")[1]), end=" ")
    try:
        print("parses, statements:", len(ast.parse(script).body))
    except SyntaxError as error:
        print("does not parse:", error.msg)
END
venv/bin/python convert.py | tee output.txt
grep -q "^'rest = (a.n# %b).n' does not parse: '(' was never closed$" output.txt
grep -q "^'# mv @ x.n' parses, statements: 0$" output.txt
