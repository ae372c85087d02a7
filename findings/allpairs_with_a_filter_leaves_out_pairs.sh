#!/usr/bin/env bash
# allpairspy 2.5.1: with a filter, AllPairs leaves out pairs that a permitted row contains, without a word. Seen: three
# parameters of two values, of which only the row 0 1 1 is forbidden; two pairs of permitted rows are in no row.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check allpairspy==2.5.1
cat > pairs.py <<'END'
from itertools import combinations, product

from allpairspy import AllPairs


def permitted(row):
    return list(row) != [0, 1, 1]  # called on the beginnings of rows too


def pairs(rows):
    return {((i, row[i]), (j, row[j])) for row in rows for i, j in combinations(range(3), 2)}


rows = [tuple(row) for row in AllPairs([[0, 1]] * 3, filter_func=permitted)]
possible = [row for row in product([0, 1], repeat=3) if permitted(row)]
print("rows:", sorted(rows))
print("left out:", sorted(pairs(possible) - pairs(rows)))
END
venv/bin/python pairs.py | tee output.txt
grep -qx "left out: \[((0, 0), (2, 1)), ((1, 1), (2, 1))\]" output.txt
