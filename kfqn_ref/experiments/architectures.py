"""Other people's architectures: what ``KFQN`` covers of each, what it says of the rest, and ten
steps.

Run ``python -m kfqn_ref.experiments.architectures book/data/architectures.json`` where
transformers, timm and torch_geometric are installed. Models are small, weights and data random, and
nothing is downloaded. A line of the table is a fact of one run on one mini-batch that is repeated:
it shows that the optimizer works there, and ranks nothing.
"""

import json
import sys
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.optim import KFQN

STEPS = 10
BATCH = 8
CLASSES = 4
ADAMW_LR = 1e-3
SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": CLASSES,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
}
"""Options that most configurations of transformers know."""


class Case(NamedTuple):
    """An architecture: how to build it, and its logits on the mini-batch.

    Args:
        library, name: where it is from.   build: returns the model.
        logits: runs it on the mini-batch and returns one row of logits a sample (or a node).
        exclude: names of modules that are excluded once the optimizer has asked for it.
    """

    library: str
    name: str
    build: Callable[[], nn.Module]
    logits: Callable[[nn.Module], Tensor]
    exclude: tuple[str, ...] = ()


def _ids() -> Tensor:
    return torch.randint(2, 64, (BATCH, 12), generator=torch.Generator().manual_seed(0))


def _images(size: int) -> Tensor:
    return torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0))


def _of_text(model: nn.Module) -> Tensor:
    return model(_ids()).logits


def _of_language(model: nn.Module) -> Tensor:
    """The logits of the next token, of which the first classes are asked."""
    return model(_ids()).logits[:, -1]


def _of_images(size: int) -> Callable[[nn.Module], Tensor]:
    def logits(model: nn.Module) -> Tensor:
        out = model(_images(size))
        return out if isinstance(out, Tensor) else out.logits

    return logits


def _of_sound(model: nn.Module) -> Tensor:
    x = torch.randn(BATCH, 800, generator=torch.Generator().manual_seed(0))
    return model(x).logits


def from_transformers() -> Iterator[Case]:
    """Yield text, language, image and sound models with small configurations."""
    hf: Any = import_module("transformers")

    def built(auto: Any, kind: str, options: dict[str, Any]) -> Callable[[], nn.Module]:
        return lambda: auto.from_config(hf.AutoConfig.for_model(kind, **options))

    texts: dict[str, dict[str, Any]] = {
        "bert": {},
        "roberta": {},
        "electra": {"embedding_size": 16},
        "albert": {"embedding_size": 16},
        "distilbert": {"dim": 32, "hidden_dim": 64, "n_heads": 2, "n_layers": 2},
        "deberta-v2": {},
        "mpnet": {},
        "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
        "t5": {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16},
        "bart": {
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "eos_token_id": 1,
        },
    }
    for kind, options in texts.items():
        full = {**SMALL, **options}
        logits = _of_text_with_end if kind in ("bart", "t5") else _of_text
        yield Case(
            "transformers",
            f"{kind} (classes)",
            built(hf.AutoModelForSequenceClassification, kind, full),
            logits,
        )
    languages: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
        "gpt_neox": {},
        "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "bloom": {"n_layer": 2, "n_head": 2},
        "llama": {},
        "mistral": {"num_key_value_heads": 2},
        "qwen2": {"num_key_value_heads": 2},
        "gemma": {"num_key_value_heads": 2, "head_dim": 16},
        "phi": {},
        "mixtral": {"num_key_value_heads": 2, "num_local_experts": 2},
        "mamba": {"state_size": 4},
    }
    for kind, options in languages.items():
        full = {**SMALL, **options}
        yield Case(
            "transformers",
            f"{kind} (language)",
            built(hf.AutoModelForCausalLM, kind, full),
            _of_language,
            exclude=("lm_head",),  # where its weight is the embedding's, too
        )
    images: dict[str, dict[str, Any]] = {
        "vit": {},
        "dinov2": {},
        "poolformer": {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]},
        "beit": {},
        "swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        "swinv2": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        "convnext": {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]},
        "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "mobilenet_v2": {"depth_multiplier": 0.25},
    }
    for kind, options in images.items():
        full = {**SMALL, "image_size": 32, "patch_size": 4, **options}
        if kind.startswith("swin"):
            del full["num_attention_heads"]  # a list there, under the name num_heads
        if kind == "poolformer":
            del full["patch_size"]
        yield Case(
            "transformers",
            f"{kind} (images)",
            built(hf.AutoModelForImageClassification, kind, full),
            _of_images(32),
        )
    sound = {
        **SMALL,
        "conv_dim": [16, 16],
        "conv_kernel": [10, 3],
        "conv_stride": [5, 2],
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
    }
    yield Case(
        "transformers",
        "wav2vec2 (sound)",
        built(hf.AutoModelForAudioClassification, "wav2vec2", sound),
        _of_sound,
    )


def _of_text_with_end(model: nn.Module) -> Tensor:
    """The logits of models that read them off the last token, which must be the end's."""
    ids = _ids()
    ids[:, -1] = 1
    return model(input_ids=ids).logits


