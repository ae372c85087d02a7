#!/usr/bin/env bash
# torch 2.13: torch.distributed.checkpoint.load fills a template of the saved shape. Under an integer key, as the states of
# an optimizer have, tensors arrive, but numbers land beside it under the key as text. Seen: 0 keeps the old number.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'END'
import torch
import torch.distributed.checkpoint as dcp

dcp.save({"state": {0: {"step": 3, "mean": torch.ones(2)}}}, checkpoint_id="saved")
loaded = {"state": {0: {"step": 0, "mean": torch.zeros(2)}}}
dcp.load(loaded, checkpoint_id="saved")
print(torch.__version__, loaded)
assert loaded["state"][0]["mean"].tolist() == [1, 1]
assert loaded["state"][0]["step"] == 0
assert loaded["state"]["0"] == {"step": 3}
END
