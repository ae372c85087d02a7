"""Train in lives that are killed: ``main(FOLDER)`` leaves their exit codes in ``ends.json``."""

import json
import multiprocessing
import random
from pathlib import Path
from typing import Any

import torch

from kfqn_ref import files
from kfqn_ref.optim import KFQN

from .models import cnn, run

DEATHS = 20
LENGTH = 160  # a life takes two steps and 10 ms at most: none reaches the end before the last


def training(folder: Path, progress: Any) -> None:
    """Train from the latest checkpoint on, with one after every step; tell each step."""
    torch.set_num_threads(1)
    model = cnn(dtype=torch.float32)
    opt = KFQN(model, lr=0.1)
    if (folder / "checkpoint.pt").exists():
        saved = files.load(folder / "checkpoint.pt")
        model.load_state_dict(saved["model"])
        opt.load_state_dict(saved["opt"])
    for k in range(opt.state_dict()["kfqn"]["k"], LENGTH):
        run(opt, model, 1, first=k)
        progress.send(k)
        files.save(folder / "checkpoint.pt", {"model": model.state_dict(), "opt": opt.state_dict()})
    progress.send("done")


def main(folder: Path) -> None:
    """Write the exit codes of 20 lives that are killed in a step or in a write, and of one that is
    not.
    """
    forked = multiprocessing.get_context("fork")
    KFQN(cnn())  # torch imports some of its modules now: once, and not in every life
    rng = random.Random(0)
    codes = []
    for death in range(DEATHS + 1):
        ours, theirs = forked.Pipe(duplex=False)
        process = forked.Process(target=training, args=(folder, theirs))
        process.start()
        theirs.close()
        for _ in range(rng.randint(1, 2)):
            ours.recv()  # a step is done: the checkpoint is being written
        if death < DEATHS:
            process.join(rng.uniform(0, 0.01))
            process.kill()  # SIGKILL
        process.join()
        codes.append(process.exitcode)
    (folder / "ends.json").write_text(json.dumps(codes))
