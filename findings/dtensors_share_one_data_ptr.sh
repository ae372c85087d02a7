#!/usr/bin/env bash
# torch 2.13: Tensor.data_ptr tells tied tensors from others, but every DTensor answers 0. Parameters of a sharded model
# that are compared so look as if all were tied. Seen: two parameters, both 0, and their local shards differ.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'END'
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
mesh = init_device_mesh("cpu", (1,))
first, second = (distribute_tensor(torch.ones(2, 2), mesh, [Shard(0)]) for _ in range(2))
pointers = [tensor.data_ptr() for tensor in (first, second)]
local = [tensor.to_local().data_ptr() for tensor in (first, second)]
print(torch.__version__, pointers, local[0] == local[1])
dist.destroy_process_group()
assert pointers == [0, 0]
assert local[0] != local[1]
END
