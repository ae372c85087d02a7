#!/usr/bin/env bash
# SciPy 1.17: LbfgsInvHessProduct is an L-BFGS approximation of an inverse Hessian, which is positive definite only if every
# pair has s'y > 0. The class does not ask. Seen: the pair s = e1, y = -e1 gives diag(-1, 1): -H g then climbs.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
venv/bin/python -W ignore - <<'END'
import numpy as np
import scipy
from scipy.optimize import LbfgsInvHessProduct

H = LbfgsInvHessProduct(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]]))
gradient = np.array([1.0, 0.0])
print(scipy.__version__, H.todense().tolist(), "slope", -gradient @ H.matvec(gradient))
assert H.todense().tolist() == [[-1.0, 0.0], [0.0, 1.0]]
assert -gradient @ H.matvec(gradient) > 0
END
