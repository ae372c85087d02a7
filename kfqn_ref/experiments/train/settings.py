"""What determines a training run, as one value that is checked once and stored in every
checkpoint.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from kfqn_ref.experiments.data import check_name
from kfqn_ref.experiments.models import MODELS
from kfqn_ref.method.presets import PRESETS

KFQN_OPTIONS = frozenset(
    {"lr", "damping", "momentum", "weight_decay", "memory", "curvature_interval"}
)

# the theorem behind 'convergent' has no momentum
OF_PRESETS = {**dict.fromkeys(PRESETS, KFQN_OPTIONS), "convergent": KFQN_OPTIONS - {"momentum"}}

# engine -> optimizer -> the hyper-parameters it takes; those not given keep the optimizer's own
# default
OPTIMIZERS: dict[str, dict[str, frozenset[str]]] = {
    "torch": {
        **OF_PRESETS,
        "sgd": frozenset({"lr", "momentum", "weight_decay"}),
        "adam": frozenset({"lr", "weight_decay"}),
        "adamw": frozenset({"lr", "weight_decay"}),
    },
    "reference": {
        **OF_PRESETS,
        "sgd": frozenset({"lr", "momentum", "weight_decay"}),
        "adam": frozenset({"lr", "weight_decay"}),
        "kfac": KFQN_OPTIONS - {"memory"},
    },
}
CHOICES = {
    "engine": tuple(OPTIMIZERS),
    "model": MODELS,
    "dtype": ("float32", "float64"),
}


@dataclass(frozen=True)
class Settings:
    """A run. ``None`` stands for the optimizer's own default, and for all training images.

    Raises:
        ValueError: a choice does not exist, a number is out of range, or the optimizer has no such
            option.
    """

    optimizer: str = "kfqn_cnn"
    engine: str = "torch"
    data: str = "digits"
    transposed: bool = False
    model: str = "cnn"
    epochs: int = 10
    batch_size: int = 100
    train_size: int | None = None
    lr: float | None = None
    damping: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    memory: int | None = None
    curvature_interval: int | None = None
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_name(self.data)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        known = OPTIMIZERS[self.engine]
        if self.optimizer not in known:
            raise ValueError(
                f"the optimizer of the {self.engine} engine must be one of {', '.join(known)}, "
                f"got {self.optimizer!r}"
            )
        for name, least in (("epochs", 1), ("batch_size", 1), ("train_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        unknown = sorted(set(self.hyper) - known[self.optimizer])
        if unknown:
            raise ValueError(
                f"{self.optimizer} takes {', '.join(sorted(known[self.optimizer]))}, not "
                f"{unknown[0]}"
            )
        infinite = [
            f"{name} must be finite, got {v}"
            for name, v in self.hyper.items()
            if not math.isfinite(v)
        ]
        if infinite:
            raise ValueError(infinite[0])

    @property
    def hyper(self) -> dict[str, Any]:
        """The hyper-parameters that were given."""
        names = sorted(KFQN_OPTIONS)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def resumed(stored: dict[str, Any], given: dict[str, Any]) -> Settings:
    """The settings of a stored run, to be continued: only ``epochs`` may be given anew.

    Raises:
        ValueError: another option is given with a value that differs from the stored one.
    """
    for name, value in given.items():
        if name != "epochs" and stored.get(name) != value:
            raise ValueError(f"the run to resume has {name} = {stored.get(name)}, got {value}")
    return replace(Settings(**stored), epochs=given.get("epochs", stored["epochs"]))


def as_dict(settings: Settings) -> dict[str, Any]:
    """The settings as JSON and checkpoints hold them."""
    return asdict(settings)
