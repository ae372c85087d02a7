"""Real images: scikit-learn's bundled digits, and Fashion-MNIST from its four IDX files.

The IDX layout is that of the MNIST files: two zero bytes, a type code, the number of axes, each
axis as a big-endian 32-bit integer, then the numbers.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FOLDERS = (".", "FashionMNIST/raw", "raw")  # as Debian lays the files out, and as torchvision does
IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
SPLITS = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
          # two aligned lines
          "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip
HOW_TO_GET = (
    "to get Fashion-MNIST: 'apt-get install dataset-fashion-mnist' on Debian, or "
    "torchvision.datasets.FashionMNIST(DIR, download=True), then --data-dir DIR"
)


class DataError(ValueError):
    """A data file is missing, or is not what it must be; the message names it and says how to get
    it.
    """


class Split(NamedTuple):
    """Images ``x`` (N, 1, height, width) in [0, 1] and their classes ``y`` (N,), integers from
    0.
    """

    x: np.ndarray
    y: np.ndarray


class Data(NamedTuple):
    """A data set: what is trained on, and what is only looked at."""

    train: Split
    test: Split

    @property
    def fingerprint(self) -> int:
        """CRC-32 of all arrays, by which a resumed run knows its data again."""
        crc = 0
        for array in (*self.train, *self.test):
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return crc

    def first(self, size: int) -> "Data":
        """The same data with only the first ``size`` training images."""
        if not 1 <= size <= len(self.train.y):
            raise DataError(f"the training size must be in 1..{len(self.train.y)}, got {size}")
        return Data(Split(self.train.x[:size], self.train.y[:size]), self.test)


def load_data(name: str, data_dir: Path | None = None) -> Data:
    """Load ``digits`` (bundled) or ``fashion-mnist`` (from ``data_dir``, else where Debian installs
    it).
    """
    if name == "digits" and data_dir is not None:
        raise DataError(f"the digits come with scikit-learn and need no folder, got {data_dir}")
    if name == "digits":
        return digits()
    if name == "fashion-mnist":
        return fashion_mnist(data_dir or DEBIAN_FASHION_MNIST)
    raise DataError(f"the data must be 'digits' or 'fashion-mnist', got {name!r}")


def digits(test_size: int = 297) -> Data:
    """The 1,797 digits of scikit-learn, 8x8, split once by a fixed permutation."""
    from sklearn.datasets import load_digits  # 1 s to import, needed here only

    pixels, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(classes))
    x = pixels[order].reshape(-1, 1, 8, 8) / 16.0
    y = classes[order].astype(np.int64)
    return Data(Split(x[test_size:], y[test_size:]), Split(x[:test_size], y[:test_size]))


def fashion_mnist(data_dir: Path) -> Data:
    """The images of Fashion-MNIST, 28x28, from the four IDX files below ``data_dir``, gzip or not.

    Raises:
        DataError: a file is missing, truncated, of another format, or does not match its partner.
    """
    folder = _folder(data_dir)
    return Data(_read_split(folder, "train"), _read_split(folder, "test"))


def _folder(data_dir: Path) -> Path:
    """The first of the known layouts that holds any of the files: layouts are never mixed."""
    names = [name for pair in SPLITS.values() for name in pair]
    for folder in (data_dir / part for part in FOLDERS):
        if any(_find(folder, name) for name in names):
            return folder
    where = (
        "does not exist" if not data_dir.exists() else f"has none of the files {names[0]}[.gz], ..."
    )
    raise DataError(f"{data_dir} {where}; {HOW_TO_GET}")


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_split(folder: Path, split: str) -> Split:
    images_path, labels_path = (
        _find(folder, name) or _missing(folder, name) for name in SPLITS[split]
    )
    images = read_idx(images_path)
    labels = read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise DataError(
            f"{images_path} must hold 28x28 images of unsigned bytes, got shape {images.shape}, "
            f"type {images.dtype}; {HOW_TO_GET}"
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or labels.max() > 9:
        raise DataError(
            f"{labels_path} must hold {len(images)} classes 0..9, one for each image of "
            f"{images_path.name}, got shape {labels.shape}, type {labels.dtype}, "
            f"largest {labels.max(initial=0)}; {HOW_TO_GET}"
        )
    return Split(images[:, None] / 255.0, labels.astype(np.int64))


def _missing(folder: Path, name: str) -> Path:
    raise DataError(f"{folder / name} is missing (and {name}.gz too); {HOW_TO_GET}")


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, gzip or not (seen from its first bytes, not from its name).

    Raises:
        DataError: the file is not IDX, or holds fewer or more bytes than its header says.
    """
    raw = _read_bytes(path)
    axes = raw[3] if len(raw) >= 4 else 0
    if raw[:2] != b"\0\0" or axes == 0 or raw[2] not in IDX_TYPES or len(raw) < 4 + 4 * axes:
        raise DataError(
            f"{path} is not an IDX file: it starts with {raw[:4].hex(' ') or 'nothing'}; "
            f"{HOW_TO_GET}"
        )
    dtype = np.dtype(IDX_TYPES[raw[2]])
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=axes, offset=4))
    body = len(raw) - 4 - 4 * axes
    wanted = math.prod(shape) * dtype.itemsize
    if body != wanted:
        kind = "truncated" if body < wanted else "too long"
        raise DataError(
            f"{path} is {kind}: its header {shape} needs {wanted} bytes, got {body}; {HOW_TO_GET}"
        )
    return (
        np.frombuffer(raw, dtype, offset=4 + 4 * axes)
        .reshape(shape)
        .astype(dtype.newbyteorder("="))
    )


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise DataError(f"{path} cannot be read ({error}); {HOW_TO_GET}") from error
