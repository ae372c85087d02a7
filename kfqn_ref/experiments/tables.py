"""Data sets as arrays: ``.npz`` files with x and y, and scikit-learn's bundled tables."""

import zipfile
from pathlib import Path

import numpy as np

from kfqn_ref._extras import needs
from kfqn_ref.experiments.idx import DataError
from kfqn_ref.experiments.sets import Data, Split

ARRAYS = "x and y, or x_train, y_train, x_test and y_test"


def bundled(name: str) -> Data:
    """Return one of scikit-learn's bundled sets with classes, each column scaled to [0, 1]."""
    needs("cli", f"the data set {name!r}", "sklearn")
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return _data(name, *_split(x, y))


def npz_file(path: Path) -> Data:
    """Return the arrays of an ``.npz`` file as a data set.

    The file holds x and y, of which a sixth is kept for the test, or x_train, y_train, x_test and
    y_test. x is (N, d), (N, h, w), (N, 1, h, w) or (N, h, w, 1); y is (N,), integers or names.

    Raises:
        DataError: the file cannot be read or is not of this form; the message says what it holds.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name.lower(): stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path} cannot be read as .npz: {error}") from error
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        parts = [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]
        return _data(str(path), *parts)
    if {"x", "y"} <= arrays.keys():
        _check(str(path), arrays["x"], arrays["y"])
        if len(arrays["y"]) < 2:
            raise DataError(f"{path} must hold at least 2 rows, of which one is kept, got 1")
        return _data(str(path), *_split(arrays["x"], arrays["y"]))
    held = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
    raise DataError(f"{path} must hold {ARRAYS}; it holds {held}")


def _split(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Keep a sixth for the test, by a fixed permutation."""
    order = np.random.default_rng(0).permutation(len(y))
    size = max(1, len(y) // 6)
    return x[order[size:]], y[order[size:]], x[order[:size]], y[order[:size]]


def _data(name: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> Data:
    """Scale by the training values and number the classes."""
    for images, labels in ((x, y), (x_test, y_test)):
        _check(name, images, labels)
    names, numbered = np.unique(np.concatenate([y, y_test]), return_inverse=True)
    train = _images(name, x)
    test = _images(name, x_test)
    if train.shape[1:] != test.shape[1:]:
        raise DataError(f"{name}: train and test differ in shape: {x.shape}, {x_test.shape}")
    # a table is scaled column by column, images by one range for all pixels
    axis = 0 if x.ndim == 2 else None
    low = train.min(axis=axis)
    high = train.max(axis=axis)
    scale = np.where(high > low, high - low, 1.0)
    notes = (f"scaled from the training range to [0, 1] and cut there; classes: {_listed(names)}",)
    scaled = [np.clip((images - low) / scale, 0.0, 1.0) for images in (train, test)]
    numbers = numbered.reshape(-1).astype(np.int64)
    return Data(Split(scaled[0], numbers[: len(y)]), Split(scaled[1], numbers[len(y) :]), notes)


def _check(name: str, x: np.ndarray, y: np.ndarray) -> None:
    """Refuse arrays that are not numbers with one class each."""
    if x.dtype.kind not in "biuf" or len(x.shape) == 0 or len(x) == 0:
        raise DataError(f"{name}: x must hold at least one row of real numbers, got {x.dtype}, "
                        f"shape {x.shape}")  # fmt: skip
    if not np.isfinite(x).all():
        raise DataError(f"{name}: x must be finite, got NaN or infinity")
    if y.dtype.kind not in "biuUS" or y.shape != x.shape[:1]:
        raise DataError(
            f"{name}: y must hold one class for each of the {len(x)} rows, integers or names, got "
            f"{y.dtype}, shape {y.shape}"
        )


def _images(name: str, x: np.ndarray) -> np.ndarray:
    """Return x as float64 images (N, 1, height, width); a table has height 1."""
    if x.ndim == 2 and x.shape[1] > 0:
        return x[:, None, None].astype(np.float64)
    if x.ndim == 3 and x.size:
        return x[:, None].astype(np.float64)
    if x.ndim == 4 and x.shape[1] == 1 and x.size:
        return x.astype(np.float64)
    if x.ndim == 4 and x.shape[3] == 1 and x.size:
        return x[:, None, :, :, 0].astype(np.float64)
    raise DataError(
        f"{name}: x must be (N, d), (N, h, w), (N, 1, h, w) or (N, h, w, 1), got {x.shape}; "
        "the networks of this command take one channel"
    )


def _listed(names: np.ndarray) -> str:
    """Return the class names, shortened in the middle."""
    shown = [str(name) for name in names]
    if len(shown) > 10:
        shown = [*shown[:5], "...", shown[-1]]
    return ", ".join(shown)
