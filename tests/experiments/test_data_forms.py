"""The forms in which people have data: each is read rightly, or refused by its name."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from kfqn_ref.experiments.data import SPLITS, TABLES, DataError, load_data

from .idx_files import idx, small_files

NAMES = [name for pair in SPLITS.values() for name in pair]


def renamed(folder: Path, new_name) -> Path:
    """The four small files under other names or in other places."""
    small_files(folder, compressed=False)
    for name in NAMES:
        path = folder / new_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return folder


ON_DISKS = {
    "dots": lambda n: n.replace("-idx", ".idx"),
    "dots, gzip": lambda n: n.replace("-idx", ".idx") + ".gz",
    "its own folder": lambda n: f"{n.replace('-idx', '.idx')}_/{n.replace('-idx', '.idx')}",
    "its own folder, dashes": lambda n: f"{n}.d/{n}",
    "torchvision": lambda n: f"MNIST/raw/{n}",
    "wrong ending": lambda n: f"{n}.bin",
    "no ending": lambda n: n.rsplit("-idx", 1)[0],
    "test for t10k": lambda n: n.replace("t10k", "test"),
    "upper case": lambda n: n.upper(),
}


@pytest.mark.parametrize("layout", ON_DISKS)
def test_the_files_are_found_as_they_lie_on_disks(tmp_path, layout):
    small_files(tmp_path / "plain")
    other = renamed(tmp_path / "other", ON_DISKS[layout])
    expected = load_data("mnist", tmp_path / "plain").fingerprint
    assert load_data("mnist", other).fingerprint == expected


def test_a_file_that_is_called_gz_and_is_not_compressed_is_read(tmp_path):
    small_files(tmp_path / "plain", compressed=False)
    expected = load_data("mnist", tmp_path / "plain").fingerprint
    for name in NAMES:
        (tmp_path / "plain" / name).rename(tmp_path / "plain" / f"{name}.gz")
    assert load_data("mnist", tmp_path / "plain").fingerprint == expected


def test_kmnist_has_the_names_of_mnist(tmp_path):
    small_files(tmp_path / "KMNIST" / "raw")
    assert load_data("kmnist", tmp_path).train.x.shape == (6, 1, 28, 28)


def test_a_folder_of_another_set_is_not_read_and_what_is_there_is_named(tmp_path):
    small_files(tmp_path / "KMNIST" / "raw")
    with pytest.raises(DataError, match=r"has none of the files .* of mnist; it has KMNIST/;"):
        load_data("mnist", tmp_path)


def test_one_folder_of_several_sets_is_chosen_by_name(tmp_path):
    for folder, size in (("MNIST/raw", 6), ("KMNIST/raw", 5), ("FashionMNIST/raw", 7)):
        small_files(tmp_path / folder, sizes=(size, 4))
    assert len(load_data("mnist", tmp_path).train.y) == 6
    assert len(load_data("kmnist", tmp_path).train.y) == 5
    assert len(load_data("fashion-mnist", tmp_path).train.y) == 7


def write(folder: Path, pattern: str, labels, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Four files named by a pattern, whose images are the same array, and these arrays."""
    images = np.random.default_rng(1).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        for what, array in (("images-idx3-ubyte", images), (f"labels-{kind}", labels)):
            name = pattern.format(split=split, what=what)
            (folder / name).write_bytes(gzip.compress(idx(array)))
    return images, labels


def test_the_letters_of_emnist_are_turned_and_counted_from_0(tmp_path):
    labels = np.arange(1, 27, dtype=np.uint8)
    images, _ = write(tmp_path, "emnist-letters-{split}-{what}.gz", labels, "idx1-ubyte")
    data = load_data("emnist-letters", tmp_path)
    np.testing.assert_array_equal(data.train.x[:, 0], images.transpose(0, 2, 1) / 255)
    np.testing.assert_array_equal(data.train.y, labels - 1)
    assert data.classes == 26
    assert any("transposed" in note for note in data.notes)


def test_one_of_the_sets_of_emnist_is_chosen_by_name(tmp_path):
    write(tmp_path, "emnist-letters-{split}-{what}.gz", np.arange(1, 27, dtype=np.uint8),
          "idx1-ubyte")  # fmt: skip
    write(tmp_path, "emnist-balanced-{split}-{what}.gz", np.arange(47, dtype=np.uint8),
          "idx1-ubyte")  # fmt: skip
    assert load_data("emnist-balanced", tmp_path).classes == 47
    with pytest.raises(DataError, match=r"more than one set.*emnist-balanced.*emnist-letters"):
        load_data("emnist", tmp_path)


def test_emnist_is_not_read_as_another_set(tmp_path):
    write(tmp_path, "emnist-digits-{split}-{what}.gz", np.arange(10, dtype=np.uint8),
          "idx1-ubyte")  # fmt: skip
    with pytest.raises(DataError, match="none of the files.*emnist-digits-test-images"):
        load_data("mnist", tmp_path)


