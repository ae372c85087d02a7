#!/usr/bin/env bash
# torch 2.13: a deep copy of an optimizer keeps three fields; torch's own LBFGS loses the list of its parameters.
# Seen: LBFGS has _params, its copy has not.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'END'
import copy
import torch

original = torch.optim.LBFGS([torch.nn.Parameter(torch.ones(2))])
twin = copy.deepcopy(original)
print(torch.__version__, sorted(original.__getstate__()), hasattr(original, "_params"), hasattr(twin, "_params"))
assert sorted(original.__getstate__()) == ["defaults", "param_groups", "state"]
assert hasattr(original, "_params")
assert not hasattr(twin, "_params")
END