def from_timm() -> Iterator[Case]:
    """Yield image models; those that begin with ``test_`` are small ones of timm's own tests."""
    _without_torchvision()
    timm: Any = import_module("timm")

    names = {
        "test_resnet": 32,
        "test_efficientnet": 32,
        "test_convnext": 32,
        "test_vit": 160,
        "test_byobnet": 32,
        "test_nfnet": 32,
        "mobilenetv3_small_050": 32,
        "tf_mobilenetv3_small_minimal_100": 32,
        "swinv2_cr_tiny_ns_224": 0,
        "beit_base_patch16_224": 0,
        "regnetx_002": 32,
        "levit_128s": 0,
    }
    small: dict[str, dict[str, Any]] = {
        "swinv2_cr_tiny_ns_224": {
            "img_size": 32,
            "window_size": 4,
            "embed_dim": 16,
            "depths": (1, 1),
            "num_heads": (2, 2),
        },
        "beit_base_patch16_224": {
            "img_size": 32,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
        },
        "levit_128s": {"embed_dim": (16, 24, 32), "num_heads": (2, 2, 2), "depth": (1, 1, 1)},
    }
    sizes = {"levit_128s": 224}
    for name, size in names.items():
        options = small.get(name, {})

        def build(name: str = name, options: dict[str, Any] = options) -> nn.Module:
            return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)

        yield Case("timm", name, build, _of_images(size or sizes.get(name, 32)))


def _without_torchvision() -> None:
    """Let timm load where torchvision is not installed: it needs names that no model here calls."""
    try:
        __import__("torchvision")
    except ImportError:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[name] = _Anything(name)


class _Anything(types.ModuleType):
    """A module that has every name."""

    __path__: Any = []
    __spec__ = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def from_torch_geometric() -> Iterator[Case]:
    """Yield graph models; the nodes of one random graph are the samples."""
    graphs: Any = import_module("torch_geometric.nn")

    rng = torch.Generator().manual_seed(0)
    nodes = torch.randn(40, 8, generator=rng)
    edges = torch.randint(0, 40, (2, 160), generator=rng)

    def logits(model: nn.Module) -> Tensor:
        return model(nodes, edges)

    for name in ("GCN", "GraphSAGE", "GAT", "GIN", "EdgeCNN"):

        def build(name: str = name) -> nn.Module:
            return getattr(graphs, name)(8, 16, 2, CLASSES)

        yield Case("torch_geometric", name, build, logits)


def loss_of(case: Case, model: nn.Module) -> Tensor:
    """Return the cross entropy of random classes."""
    logits = case.logits(model)
    rng = torch.Generator().manual_seed(1)
    return F.cross_entropy(logits, torch.randint(0, CLASSES, (len(logits),), generator=rng))


def train(case: Case, model: nn.Module, opt: torch.optim.Optimizer) -> list[float]:
    """Return the losses before each step, and after the last."""

    def closure() -> Tensor:
        opt.zero_grad()
        torch.manual_seed(0)  # dropout masks, alike for all steps
        loss = loss_of(case, model)
        loss.backward()
        return loss

    losses = []
    for _ in range(STEPS):
        loss: Any = opt.step(closure)  # type: ignore[arg-type]  # a closure returns a loss
        losses.append(loss.item())
    with torch.no_grad():
        torch.manual_seed(0)
        return [*losses, float(loss_of(case, model))]


def seeded(case: Case) -> nn.Module:
    """Return the model with the weights of seed 0."""
    torch.manual_seed(0)
    return case.build().train()


def row_of(case: Case) -> dict[str, Any]:
    """Return the line of the table of one architecture."""
    row: dict[str, Any] = {"library": case.library, "name": case.name}
    model = seeded(case)
    row["weights"] = sum(p.numel() for p in model.parameters())
    adamw = train(case, model, torch.optim.AdamW(model.parameters(), lr=ADAMW_LR))
    row["losses_adamw"] = [adamw[0], adamw[-1]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        row |= outcome(case, ())
        if row["outcome"] == "refused" and case.exclude:
            row |= {**outcome(case, case.exclude), "excluded": [*case.exclude]}
    said = [str(each.message) for each in caught]
    row["warnings"] = [line for line in said if "covered:" in line or "not seen" in line]
    return row


def outcome(case: Case, exclude: Sequence[str]) -> dict[str, Any]:
    """Return what happens with ``KFQN`` at its default options: a training, or a refusal."""
    model = seeded(case)
    try:
        opt = KFQN(model, exclude=exclude)
        facts = described(opt)
        losses = train(case, model, opt)
    except (ValueError, NotImplementedError) as error:
        return {"outcome": "refused", "message": str(error)}
    return {
        "outcome": "trained",
        **facts,
        "losses_kfqn": [losses[0], losses[-1]],
        "skipped_steps": opt.skipped_steps,
        "not_seen": [layer.name for layer in opt.layers if layer not in opt.started],
    }


def described(opt: KFQN) -> dict[str, Any]:
    """Return what is covered, what the rest is and why, and the memory of the factors."""
    total = sum(owned.weights for owned in opt._found)
    covered = sum(owned.weights for owned in opt._found if owned.layer is not None)
    rest = Counter(f"{owned.kind}: {owned.reason}" for owned in opt._found if owned.layer is None)
    return {
        "layers": len(opt.layers),
        "covered": covered / max(total, 1),
        "left_out": dict(rest.most_common()),
        "factor_bytes": sum(opt._factor_bytes.values()),
    }


def cases() -> Iterator[Case]:
    """Yield the architectures of all libraries."""
    yield from from_transformers()
    yield from from_timm()
    yield from from_torch_geometric()


def main(path: Path) -> None:
    """Write the table, with the versions that it was made with."""
    torch.set_num_threads(1)
    rows = []
    for case in cases():
        rows.append(row_of(case))
        print(json.dumps(rows[-1])[:200], flush=True)
    libraries = ("torch", "transformers", "timm", "torch_geometric")
    table = {
        "command": "python -m kfqn_ref.experiments.architectures book/data/architectures.json",
        "versions": {name: version(name) for name in libraries},
        "steps": STEPS,
        "adamw_lr": ADAMW_LR,
        "rows": rows,
    }
    path.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
