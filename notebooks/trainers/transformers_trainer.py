"""KFQN in transformers.Trainer, which calls ``step()`` without a closure: with ``kfqn_input``.

Run it: python notebooks/trainers/transformers_trainer.py
"""

from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Trainer, TrainingArguments

from kfqn_ref.optim import KFQN


class WithLoss(nn.Module):
    """A network that returns its loss, as models of transformers do, and notes it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.losses: list[float] = []

    def forward(self, x, labels):
        out = self.net(x)
        loss = F.cross_entropy(out, labels)
        self.losses.append(float(loss.detach()))
        return {"loss": loss, "logits": out}


def train(
    net: nn.Module, batches: list, lr: float = 0.1, preset: str = "kfqn_input", **options
) -> list[float]:
    """Train one epoch on the mini-batches (x, target); return the loss of every forward pass."""
    model = WithLoss(net)
    optimizer = KFQN(model, preset, lr=lr)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    samples = [
        {"x": x, "labels": label}
        for xs, labels in batches
        for x, label in zip(xs, labels, strict=True)
    ]
    given = {
        "per_device_train_batch_size": len(batches[0][1]),
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 1,
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        **options,
    }
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, **given)
        both = (optimizer, constant)
        Trainer(model, arguments, train_dataset=samples, optimizers=both).train()
    return model.losses


if __name__ == "__main__":
    from digits import batches, network

    found = train(network(), batches())
    print(f"loss {found[0]:.3f} -> {found[-1]:.3f}")
