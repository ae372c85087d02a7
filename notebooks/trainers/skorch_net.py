"""KFQN in skorch: the optimizer is made from the module, not from a list of parameters.

Run it: python notebooks/trainers/skorch_net.py
"""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from kfqn_ref.optim import KFQN


class KFQNClassifier(NeuralNetClassifier):
    """skorch's classifier, whose optimizer is KFQN with the classifier's ``lr``."""

    def initialize_optimizer(self, triggered_directly=None):
        self.optimizer_ = KFQN(self.module_, lr=self.lr)
        return self


def train(net: nn.Module, batches: list, lr: float = 0.1, **options) -> list[float]:
    """Train one epoch on the mini-batches (x, target); return the loss of every step."""
    x = torch.cat([x for x, _ in batches]).numpy()
    target = torch.cat([target for _, target in batches]).numpy()
    classifier = KFQNClassifier(
        net,
        criterion=nn.CrossEntropyLoss,
        lr=lr,
        max_epochs=1,
        batch_size=len(batches[0][1]),
        iterator_train__shuffle=False,
        train_split=None,
        verbose=0,
        **options,
    ).fit(x, np.asarray(target))
    return [batch["train_loss"] for batch in classifier.history[-1]["batches"]]


if __name__ == "__main__":
    from digits import batches, network

    found = train(network(), batches())
    print(f"loss {found[0]:.3f} -> {found[-1]:.3f}")
