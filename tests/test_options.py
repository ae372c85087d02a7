"""An option has one name in the reference and in torch, and one meaning: the same default, and the
same place in every preset.
"""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kfqn_ref.method.options import Options
from kfqn_ref.method.presets import PRESETS
from kfqn_ref.method.step import KFQN as Reference
from kfqn_ref.optim import KFQN
from kfqn_ref.optim.presets import PRESETS as OF_TORCH
from kfqn_ref.optim.presets import Preset

ONLY_TORCH = {
    "model": "the optimizer holds the model that it trains",
    "preset": "the reference's function preset takes the name",
    "loss_reduction": "the reference's loss is always a mean",
    "decoupled": "weight decay outside the gradient is not in the papers",
    "exclude": "the reference has no parameters outside its blocks",
    "groups": "the reference has one set of values for all blocks",
    "factor_ownership": "the reference runs in one process",
    "compile": "the reference is not compiled",
    "other_lr": "the reference has no parameters outside its blocks",
    "other_betas": "the reference has no parameters outside its blocks",
    "other_weight_decay": "the reference has no parameters outside its blocks",
    "sample_axis": "the reference has the samples on the first axis",
    "max_factor_bytes": "the reference is for small networks",
}
"""Options that the reference has no use for, and why."""

PRESET_ONLY_TORCH = {
    "name": "the key of the reference's table",
    "damping_below": "belongs to the reference's damping of the pair",
    "convergent": "the class Convergent",
}
ONLY_REFERENCE = {"options": "holds what a Preset of torch holds"}
OPTIONS_ONLY_REFERENCE = {
    "input_inverse": "an argument of torch's optimizer; the preset convergent has the exact one",
    "starts_from_batch": "part of torch's convergent",
}


def names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def arguments() -> set[str]:
    return set(inspect.signature(KFQN).parameters)


def test_arguments_have_the_names_of_the_reference() -> None:
    shared = arguments() - ONLY_TORCH.keys()
    of_values = {"lean_above"}  # an argument of the reference's LbfgsInput
    assert shared - of_values == names(Reference) - ONLY_REFERENCE.keys() | {"input_inverse"}
    assert ONLY_TORCH.keys() <= arguments()


def test_presets_have_the_names_of_the_reference() -> None:
    of_presets = names(Preset) - PRESET_ONLY_TORCH.keys() - names(Reference)
    assert of_presets == names(Options) - OPTIONS_ONLY_REFERENCE.keys()
    assert PRESETS.keys() == OF_TORCH.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_values_of_the_reference(name: str) -> None:
    method = PRESETS[name]
    preset = OF_TORCH[name]
    for key in names(Preset) & names(Reference):
        assert getattr(preset, key) == getattr(method, key), key
    for key in ("averages_A", "skip_below", "linear_only", "eager_steps", "square_decay"):
        assert getattr(preset, key) == getattr(method.options, key), key
    ours = preset.direction
    theirs = method.options.direction
    assert type(ours).__name__ == type(theirs).__name__
    assert vars(ours) == vars(theirs)
    assert preset.convergent is not method.options.starts_from_batch
    assert (preset.damping_below < float("inf")) == (method.options.damp.damping_below is not None)
    for T in (1, 9):
        assert preset.split(0.3, T) == pytest.approx(method.options.split(0.3, T), rel=1e-15)


def test_the_book_has_a_table_of_the_options() -> None:
    text = (Path(__file__).parents[1] / "book" / "notation.md").read_text(encoding="utf-8")
    section = text.split("## Options\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    of_options = names(Options) - {"starts_from_batch"}
    assert sorted(listed) == sorted((arguments() - ONLY_TORCH.keys()) | of_options)


def test_defaults_are_the_same() -> None:
    given = inspect.signature(KFQN).parameters
    for name in arguments() & names(Reference):
        default = given[name].default
        # None: the preset says
        assert default is None or default == getattr(PRESETS["kfqn_cnn"], name), name
