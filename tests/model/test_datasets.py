"""Data sets by name and a user's tables: preprocessing, targets, and what is refused."""

import os

import numpy as np
import pytest
from sklearn.datasets import load_digits

from meanfield import Empirical, load_dataset, load_table
from meanfield.model import downloads
from meanfield.model.datasets import DATASETS, find_data, standardise, table_splits

KEYS = ("x_train", "y_train", "x_test", "y_test")


def _images(n_train=60, n_test=40, shape=(4, 3)):
    rng = np.random.default_rng(0)
    x_train, x_test = (rng.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (n_train, n_test))
    y_train, y_test = (np.arange(n, dtype=np.uint8) % 10 for n in (n_train, n_test))
    return dict(zip(KEYS, (x_train, y_train, x_test, y_test), strict=True))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Folder of small made-up files that $MEANFIELD_DATA points to, as if none were published, and their arrays."""
    monkeypatch.setattr(downloads, "PUBLISHED", {})
    arrays = _images()
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar10_subset"):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    monkeypatch.setenv("MEANFIELD_DATA", str(tmp_path))
    return tmp_path, arrays


# --- digits -----------------------------------------------------------------------------------------------


def test_digits_are_standardised_by_pixel_in_file_order():
    pixels, labels = load_digits(return_X_y=True)
    train, test = load_dataset("digits"), load_dataset("digits", split="test")
    assert (train.n_samples, test.n_samples) == (1400, 397)
    assert train.dim == test.dim == 65
    assert train.n_outputs == test.n_outputs == 10
    assert train.x.dtype == train.y.dtype == np.float64

    mean, std = pixels[:1400].mean(axis=0), pixels[:1400].std(axis=0)
    varies = std > 0
    for law, rows in ((train, slice(1400)), (test, slice(1400, None))):
        expected = (pixels[rows][:, varies] - mean[varies]) / std[varies] / 8
        assert np.allclose(law.x[:, :64][:, varies], expected, rtol=0, atol=1e-14)
        assert (law.x[:, :64][:, ~varies] == 0).all()
        assert (law.x[:, 64] == 1).all()
        assert np.array_equal(law.y.argmax(axis=1), labels[rows])
        assert np.array_equal(np.sort(law.y, axis=1), np.sort(np.eye(10)[labels[rows]], axis=1))
    assert np.allclose((train.x[:, :64] ** 2).sum(axis=1).mean(), varies.sum() / 64)


def test_standardise_does_the_same_to_other_data():
    pixels, labels = load_digits(return_X_y=True)
    train, test = Empirical(pixels[:1400], labels[:1400]), Empirical(pixels[1400:], labels[1400:])
    for law, split in ((train, "train"), (test, "test")):
        standardised = standardise(law, train)
        assert np.array_equal(standardised.x, load_dataset("digits", split=split).x)
        assert np.array_equal(standardised.y, law.y)
    with pytest.raises(ValueError, match="equally many inputs, got 64 and 1"):
        standardise(train, Empirical(np.ones((2, 1)), [0, 1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardise_makes_constant_columns_zero(dtype):
    x = np.column_stack([np.full(70, 0.1), np.arange(70)]).astype(dtype)
    law = standardise(Empirical(x, np.ones(70)), Empirical(x, np.ones(70)))
    assert law.x.dtype == dtype
    assert law.x[:, 0].tolist() == [0] * 70
    assert np.isclose((law.x[:, 1].astype(np.float64) ** 2).mean(), 1 / 2)


def test_digits_need_no_folder(monkeypatch):
    monkeypatch.delenv("MEANFIELD_DATA", raising=False)
    assert find_data("digits").n_samples == 1400


# --- images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_are_standardised_by_one_mean_and_one_deviation(data, name, split):
    _, arrays = data
    law = load_dataset(name, split=split)
    train = arrays["x_train"].astype(np.float64)
    pixels = arrays[f"x_{split}"].reshape(-1, 12).astype(np.float64)
    expected = (pixels - train.mean()) / train.std() / np.sqrt(12)
    assert law.x.dtype == law.y.dtype == np.float32
    assert np.allclose(law.x[:, :12], expected, rtol=0, atol=1e-6)
    assert (law.x[:, 12] == 1).all()
    assert np.array_equal(law.y, np.eye(10)[arrays[f"y_{split}"]])


def test_labels_may_be_a_column(data):
    folder, arrays = data
    columns = {
        **arrays,
        "y_train": arrays["y_train"][:, np.newaxis],
        "y_test": arrays["y_test"][:, np.newaxis],
    }
    np.savez(folder / "cifar10.npz", **columns)
    assert np.array_equal(load_dataset("cifar10").y, load_dataset("mnist").y)


def test_sign_is_plus_one_for_the_lower_half_of_the_classes(data):
    _, arrays = data
    law = load_dataset("mnist", target="sign")
    assert law.y.dtype == np.float32
    assert law.y.tolist() == [[1.0] if label < 5 else [-1.0] for label in arrays["y_train"]]


@pytest.mark.parametrize("pair", [(3, 8), (8, 3), [9, 0]])
def test_a_pair_takes_the_samples_of_its_classes(data, pair):
    _, arrays = data
    law, everything = load_dataset("mnist", target=pair, split="test"), load_dataset("mnist", split="test")
    labels = arrays["y_test"]
    rows = np.flatnonzero((labels == pair[0]) | (labels == pair[1]))
    assert np.array_equal(law.x, everything.x[rows])
    assert law.y.tolist() == [[1.0] if label == pair[0] else [-1.0] for label in labels[rows]]
    assert law.y.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"name": "mnits"}, "unknown data set 'mnits': did you mean 'mnist'"),
        ({"name": "cifar-10"}, "unknown data set 'cifar-10': did you mean 'cifar10'"),
        ({"split": "validation"}, "unknown split 'validation'"),
        (
            {"target": "onehot"},
            "target must be 'one-hot', 'sign' or a pair of different classes of .*got 'onehot'",
        ),
        ({"target": "value"}, "target must be .* got 'value'"),
        ({"target": (3, 3)}, r"got \(3, 3\)"),
        ({"target": (3, 10)}, r"different classes of \[0, 1, .* 9\], got \(3, 10\)"),
        ({"target": (1, 2, 3)}, r"got \(1, 2, 3\)"),
        ({"target": None}, "got None"),
    ],
)
def test_load_dataset_refuses(data, options, match):
    with pytest.raises(ValueError, match=match):
        load_dataset(**{"name": "mnist", **options})


def test_a_pair_without_samples_is_refused(data):
    folder, arrays = data
    np.savez(folder / "mnist.npz", **{**arrays, "y_train": np.zeros(60, np.uint8)})
    with pytest.raises(ValueError, match="no sample of this split is of class 3 or 8"):
        load_dataset("mnist", target=(3, 8))


@pytest.mark.parametrize("setting", [None, ""])
def test_without_a_folder_the_error_says_what_to_set(monkeypatch, setting):
    monkeypatch.delenv("MEANFIELD_DATA", raising=False)
    if setting is not None:
        monkeypatch.setenv("MEANFIELD_DATA", setting)
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("cifar10-subset")
    assert str(caught.value) == (
        "data set 'cifar10-subset' is read from $MEANFIELD_DATA/cifar10_subset.npz "
        "with the arrays x_train, y_train, x_test, y_test, but MEANFIELD_DATA is not set: "
        "set it to the folder of cifar10_subset.npz"
    )


def test_without_the_file_the_error_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MEANFIELD_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"x_test, y_test, but there is no file '.*cifar10_subset\.npz'"):
        load_dataset("cifar10-subset")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"x_test": None, "y_test": None},
            r"must hold .*, but lacks x_test, y_test; it holds \['x_train', 'y_train'\]",
        ),
        ({"x_train": np.ones((60, 12))}, r"must hold uint8 images .* got images of float64 \(60, 12\)"),
        ({"x_train": np.ones(60, np.uint8)}, r"got images of uint8 \(60,\)"),
        (
            {"x_train": np.ones((0, 12), np.uint8), "y_train": np.ones(0, int)},
            r"got images of uint8 \(0, 12\)",
        ),
        ({"y_train": np.zeros(59, int)}, r"n labels, got .* labels \(59,\)"),
        ({"y_train": np.full(60, 10)}, r"labels of .* must be integers in 0..9, got int64 in 10..10"),
        ({"y_train": np.full(60, -1)}, "must be integers in 0..9"),
        ({"y_train": np.zeros(60)}, "must be integers in 0..9, got float64"),
        ({"x_train": np.full((60, 12), 7, np.uint8)}, "must not be constant, but all pixels are 7"),
    ],
)
def test_unfit_files_are_refused(data, changes, match):
    folder, arrays = data
    changed = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez(folder / "mnist.npz", **changed)
    with pytest.raises(ValueError, match=match):
        load_dataset("mnist")


def test_damaged_files_are_refused(data):
    folder, _ = data
    (folder / "mnist.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"cannot read '.*mnist\.npz'"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("name", "split", "n_samples", "n_pixels"),
    [
        ("mnist", "test", 10_000, 784),
        ("fashion-mnist", "test", 10_000, 784),
        ("cifar10-subset", "train", 5_085, 3_072),
        ("cifar10-subset", "test", 1_017, 3_072),
    ],
)
def test_published_files(name, split, n_samples, n_pixels):
    file = f"{os.environ.get('MEANFIELD_DATA', '')}/{name.replace('-', '_')}.npz"
    if not os.path.isfile(file):
        pytest.skip("needs MEANFIELD_DATA with the published files")
    law = load_dataset(name, split=split)
    assert (law.n_samples, law.dim, law.n_outputs) == (n_samples, n_pixels + 1, 10)
    assert (law.y.sum(axis=1) == 1).all()
    assert (law.y.mean(axis=0) > 0.08).all()
    assert abs((law.x[:, :-1].astype(np.float64) ** 2).sum(axis=1).mean() - 1) < 0.03


# --- tables -----------------------------------------------------------------------------------------------

X, Y = np.arange(12.0).reshape(6, 2), np.array([4, 7, 4, 9, 7, 7])


@pytest.fixture
def table(tmp_path):
    """Write the given arrays to an .npz, or the given text to a .csv, and return its path."""

    def write(content, name=None):
        path = tmp_path / (name or ("table.csv" if isinstance(content, str) else "table.npz"))
        if isinstance(content, str):
            path.write_text(content)
        else:
            np.savez(path, **content)
        return path

    return write


def test_npz_tables_are_taken_as_they_are(table):
    law = load_table(table({"x": X, "y": np.column_stack([Y, -Y]), "note": np.array("kept")}))
    assert np.array_equal(law.x, X)
    assert np.array_equal(law.y, np.column_stack([Y, -Y]))
    single = load_table(str(table({"x": X.astype(np.float32), "y": Y})))
    assert single.x.dtype == np.float32
    assert single.y.tolist() == Y[:, np.newaxis].tolist()


def test_npz_tables_with_two_splits(table):
    path = table({"x_train": X, "y_train": Y, "x_test": X[:2] + 100, "y_test": np.array([1, 4])})
    assert np.array_equal(load_table(path).x, X)
    test = load_table(path, split="test", target="one-hot")
    assert np.array_equal(test.x, X[:2] + 100)
    # classes 1, 4, 7, 9 of both splits together
    assert test.y.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert load_table(path, target="one-hot").y.argmax(axis=1).tolist() == [1, 2, 1, 3, 2, 2]


@pytest.mark.parametrize(
    ("target", "rows", "y"),
    [
        ("one-hot", range(6), [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]]),
        ("sign", range(6), [[1], [1], [1], [-1], [1], [1]]),
        ((9, 4), [0, 2, 3], [[-1], [-1], [1]]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_class_labels_of_tables(table, target, rows, y, dtype):
    for labels in (Y, Y[:, np.newaxis]):
        law = load_table(table({"x": X.astype(dtype), "y": labels}), target=target)
        assert np.array_equal(law.x, X[list(rows)])
        assert law.y.tolist() == y
        assert law.x.dtype == law.y.dtype == dtype


def test_table_splits(table):
    assert table_splits(table({"x": X, "y": Y})) == ("train",)
    assert table_splits(table({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y})) == ("train", "test")
    assert table_splits(table(CSV)) == ("train",)


CSV = "height,width,kind\n1.5,2,0\n2.5,3,1\n3.5,4,2\n"


def test_csv_tables(table):
    law = load_table(table(CSV))
    assert law.x.tolist() == [[1.5, 2], [2.5, 3], [3.5, 4]]
    assert law.y.tolist() == [[0], [1], [2]]
    law = load_table(table(CSV, "upper.CSV"), target_column="width")
    assert law.x.tolist() == [[1.5, 0], [2.5, 1], [3.5, 2]]
    assert law.y.tolist() == [[2], [3], [4]]
    assert load_table(table(CSV), target="one-hot").y.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(
    ("content", "options", "error", "match"),
    [
        (
            {"x": X},
            {},
            ValueError,
            r"must hold the arrays x and y, or x_train and y_train, but holds \['x'\]",
        ),
        ({"x_test": X, "y_test": Y}, {}, ValueError, "but holds"),
        (
            {"x": X, "y": Y},
            {"split": "test"},
            ValueError,
            "has no split 'test': write an .npz file with the arrays",
        ),
        ({"x": X, "y": Y}, {"split": "tset"}, ValueError, "unknown split 'tset': did you mean 'test'"),
        ({"x": X, "y": Y}, {"target_column": "y"}, ValueError, "target_column='y' is for .csv files"),
        ({"x": X, "y": Y.astype(str)}, {}, TypeError, r"must hold numbers, got \['4'\]: .* pandas.factorize"),
        ({"x": X, "y": Y / 2}, {"target": "one-hot"}, TypeError, "needs integer class labels, got float64"),
        (
            {"x": X, "y": Y[:5]},
            {"target": "sign"},
            ValueError,
            r"one class label a row, got y of shape \(5,\)",
        ),
        ({"x": X, "y": np.column_stack([Y, Y])}, {"target": "sign"}, ValueError, r"y of shape \(6, 2\)"),
        ({"x": X, "y": Y}, {"target": (4, 5)}, ValueError, r"different classes of \[4, 7, 9\], got \(4, 5\)"),
        ({"x": X * np.nan, "y": Y}, {}, ValueError, "x must be finite"),
        (CSV, {"split": "test"}, ValueError, "has no split 'test'"),
        (CSV, {"target_column": "widht"}, ValueError, "unknown target_column 'widht': did you mean 'width'"),
        ("a,b,c\n1,x,2\n2,y,3\n", {}, ValueError, r"must be numeric, but \['b'\] are not: .*get_dummies"),
        ("a,b\n1,True\n2,False\n", {}, TypeError, r"must hold numbers, got \[True\]"),
        ("a,b\n1,setosa\n2,virginica\n", {}, TypeError, r"must hold numbers, got \['setosa'\]: .*factorize"),
        ("a,b\n1,2\n,3\n", {}, ValueError, r"columns \['a'\] of .* have missing entries: fill or drop"),
        ("a,b\n1,2\n3,\n", {}, ValueError, r"columns \['b'\]"),
        ("a,b\n1,inf\n3,1\n", {}, ValueError, "y must be finite"),
        ("a,b\n", {}, ValueError, "has no rows below its column names"),
        ("a\n1\n", {}, ValueError, r"at least one input column and a target, got \['a'\]"),
        (
            "1.5,2,0\n2.5,3,1\n",
            {},
            ValueError,
            r"first line .* must name the columns, got the numbers \['1.5', '2'",
        ),
        (",a,b\n0,1,2\n1,2,3\n", {}, ValueError, r"columns without a name, \['Unnamed: 0'\].*index=False"),
        ("", {}, ValueError, r"cannot read '.*table.csv': No columns"),
        ("a,b\n1,2,3,4\n1,2,3,4,5\n", {}, ValueError, r"cannot read '.*table.csv'"),
    ],
)
def test_load_table_refuses(table, content, options, error, match):
    with pytest.raises(error, match=match):
        load_table(table(content), **options)


def test_other_files_and_missing_ones_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown file type '.txt': known: .csv, .npz"):
        load_table(tmp_path / "table.txt")
    for name in ("table.csv", "table.npz"):
        with pytest.raises(FileNotFoundError, match=rf"no file '.*{name}'"):
            load_table(tmp_path / name)


def test_find_data_tells_files_from_names(table, data):
    path = table({"x": X, "y": Y})
    assert find_data(str(path)).y.tolist() == Y[:, np.newaxis].tolist()
    assert find_data(str(path), target="one-hot").n_outputs == 3
    assert find_data("mnist").n_outputs == 10
    assert find_data("mnist", split="test", target=(0, 1)).n_samples == 8
    assert find_data(str(table(CSV))).n_samples == 3
    with pytest.raises(ValueError, match="unknown data set 'minst': did you mean 'mnist'"):
        find_data("minst")
    with pytest.raises(FileNotFoundError, match=r"no file 'mnist\.npz'"):
        find_data("mnist.npz")
