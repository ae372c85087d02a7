#!/usr/bin/env bash
# Jupyter Book 1.0.4: html_static_path says which folders are copied. Once the source has a folder named _static, listed or
# not, every script below any static folder runs on every page. Seen: no script tag without that folder, two with it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cp "$(dirname "$0")/../constraints.txt" "$place"
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt jupyter-book==1.0.4.post1
mkdir -p _assets/sub
echo '// two' > _assets/sub/two.js
echo '# Page' > index.md
printf 'format: jb-book\nroot: index\n' > _toc.yml
printf 'exclude_patterns: [venv]\nexecute: {execute_notebooks: "off"}\n' > _config.yml
echo 'sphinx: {config: {html_static_path: [_assets]}}' >> _config.yml
scripts() {  # scripts NAME: build, and list the scripts below the static folders that the page loads
  rm -rf _build
  venv/bin/jupyter-book build . > log.txt 2>&1
  grep -o 'src="_static/sub/[^?"]*' _build/html/index.html > "$1.txt" || true
  echo "$1 a folder _static: $(tr '\n' ' ' < "$1.txt")"
}
scripts without
mkdir -p _static/sub
echo '// one' > _static/sub/one.js
scripts with
test ! -s without.txt
test "$(wc -l < with.txt)" = 2
