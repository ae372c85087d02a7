#!/usr/bin/env bash
# torch 2.13: Optimizer.load_state_dict casts each tensor of the state to the parameter's floating dtype, and integers too;
# only the key "step" is spared. Seen: a counter of 257 comes back as 256 in bfloat16.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'END'
import torch

weight = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
optimizer = torch.optim.SGD([weight], lr=0.1)
saved = optimizer.state_dict()
saved["state"] = {0: {"step": torch.tensor(257), "updates": torch.tensor(257)}}
optimizer.load_state_dict(saved)
state = optimizer.state[weight]
print(torch.__version__, state)
assert state["step"].dtype == torch.int64
assert state["step"].item() == 257
assert state["updates"].dtype == torch.bfloat16
assert state["updates"].item() == 256
END
