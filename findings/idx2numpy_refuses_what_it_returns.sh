#!/usr/bin/env bash
# idx2numpy 1.2.3: the writer refuses arrays that the reader returns. Seen: an int32 array is written and read back; what
# was read has dtype >i4, in the order of the file, and writing it raises FormatError.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check idx2numpy==1.2.3 numpy==2.4.6
cat > again.py <<'END'
import idx2numpy
import numpy as np

labels = np.arange(6, dtype=np.int32)
read = idx2numpy.convert_from_string(idx2numpy.convert_to_string(labels))
print("read:", read.dtype.str, "equal:", np.array_equal(read, labels))
try:
    idx2numpy.convert_to_string(read)
    print("written again")
except idx2numpy.FormatError as error:
    print("written again: refused:", error)
END
venv/bin/python again.py | tee output.txt
grep -qx "read: >i4 equal: True" output.txt
grep -q "^written again: refused: " output.txt
