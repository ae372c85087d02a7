"""One rank of a trainer, started by torchrun, writes its weights: ``ranks.py TRAINER FOLDER``."""

import importlib
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from plain import batches, halved, network, weights
from torch import Tensor, nn

from kfqn_ref.optim import KFQN

RANK = int(os.environ["RANK"])
WORLD = int(os.environ["WORLD_SIZE"])
F64 = torch.float64


def shards() -> list[tuple[Tensor, Tensor]]:
    """The mini-batches of this rank."""
    return [(x.chunk(WORLD)[RANK], target.chunk(WORLD)[RANK]) for x, target in batches(F64)]


def with_accelerate(net: nn.Module) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, opt = accelerator.prepare(net, KFQN(net, lr=0.1))
    for x, target in shards():

        def closure(x: Tensor = x, target: Tensor = target) -> Tensor:
            opt.zero_grad()
            loss = F.cross_entropy(model(x), target)
            accelerator.backward(loss)
            return loss

        opt.step(closure)


def with_lightning(net: nn.Module) -> None:
    import lightning
    from torch.utils.data import DataLoader

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> KFQN:
            return KFQN(self.net, lr=0.1)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=WORLD,
        strategy="ddp",
        use_distributed_sampler=False,
        enable_model_summary=False,
        precision="64-true",
        **quiet,
    ).fit(Module(), DataLoader(shards(), batch_size=None))


def with_transformers(net: nn.Module) -> None:
    """The ranks take the halves of every mini-batch in turns, as the trainer deals them out."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks/trainers"))
    transformers_trainer = importlib.import_module("transformers_trainer")
    transformers_trainer.train(net, halved(batches(F64)))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    net = network(F64)
    runs = {
        "accelerate": with_accelerate,
        "lightning": with_lightning,
        "transformers": with_transformers,
    }
    runs[sys.argv[1]](net)
    torch.save(weights(net), Path(sys.argv[2]) / f"{RANK}.pt")
