"""KFQN in PyTorch Lightning: the closure that Lightning hands over is all that the optimizer needs.

Run it: python notebooks/trainers/lightning_trainer.py
"""

import lightning
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from kfqn_ref.optim import KFQN

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


class Classifier(lightning.LightningModule):
    """A network with its loss; Lightning calls ``training_step`` twice a step."""

    def __init__(self, net: nn.Module, **options):
        super().__init__()
        self.net = net
        self.options = options
        self.losses = []

    def training_step(self, batch, index):
        x, target = batch
        loss = F.cross_entropy(self.net(x), target)
        if not self.optimizers().in_second_pass:  # logs and metrics count the first pass alone
            self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self):
        return KFQN(self.net, **self.options)


def train(net: nn.Module, batches: list, lr: float = 0.1, **trainer) -> list[float]:
    """Train one epoch on the mini-batches (x, target); return the loss of every step."""
    module = Classifier(net, lr=lr)
    options = {"max_epochs": 1, "accelerator": "cpu", "devices": 1, **QUIET, **trainer}
    fit = lightning.Trainer(enable_model_summary=False, **options).fit
    fit(module, DataLoader(batches, batch_size=None))
    return module.losses


if __name__ == "__main__":
    from digits import batches, network

    found = train(network(), batches())
    print(f"loss {found[0]:.3f} -> {found[-1]:.3f}")