def test_a_renamed_emnist_is_noted_and_can_be_turned(tmp_path):
    images, _ = write(tmp_path, "{split}-{what}.gz", np.arange(10, dtype=np.uint8), "idx1-ubyte")
    stored = load_data("mnist", tmp_path)
    turned = load_data("mnist", tmp_path, transposed=True)
    assert any("--transposed" in text for text in stored.describe())
    np.testing.assert_array_equal(turned.train.x[:, 0], images.transpose(0, 2, 1) / 255)
    np.testing.assert_array_equal(load_data("emnist", tmp_path).train.x, turned.train.x)


def test_labels_of_a_renamed_emnist_are_refused_by_its_name(tmp_path):
    write(tmp_path, "{split}-{what}.gz", np.arange(1, 27, dtype=np.uint8), "idx1-ubyte")
    with pytest.raises(DataError, match="largest 26 .*EMNIST.*--data emnist"):
        load_data("mnist", tmp_path)


@pytest.mark.parametrize("pattern", ["qmnist-{split}-{what}.gz", "{split}-{what}.gz"])
def test_the_class_of_qmnist_is_the_first_of_its_8_columns(tmp_path, pattern):
    labels = np.random.default_rng(2).integers(10, 1000, (10, 8), dtype=np.int32)
    labels[:, 0] = np.arange(10)
    write(tmp_path, pattern, labels, "idx2-int")
    np.testing.assert_array_equal(load_data("qmnist", tmp_path).test.y, np.arange(10))


def test_a_folder_is_needed(tmp_path):
    with pytest.raises(DataError, match="mnist needs the folder .* --data-dir"):
        load_data("mnist")
    with pytest.raises(DataError, match="transposed is for IDX files, got iris"):
        load_data("iris", transposed=True)


FORMS = {
    "table": (30, 5),
    "images": (30, 6, 7),
    "channel first": (30, 1, 6, 7),
    "channel last": (30, 6, 7, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_npz_with_x_and_y(tmp_path, form):
    x = np.random.default_rng(0).normal(size=FORMS[form])
    y = np.arange(30) % 3 + 5  # any integers are classes
    np.savez(tmp_path / "own.npz", x=x, y=y)
    data = load_data(str(tmp_path / "own.npz"))
    assert data.train.x.shape[2:] == {"table": (1, 5)}.get(form, (6, 7))
    assert (len(data.train.y), len(data.test.y), data.classes) == (25, 5, 3)
    assert (data.train.x.min(), data.train.x.max()) == (0, 1)
    if form != "table":  # one range for all pixels: a row is found again after undoing the scale
        order = np.random.default_rng(0).permutation(30)
        stored = x.reshape(30, 6, 7)[order]
        low, high = stored[5:].min(), stored[5:].max()
        np.testing.assert_allclose(data.train.x[:, 0] * (high - low) + low, stored[5:])
        np.testing.assert_array_equal(data.train.y + 5, y[order][5:])


def test_an_npz_that_is_split_already(tmp_path):
    x = np.arange(40).reshape(10, 4)
    y = np.array(["a", "b"] * 5)
    np.savez(tmp_path / "k.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    data = load_data(str(tmp_path / "k.npz"))
    np.testing.assert_array_equal(data.train.x[:3], data.test.x)
    assert data.test.y.tolist() == [0, 1, 0]


X = np.ones((6, 4))
Y = np.arange(6)
BAD = {
    "other names": ({"images": X}, r"must hold x and y.*it holds images \(6, 4\)"),
    "colours": ({"x": np.ones((6, 8, 8, 3)), "y": Y}, "one channel"),
    "NaN": ({"x": np.full((6, 4), np.nan), "y": Y}, "finite"),
    "words": ({"x": np.array(["a"] * 6), "y": Y}, "real numbers"),
    "lengths": ({"x": X, "y": Y[:5]}, "one class for each of the 6 rows"),
    "numbers as classes": ({"x": X, "y": Y + 0.5}, "integers or names"),
    "one hot": ({"x": X, "y": np.eye(6)}, "one class for each"),
    "objects": ({"x": np.array([{}] * 6), "y": Y}, "cannot be read"),
    "one row": ({"x": X[:1], "y": Y[:1]}, "at least 2 rows, of which one"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_npz_is_refused(tmp_path, case):
    arrays, words = BAD[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=words):
        load_data(str(tmp_path / "bad.npz"))


def test_a_missing_or_foreign_npz_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("x,y", encoding="utf-8")
    for name in ("none.npz", "text.npz"):
        with pytest.raises(DataError, match=f"{name} cannot be read as .npz"):
            load_data(str(tmp_path / name))


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_scikit_learn(name):
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    data = load_data(name)
    assert data.train.x.shape[1:] == (1, 1, x.shape[1])
    together = np.concatenate([data.train.y, data.test.y])
    np.testing.assert_array_equal(np.bincount(together), np.bincount(y))
    np.testing.assert_array_equal(data.train.x.min(axis=0), 0)
    np.testing.assert_array_equal(data.train.x.max(axis=0), 1)


def test_the_description_states_shape_classes_counts_and_range():
    data = load_data("digits")
    counts = np.bincount(data.train.y)
    expected = f"train: 1500 x 1 x 8 x 8, 10 classes of {min(counts)} to {max(counts)}, values"
    assert data.describe()[0] == f"{expected} 0 to 1"
    assert len(data.describe()) == 2
