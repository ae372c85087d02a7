#!/usr/bin/env bash
# torch 2.13: a tensor hook on the output of nn.Linear is lost after an in-place ReLU only with a bias on three axes.
# Seen: (2, 3) with bias: called; (2, 4, 3) with bias: lost; without bias: called.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'END'
import torch
from torch import nn

def called(shape, bias):
    seen = []
    y = nn.Linear(3, 2, bias=bias)(torch.randn(shape))
    y.register_hook(lambda gradient: seen.append(gradient))
    y.relu_()
    y.sum().backward()
    return bool(seen)

found = {(shape, bias): called(shape, bias) for shape in ((2, 3), (2, 4, 3)) for bias in (True, False)}
print(torch.__version__, found)
lost = [case for case, was_called in found.items() if not was_called]
assert lost == [((2, 4, 3), True)], lost
END
