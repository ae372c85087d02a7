"""Data sets to train on: bundled ones, image sets in IDX files, and ``.npz`` files.

Everything becomes images (N, 1, height, width) with values in [0, 1] and classes 0, 1, ...; a
table of numbers becomes images of one row.
"""

from pathlib import Path

import numpy as np

from kfqn_ref._extras import needs
from kfqn_ref.experiments.idx import HOW_TO_GET, IDX_TYPES, DataError, read_idx
from kfqn_ref.experiments.idx_folder import IMAGE_SETS, SPLITS, find_files
from kfqn_ref.experiments.sets import Data, Split

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
TABLES = ("iris", "wine", "breast_cancer")  # scikit-learn's bundled sets with classes
TRANSPOSED = "the images were transposed, because the files store them so"
AS_STORED = "the images are shown as stored; EMNIST's are transposed: add --transposed if so"


def check_name(name: str) -> None:
    """Raise ``ValueError`` unless ``name`` is a data set or an ``.npz`` file."""
    known = ("digits", *IMAGE_SETS, *TABLES)
    if name not in known and not name.endswith(".npz") and not name.startswith("emnist-"):
        choices = ", ".join(f"'{other}'" for other in known)
        raise DataError(
            f"the data must be {choices}, 'emnist-letters' or the like, or a file that ends in "
            f".npz, got {name!r}"
        )


def load_data(name: str, data_dir: Path | None = None, *, transposed: bool = False) -> Data:
    """Load a data set by the name that ``kfqn train --data`` takes.

    Args:
        name: ``digits``, one of ``TABLES``, an image set in IDX files, or the path of an ``.npz``.
        data_dir: the folder of the IDX files; Fashion-MNIST has a default.
        transposed: swap height and width, as for EMNIST files under other names.
    """
    check_name(name)
    if name in IMAGE_SETS or name.startswith("emnist-"):
        return idx_set(name, data_dir, transposed=transposed)
    if data_dir is not None:
        raise DataError(f"{name} is bundled or a file: the data need no folder, got {data_dir}")
    if transposed:
        raise DataError(f"--transposed is for IDX files, got {name}")
    if name == "digits":
        return digits()
    from kfqn_ref.experiments.tables import bundled, npz_file

    return npz_file(Path(name)) if name.endswith(".npz") else bundled(name)


def digits(test_size: int = 297) -> Data:
    """The 1,797 digits of scikit-learn, 8x8, split once by a fixed permutation."""
    needs("cli", "the data set 'digits'", "sklearn")
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
    return idx_set("fashion-mnist", data_dir)


def idx_set(name: str, data_dir: Path | None, *, transposed: bool = False) -> Data:
    """An image set of 28x28 pixels from its four IDX files below ``data_dir``.

    EMNIST is recognised by its name: its images are transposed, and the labels of its letters
    start at 1. QMNIST is recognised by its labels of 8 columns; the first is the class.

    Raises:
        DataError: a file is missing, truncated, of another format, or does not match its partner.
    """
    if data_dir is None and name != "fashion-mnist":
        raise DataError(f"{name} needs the folder of its four IDX files: give --data-dir")
    family, files = find_files(data_dir or DEBIAN_FASHION_MNIST, name)
    emnist = name.startswith("emnist") or family.startswith("emnist")
    splits = [
        _read_split(files[split, "images"], files[split, "labels"], emnist, transposed)
        for split in SPLITS
    ]
    notes = (TRANSPOSED,) if emnist or transposed else (AS_STORED,)
    return Data(splits[0], splits[1], notes)


def _read_split(images_path: Path, labels_path: Path, emnist: bool, transposed: bool) -> Split:
    images = read_idx(images_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise DataError(
            f"{images_path} must hold 28x28 images of unsigned bytes, got shape {images.shape}, "
            f"type {images.dtype}; {HOW_TO_GET}"
        )
    labels = _read_labels(labels_path, images_path, len(images), emnist)
    if emnist or transposed:
        images = images.swapaxes(1, 2)
    return Split(images[:, None] / 255.0, labels)


def _read_labels(path: Path, images_path: Path, size: int, emnist: bool) -> np.ndarray:
    """Return the classes of ``size`` images, from 0."""
    labels = read_idx(path)
    if labels.dtype == np.int32 and labels.shape == (size, 8):  # QMNIST: class, writer, ...
        labels = labels[:, 0].astype(np.uint8)
    highest = 61 if emnist else 9  # EMNIST has up to 62 classes
    if labels.dtype != np.uint8 or labels.shape != (size,) or labels.max() > highest:
        largest = labels.max(initial=0)
        raise DataError(
            f"{path} must hold {size} classes 0..{highest}, one for each image of "
            f"{images_path.name}, got shape {labels.shape}, type {labels.dtype}, largest "
            f"{largest}{_looks_like_emnist(labels, emnist)}; {HOW_TO_GET}"
        )
    # the labels of EMNIST's letters are 1..26
    first = 1 if emnist and labels.min() == 1 and labels.max() == 26 else 0
    return labels.astype(np.int64) - first


def _looks_like_emnist(labels: np.ndarray, emnist: bool) -> str:
    """Return a hint if the labels are those of EMNIST under another name."""
    fits = labels.dtype == np.uint8 and labels.ndim == 1 and 10 <= labels.max(initial=0) <= 61
    if not fits or emnist:
        return ""
    return " (if these are EMNIST's files, renamed: --data emnist)"


__all__ = [
    "DEBIAN_FASHION_MNIST",
    "IDX_TYPES",
    "IMAGE_SETS",
    "SPLITS",
    "TABLES",
    "Data",
    "DataError",
    "Split",
    "check_name",
    "digits",
    "fashion_mnist",
    "idx_set",
    "load_data",
    "read_idx",
]
