#!/usr/bin/env bash
# accelerate 1.15: the optimizer that Accelerator.prepare returns takes a closure, and calls it, but its step returns None.
# Seen: torch.optim.LBFGS returns the loss, the prepared one does not.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 accelerate==1.15.0
venv/bin/python -W ignore - <<'END'
import accelerate
import torch

model = torch.nn.Linear(2, 1)
plain = torch.optim.LBFGS(model.parameters(), max_iter=1)
prepared = accelerate.Accelerator(cpu=True).prepare(plain)
calls = []


def closure():
    plain.zero_grad()
    loss = model(torch.ones(4, 2)).square().mean()
    loss.backward()
    calls.append(loss.item())
    return loss


returned = prepared.step(closure)
print(accelerate.__version__, returned, calls, plain.step(closure))
assert returned is None
assert len(calls) == 2
END
