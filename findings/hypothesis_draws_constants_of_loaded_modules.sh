#!/usr/bin/env bash
# Hypothesis 6.170: with derandomize=True the draws depend on which local modules are imported, and with database=None a
# folder .hypothesis is written. Seen: an integer that stands in an imported module is drawn, and is not drawn without it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check hypothesis==6.170.15 sortedcontainers==2.4.0
echo 'VALUE = 271828182845' > neighbour.py
cat > draws.py <<'END'
import sys
from hypothesis import given, settings, strategies

if sys.argv[1] == "with":
    import neighbour  # noqa: F401  # it is only imported
drawn = []


@settings(derandomize=True, database=None, max_examples=200)
@given(strategies.integers())
def collect(n):
    drawn.append(n)


collect()
print(int(sys.argv[2]) in drawn)
END
for case in without with; do
  venv/bin/python draws.py $case 271828182845 > $case.txt
  echo "$case the module: drawn: $(cat $case.txt), folders: $(ls -d .hypothesis/*)"
  test -d .hypothesis/constants
  rm -r .hypothesis
done
test "$(cat without.txt with.txt)" = "$(printf 'False\nTrue')"
