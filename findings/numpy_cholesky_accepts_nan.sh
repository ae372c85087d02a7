#!/usr/bin/env bash
# NumPy 2.4: cholesky raises LinAlgError for a matrix that is not positive definite, but not for one with NaN; torch 2.13
# raises for both. Seen: NumPy returns NaN without a word.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'END'
import numpy as np
import torch

bad = np.array([[1.0, 0.0], [0.0, np.nan]])
factor = np.linalg.cholesky(bad)
print(np.__version__, factor.tolist(), torch.__version__)
assert np.isnan(factor[1, 1])
try:
    np.linalg.cholesky(np.diag([1.0, -1.0]))
except np.linalg.LinAlgError:
    pass
else:
    raise AssertionError("an indefinite matrix must be refused")
try:
    torch.linalg.cholesky(torch.tensor(bad))
except torch.linalg.LinAlgError:
    pass
else:
    raise AssertionError("torch must refuse NaN")
END
