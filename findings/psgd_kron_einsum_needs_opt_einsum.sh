#!/usr/bin/env bash
# pytorch-optimizer 4.1: Kron (PSGD) calls torch.einsum with nine operands. Without the optional package opt_einsum torch
# contracts from left to right, so that the factors of a kernel first become one outer product. Seen: for a kernel of 144
# numbers the largest tensor of a step has 144 x 144 numbers, and 144 with opt_einsum.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 pytorch-optimizer==4.1.0 opt-einsum==3.4.0
venv/bin/python -W ignore - <<'END'
import torch
from pytorch_optimizer import Kron
from torch.utils._python_dispatch import TorchDispatchMode


class Largest(TorchDispatchMode):
    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


assert torch.backends.opt_einsum.is_available()
kernel = torch.nn.Parameter(torch.ones(4, 4, 3, 3))
kernel.grad = torch.randn(4, 4, 3, 3)
optimizer = Kron([kernel])
largest = {}
for enabled in (False, True):  # False: as if opt_einsum were not installed
    torch.backends.opt_einsum.enabled = enabled
    with Largest() as seen:
        optimizer.step()
    largest[enabled] = seen.numbers
print(torch.__version__, largest)
assert largest == {False: 144**2, True: 144}
END
