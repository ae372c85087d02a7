#!/usr/bin/env bash
# nbconvert 7.17: the ending of an exported script comes from language_info, which only a run of the notebook writes; the
# language of the kernelspec is not used. Seen: a notebook for Python becomes x.txt.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nbconvert==7.17.2 nbformat==5.11.1
venv/bin/python - <<'END'
import nbformat

kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
cells = [nbformat.v4.new_code_cell("print(1)")]
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), "x.ipynb")
END
venv/bin/jupyter-nbconvert --to script x.ipynb
ls x.*
test -f x.txt
test ! -e x.py
