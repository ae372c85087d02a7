"""Real images: what is read is what the files hold, and a bad file is named together with the
cure.
"""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from kfqn_ref.experiments.data import (
    DEBIAN_FASHION_MNIST,
    SPLITS,
    DataError,
    digits,
    fashion_mnist,
    load_data,
    read_idx,
)

from .idx_files import CODES, idx, small_files

FOLDERS = (".", "FashionMNIST/raw", "raw")
NAMES = [name for pair in SPLITS.values() for name in pair]


@given(st.data(), st.sampled_from(sorted(CODES, key=str)), st.booleans())
def test_read_idx_inverts_writing(tmp_path_factory, data, dtype, compressed):
    shape = data.draw(array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    array = data.draw(arrays(dtype, shape))
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    read = read_idx(path)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_digits_are_split_once_and_scaled():
    data = digits()
    assert data.train.x.shape == (1500, 1, 8, 8)
    assert data.test.x.shape == (297, 1, 8, 8)
    for x, y in data:
        assert x.min() == 0
        assert x.max() == 1
        assert set(y) == set(range(10))
    assert data.fingerprint == digits().fingerprint
    together = np.concatenate([data.train.x, data.test.x]).reshape(1797, 64) * 16
    from sklearn.datasets import load_digits

    pixels, _ = load_digits(return_X_y=True)
    assert sorted(map(tuple, together)) == sorted(map(tuple, pixels))


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("compressed", [True, False])
def test_every_layout_gives_the_same_data(tmp_path, folder, compressed):
    small_files(tmp_path / "plain")
    small_files(tmp_path / "other" / folder, compressed=compressed)
    data = fashion_mnist(tmp_path / "other")
    assert data.train.x.shape == (6, 1, 28, 28)
    assert data.test.y.shape == (4,)
    assert data.train.x.max() <= 1
    assert data.fingerprint == fashion_mnist(tmp_path / "plain").fingerprint


@pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir(), reason="the Debian package is not installed here"
)
def test_the_real_fashion_mnist():
    data = load_data("fashion-mnist")
    assert data.train.x.shape == (60_000, 1, 28, 28)
    assert data.test.x.shape == (10_000, 1, 28, 28)
    assert np.bincount(data.train.y).tolist() == [6000] * 10
    assert np.bincount(data.test.y).tolist() == [1000] * 10
    assert data.train.x.max() == 1


def broken(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def images(*shape: int) -> bytes:
    return idx(np.zeros(shape, np.uint8))


BAD_FILES = {
    "missing": (NAMES[2], None, "is missing"),
    "truncated": (NAMES[0], images(6, 28, 28)[:-1], "is truncated"),
    "too long": (NAMES[0], images(6, 28, 28) + b"x", "is too long"),
    "no bytes": (NAMES[1], b"", "not an IDX file"),
    "header cut": (NAMES[0], images(6, 28, 28)[:9], "not an IDX file"),
    "foreign": (NAMES[3], b"\x89PNG\r\n\x1a\n and so on", "not an IDX file"),
    "unknown type": (NAMES[0], b"\0\0\x07\x01\0\0\0\0", "not an IDX file"),
    "no axes": (NAMES[0], b"\0\0\x08\0", "not an IDX file"),
    "truncated gzip": (NAMES[0], gzip.compress(images(6, 28, 28))[:-9], "cannot be read"),
    "damaged gzip": (NAMES[0], gzip.compress(images(6, 28, 28))[:10] + bytes(20), "cannot be read"),
    "other size": (NAMES[0], images(6, 32, 32), "28x28"),
    "no images": (NAMES[0], images(0, 28, 28), "28x28"),
    "floats": (NAMES[0], idx(np.zeros((6, 28, 28), np.float32)), "unsigned bytes"),
    "labels of another split": (NAMES[1], images(4), "6 classes"),
    "images as labels": (NAMES[1], images(6, 28, 28), "6 classes"),
    "eleventh class": (NAMES[1], idx(np.full(6, 10, np.uint8)), "largest 10"),
}  # fmt: skip  # one case a line


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_the_cure(tmp_path, case):
    name, content, words = BAD_FILES[case]
    small_files(tmp_path, compressed=False)
    (tmp_path / name).unlink()
    if content is not None:
        broken(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        fashion_mnist(tmp_path)
    message = str(caught.value)
    assert str(tmp_path / name) in message
    assert words in message
    assert "dataset-fashion-mnist" in message
    assert "torchvision" in message


def test_a_directory_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist; to get Fashion-MNIST"):
        fashion_mnist(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has none of the files train-images"):
        fashion_mnist(tmp_path)


def test_layouts_are_not_mixed(tmp_path):
    small_files(tmp_path / "raw")
    (tmp_path / "raw" / f"{NAMES[0]}.gz").rename(tmp_path / f"{NAMES[0]}.gz")
    with pytest.raises(DataError, match="not mixed, so one is missing"):
        fashion_mnist(tmp_path)


def test_an_unreadable_path_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_names_and_sizes_are_checked():
    with pytest.raises(DataError, match=r"'digits', 'fashion-mnist', .*, got 'cifar'"):
        load_data("cifar")
    with pytest.raises(DataError, match="need no folder, got somewhere"):
        load_data("digits", Path("somewhere"))
    for size in (0, 1501):
        with pytest.raises(DataError, match=rf"1\.\.1500, got {size}"):
            digits().first(size)
    assert digits().first(7).train.x.shape == (7, 1, 8, 8)


def test_the_fingerprint_sees_every_array():
    data = digits().first(20)
    for split in range(2):
        for part in range(2):
            changed = [list(s) for s in data]
            changed[split][part] = changed[split][part].copy()
            changed[split][part].flat[0] += 1
            other = type(data)(*(type(data.train)(*s) for s in changed))
            assert other.fingerprint != data.fingerprint
