"""Files that are whole or absent: atomic writes, and checkpoints of nested values.

A checkpoint is a torch file that ``torch.load(..., weights_only=True)`` reads: dicts, lists,
numbers, strings, tensors. States of the reference are frozen dataclasses and named tuples of
arrays; :func:`pack` turns them into that form and :func:`unpack` back.
"""

import io
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another run; the message names it and says why."""


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``: whenever the process dies, the old or the new file is there,
    whole.

    Raises:
        OSError: the file cannot be written, with its name; the old one is as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()  # a full disk gets back the room that the part takes
        raise OSError(error.errno, error.strerror, str(path)) from error
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    import torch  # here: plain files need none, and it takes seconds

    buffer = io.BytesIO()
    torch.save({"version": VERSION, **content}, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: there is none, it is damaged, or another version wrote it.
    """
    import torch

    try:
        content = torch.load(path, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        found = content.get("version") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} must be a checkpoint of version {VERSION}, got {found}")
    return content


def pack(value: Any) -> Any:
    """Return the value as nested lists, dicts, numbers and tensors; :func:`unpack` inverts it."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        import torch

        # the order of axes in memory is kept, since it decides how sums are rounded
        return torch.from_numpy(value.copy(order="K"))
    if is_dataclass(value) or hasattr(value, "_fields"):
        kind = type(value)
        names = [f.name for f in fields(value)] if is_dataclass(value) else value._fields
        packed = {name: pack(getattr(value, name)) for name in names}
        return {"type": f"{kind.__module__}:{kind.__qualname__}", **packed}
    if isinstance(value, tuple):
        return {"tuple": [pack(item) for item in value]}
    raise TypeError(
        f"a state must consist of arrays, numbers, tuples and dataclasses, got {type(value)}"
    )


def unpack(value: Any) -> Any:
    """Return the value that :func:`pack` was given.

    Raises:
        CheckpointError: a type is named that is not a dataclass or named tuple of this package.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value.numpy().copy(order="K")
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(unpack(item) for item in value["tuple"])
    parts = {name: unpack(item) for name, item in value.items() if name != "type"}
    return _type(value["type"])(**parts)


def _type(name: str) -> Callable[..., Any]:
    """Return the dataclass or named tuple of that name, of this package alone."""
    module, _, qualname = name.partition(":")
    kind = None
    if module.split(".")[0] == "kfqn_ref":
        kind = getattr(import_module(module), qualname, None)
    if not (isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields"))):
        raise CheckpointError(f"a state may only hold values of this package, got {name}")
    return kind
