"""IDX files as the tests write them, from the description of the format."""

import gzip
import struct
from pathlib import Path

import numpy as np

from kfqn_ref.experiments.data import IDX_TYPES, SPLITS

CODES = {np.dtype(name).newbyteorder("="): code for code, name in IDX_TYPES.items()}


def idx(array: np.ndarray) -> bytes:
    """The array as an IDX file, written from the format's description."""
    header = bytes([0, 0, CODES[array.dtype], array.ndim]) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def small_files(folder: Path, *, compressed: bool = True, sizes: tuple[int, int] = (6, 4)) -> None:
    """The four files with a few random images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for (images, labels), size in zip(SPLITS.values(), sizes, strict=True):
        for name, shape, top in ((images, (size, 28, 28), 256), (labels, (size,), 10)):
            content = idx(rng.integers(0, top, shape, dtype=np.uint8))
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(content) if compressed else content)
