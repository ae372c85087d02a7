#!/usr/bin/env bash
# torch 2.13: GradScaler.step refuses a closure that is given by keyword, and passes on one that is given by position.
# Seen: keyword: RuntimeError; position: the closure is called and its loss returned.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'END'
import torch

weights = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([weights], lr=0.1)
scaler = torch.amp.GradScaler("cpu")
calls = []

def closure():
    calls.append(1)
    return weights.sum()

scaler.scale(weights.sum()).backward()
try:
    scaler.step(optimizer, closure=closure)
    raise SystemExit("a closure by keyword was accepted")
except RuntimeError as error:
    print(torch.__version__, "keyword:", error)
assert calls == []
loss = scaler.step(optimizer, closure)
print("position:", loss, "calls:", len(calls))
assert len(calls) == 1
END
