"""Settings: wrong ones are refused with the reason, and every listed option is taken by its
optimizer.
"""

import pytest

from kfqn_ref.experiments.data import digits
from kfqn_ref.experiments.models import build_network
from kfqn_ref.experiments.train.engines import build_engine
from kfqn_ref.experiments.train.settings import OPTIMIZERS, Settings, as_dict, resumed
from kfqn_ref.method.presets import PRESETS

WRONG = {
    "optimizer": ({"optimizer": "newton"}, "must be one of kbfgs_2020, .*, got 'newton'"),
    "optimizer of the other engine": (
        {"optimizer": "adamw", "engine": "reference"}, "reference engine"),
    "engine": ({"engine": "jax"}, "torch, reference, got 'jax'"),
    "data": ({"data": "cifar"}, "got 'cifar'"),
    "model": ({"model": "vit"}, "got 'vit'"),
    "dtype": ({"dtype": "int8"}, "got 'int8'"),
    "epochs": ({"epochs": 0}, "epochs must be at least 1, got 0"),
    "batch size": ({"batch_size": -3}, "batch_size must be at least 1, got -3"),
    "train size": ({"train_size": 0}, "train_size must be at least 1"),
    "seed": ({"seed": -1}, "seed must be at least 0"),
    "no damping in sgd": ({"optimizer": "sgd", "damping": 0.1}, "sgd takes lr, .*, not damping"),
    "not finite": ({"lr": float("nan")}, "lr must be finite, got nan"),
}  # fmt: skip  # one case a line


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_refused(case):
    options, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        Settings(**options)


EXAMPLES = {
    "lr": 0.02, "damping": 0.3, "momentum": 0.5, "weight_decay": 0.01, "memory": 3,
    "curvature_interval": 2,
}  # fmt: skip  # a value for each


@pytest.mark.parametrize(
    ("engine", "name"), [(e, n) for e, known in OPTIMIZERS.items() for n in known]
)
def test_every_optimizer_takes_its_options_and_learns(engine, name):
    options = {option: EXAMPLES[option] for option in OPTIMIZERS[engine][name]}
    settings = Settings(engine=engine, optimizer=name, model="mlp", **options)
    assert settings.hyper == options
    train = digits().train
    built = build_engine(settings, build_network("mlp", (8, 8)), train)
    before = built.evaluate(train).loss
    for start in range(0, 1500, 100):
        built.step(range(start, start + 100))  # type: ignore[arg-type]  # indexes like an array
    assert built.evaluate(train).loss < before
    assert set(built.events()) == ({"pairs_damped", "pairs_skipped"} if name in PRESETS else set())


def test_a_resumed_run_keeps_all_but_the_epochs():
    stored = as_dict(Settings(optimizer="adam", lr=0.01, epochs=2))
    assert resumed(stored, {}) == Settings(**stored)
    assert resumed(stored, {"epochs": 7, "lr": 0.01}) == Settings(
        optimizer="adam", lr=0.01, epochs=7
    )
    with pytest.raises(ValueError, match=r"has lr = 0\.01, got 0\.1"):
        resumed(stored, {"lr": 0.1})
