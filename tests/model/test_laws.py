"""Data laws: their distributions, nested sampling, and what is refused."""

import copy
import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from meanfield import AnisotropicGaussians, Empirical, IsotropicGaussians, Law, Network, TeacherStudent
from meanfield.model.laws import check_law, checked_sample

TEACHER = Network.init((4, 6, 2), activation="tanh", std=1.0, rng=0)
ROWS = Empirical(np.arange(21.0).reshape(7, 3), np.arange(7))
LAWS = [
    IsotropicGaussians(5, 0.4),
    AnisotropicGaussians(5, 2, 0.4),
    TeacherStudent(TEACHER),
    TeacherStudent(TEACHER, noise=0.3),
    ROWS,
]


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("parts", [(5, 3), (1,) * 8, (2, 1, 5)])
def test_samples_drawn_in_parts_are_those_drawn_at_once(law, parts):
    generator = np.random.default_rng(1)
    drawn = [law.sample(n, generator) for n in parts]
    x, y = law.sample(8, np.random.default_rng(1))
    assert np.array_equal(np.concatenate([x for x, _ in drawn]), x)
    # A teacher's matrix product may round differently for other numbers of rows.
    assert np.allclose(np.concatenate([y for _, y in drawn]), y, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_shipped_laws_keep_the_protocol(law):
    x, y = checked_sample(check_law(law), 6, np.random.default_rng(2))
    assert isinstance(law, Law)
    assert x.shape == (6, law.dim)
    assert y.shape == (6, law.n_outputs)
    assert x.dtype == y.dtype == np.float64
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert np.array_equal(law.sample(6, 2)[0], x)  # a seed will do
    with pytest.raises(TypeError, match=rf"{type(law).__name__}.sample needs rng="):
        law.sample(6, None)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        law.sample(0, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        law.dim = 3


# --- isotropic Gaussians ----------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.0, 0.3, 0.8])
def test_isotropic_gaussians_have_their_radii_and_directions(delta):
    n, dim = 20_000, 6
    x, y = IsotropicGaussians(dim, delta).sample(n, np.random.default_rng(3))
    assert set(np.unique(y)) == {-1.0, 1.0}
    assert abs(y.mean()) <= 4 / np.sqrt(n)
    for label in (-1, 1):
        z = x[y[:, 0] == label] / (1 + label * delta)
        assert stats.kstest((z**2).sum(axis=1), stats.chi2(dim).cdf).pvalue > 1e-3
        covariance = z.T @ z / len(z)
        assert (np.abs(covariance - np.eye(dim)) <= 4 * np.sqrt((1 + np.eye(dim)) / len(z))).all()
        assert (np.abs(z.mean(axis=0)) <= 4 / np.sqrt(len(z))).all()


def test_isotropic_gaussians_are_rows_of_normals_whose_last_one_gives_the_label():
    normals = np.random.default_rng(3).standard_normal((5_000, 7))
    x, y = IsotropicGaussians(6, 0.3).sample(5_000, np.random.default_rng(3))
    assert np.array_equal(y[:, 0], np.sign(normals[:, 6]))
    assert np.array_equal(x, np.where(y > 0, 1.3, 0.7) * normals[:, :6])


def test_isotropic_gaussians_of_another_separation_fail_the_same_test():
    x, y = IsotropicGaussians(6, 0.3).sample(20_000, np.random.default_rng(3))
    z = x[y[:, 0] == 1] / 1.35
    assert stats.kstest((z**2).sum(axis=1), stats.chi2(6).cdf).pvalue < 1e-6


def test_isotropic_gaussians_keep_their_parameters():
    law = IsotropicGaussians(np.int64(5), np.float64(0.4))
    assert law == IsotropicGaussians(5, 0.4)
    assert hash(law) == hash(IsotropicGaussians(5, 0.4))
    assert repr(law) == "IsotropicGaussians(dim=5, delta=0.4)"
    assert (law.dim, law.n_outputs) == (5, 1)


@pytest.mark.parametrize(
    ("dim", "delta", "error", "match"),
    [
        (0, 0.5, ValueError, "dim must be at least 1, got 0"),
        (2.0, 0.5, TypeError, "dim must be an integer, got 2.0"),
        (2, 1.0, ValueError, r"delta must lie in \[0, 1\), got 1.0"),
        (2, -0.1, ValueError, "delta must be finite and not negative, got -0.1"),
        (2, np.nan, ValueError, "delta must be finite and not negative, got nan"),
        (2, "0.5", TypeError, "delta must be a number, got '0.5' of type str"),
        (2, True, TypeError, "delta must be a number, got True"),
    ],
)
def test_isotropic_gaussians_refuse(dim, delta, error, match):
    with pytest.raises(error, match=match):
        IsotropicGaussians(dim, delta)


# --- anisotropic Gaussians --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_informative", [1, 4, 6])
def test_anisotropic_gaussians_have_their_variances(n_informative):
    n, dim, delta = 20_000, 6, 0.3
    x, y = AnisotropicGaussians(dim, n_informative, delta).sample(n, np.random.default_rng(3))
    assert set(np.unique(y)) == {-1.0, 1.0}
    assert abs(y.mean()) <= 4 / np.sqrt(n)
    for label in (-1, 1):
        z = x[y[:, 0] == label]
        z[:, :n_informative] /= 1 + label * delta
        assert all(stats.kstest(column, stats.norm.cdf).pvalue > 1e-3 for column in z.T)
        covariance = z.T @ z / len(z)
        assert (np.abs(covariance - np.eye(dim)) <= 4 * np.sqrt((1 + np.eye(dim)) / len(z))).all()


def test_anisotropic_gaussians_of_another_number_of_informative_inputs_fail_the_same_test():
    x, y = AnisotropicGaussians(6, 4, 0.3).sample(20_000, np.random.default_rng(3))
    of_one_class = x[y[:, 0] == 1]
    assert stats.kstest(of_one_class[:, 3], stats.norm.cdf).pvalue < 1e-6
    assert stats.kstest(of_one_class[:, 4] / 1.3, stats.norm.cdf).pvalue < 1e-6


def test_isotropic_gaussians_are_the_anisotropic_ones_of_informative_inputs_alone():
    (x, y), (again, labels) = (
        law.sample(50, 1) for law in (IsotropicGaussians(6, 0.3), AnisotropicGaussians(6, 6, 0.3))
    )
    assert np.array_equal(x, again)
    assert np.array_equal(y, labels)
    assert IsotropicGaussians(6, 0.3).n_informative == 6
    assert IsotropicGaussians(6, 0.3) != AnisotropicGaussians(6, 6, 0.3)


def test_anisotropic_gaussians_keep_their_parameters():
    law = AnisotropicGaussians(np.int64(5), np.int32(2), np.float64(0.4))
    assert law == AnisotropicGaussians(dim=5, n_informative=2, delta=0.4)
    assert hash(law) == hash(AnisotropicGaussians(5, 2, 0.4))
    assert repr(law) == "AnisotropicGaussians(dim=5, n_informative=2, delta=0.4)"
    assert (law.dim, law.n_informative, law.n_outputs) == (5, 2, 1)


@pytest.mark.parametrize("law", [IsotropicGaussians(5, 0.4), AnisotropicGaussians(5, 2, 0.4)], ids=repr)
def test_gaussians_can_be_copied_and_changed(law):
    assert pickle.loads(pickle.dumps(law)) == law
    changed = dataclasses.replace(law, delta=0.5)
    assert (changed.delta, changed.n_informative) == (0.5, law.n_informative)
    assert dataclasses.replace(changed, delta=0.4) == law


@pytest.mark.parametrize(
    ("n_informative", "delta", "error", "match"),
    [
        (0, 0.5, ValueError, r"n_informative must be in 1\.\.4, got 0"),
        (5, 0.5, ValueError, r"n_informative must be in 1\.\.4, got 5"),
        (2.0, 0.5, TypeError, "n_informative must be an integer, got 2.0"),
        (True, 0.5, TypeError, "n_informative must be an integer, got True"),
        (2, 1.0, ValueError, r"delta must lie in \[0, 1\), got 1.0"),
        (2, -0.1, ValueError, "delta must be finite and not negative, got -0.1"),
    ],
)
def test_anisotropic_gaussians_refuse(n_informative, delta, error, match):
    with pytest.raises(error, match=match):
        AnisotropicGaussians(4, n_informative, delta)


# --- teacher and student ----------------------------------------------------------------------------------


def test_teacher_labels_standard_gaussian_inputs():
    x, y = TeacherStudent(TEACHER).sample(5_000, np.random.default_rng(4))
    assert np.array_equal(y, TEACHER.predict(x))
    assert stats.kstest(x.ravel(), stats.norm.cdf).pvalue > 1e-3
    assert (np.abs(x.T @ x / len(x) - np.eye(4)) <= 4 * np.sqrt((1 + np.eye(4)) / len(x))).all()


def test_teacher_noise_is_gaussian_and_leaves_the_inputs_alone():
    clean, _ = TeacherStudent(TEACHER).sample(5_000, np.random.default_rng(5))
    x, y = TeacherStudent(TEACHER, noise=0.3).sample(5_000, np.random.default_rng(5))
    noise = (y - TEACHER.predict(x)) / 0.3
    assert np.array_equal(x, clean)
    assert stats.kstest(noise.ravel(), stats.norm.cdf).pvalue > 1e-3
    with_inputs = np.corrcoef(np.hstack([noise, x]), rowvar=False) - np.eye(6)
    assert (np.abs(with_inputs) <= 4 / np.sqrt(len(x))).all()


def test_teacher_in_single_precision_gives_double():
    single = Network([w.astype(np.float32) for w in TEACHER.weights], activation="tanh", scaling="mean-field")
    x, y = TeacherStudent(single).sample(10, 6)
    assert x.dtype == y.dtype == np.float64
    assert np.allclose(y, TeacherStudent(TEACHER).sample(10, 6)[1], rtol=0, atol=1e-5)


def test_teacher_student_keeps_its_parameters():
    law = TeacherStudent(TEACHER, noise=1)
    assert (law.dim, law.n_outputs, law.noise) == (4, 2, 1.0)
    assert law.teacher is TEACHER
    assert repr(law) == f"TeacherStudent(teacher={TEACHER!r}, noise=1.0)"


def test_teacher_student_refuses():
    with pytest.raises(TypeError, match="teacher must be a Network, got list"):
        TeacherStudent([np.ones((2, 2))])
    with pytest.raises(ValueError, match="noise must be finite and not negative, got -1"):
        TeacherStudent(TEACHER, noise=-1)
    with pytest.raises(TypeError, match="positional argument"):
        TeacherStudent(TEACHER, 0.1)


# --- empirical laws ---------------------------------------------------------------------------------------


def test_empirical_draws_rows_uniformly_with_replacement():
    x, y = ROWS.sample(7_000, np.random.default_rng(7))
    rows = y[:, 0].astype(int)
    assert np.array_equal(x, ROWS.x[rows])
    assert stats.chisquare(np.bincount(rows, minlength=7)).pvalue > 1e-3
    pairs = np.bincount(7 * rows[:-1:2] + rows[1::2], minlength=49)
    assert stats.chisquare(pairs).pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float16", "float32", "float64", ">f8", "longdouble"])
def test_empirical_keeps_both_precisions_and_converts_the_rest_to_double(dtype):
    x, y = np.array([[1, 2], [3, 4]], dtype), np.array([0, 7], dtype)
    law = Empirical(x, y)
    expected = np.float32 if dtype == "float32" else np.float64
    assert law.x.dtype == law.y.dtype == expected
    assert law.x.tolist() == [[1, 2], [3, 4]]
    assert law.y.tolist() == [[0], [7]]  # class labels stay values
    assert (law.n_samples, law.dim, law.n_outputs) == (2, 2, 1)
    assert all(part.dtype == expected for part in law.sample(3, 8))


def test_empirical_arrays_are_read_only_views_and_the_callers_stay_writeable():
    x, y = np.ones((3, 2)), np.ones((3, 1))
    law = Empirical(x, y)
    assert np.shares_memory(law.x, x)
    assert np.shares_memory(law.y, y)
    assert x.flags.writeable
    assert y.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        law.x[0, 0] = 2
    law.sample(2, 9)[0][:] = 5
    assert (law.x == 1).all()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda law: pickle.loads(pickle.dumps(law))])
def test_empirical_copies_are_read_only_too(duplicate):
    law = duplicate(ROWS)
    assert np.array_equal(law.x, ROWS.x)
    assert np.array_equal(law.y, ROWS.y)
    assert not law.x.flags.writeable
    assert not law.y.flags.writeable


def test_empirical_takes_lists_and_tables():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 0.25], "label": [1, -1]})
    law = Empirical(frame[["a", "b"]], frame["label"])
    assert law.x.tolist() == [[1, 0.5], [2, 0.25]]
    assert law.y.tolist() == [[1], [-1]]
    assert repr(Empirical([[0.0], [1.0]], [1, -1])) == "Empirical(n_samples=2, dim=1, n_outputs=1)"


@pytest.mark.parametrize(
    ("x", "y", "error", "match"),
    [
        (np.ones(3), np.ones(3), ValueError, r"x must be a non-empty .* got shape \(3,\)"),
        (
            np.ones((2, 3, 3)),
            np.ones(2),
            ValueError,
            r"got shape \(2, 3, 3\): flatten .* \.reshape\(len\(x\), -1\)",
        ),
        (np.ones((2, 3)), np.ones((2, 1, 1)), ValueError, r"y must be .* got shape \(2, 1, 1\)"),
        (np.ones((0, 3)), np.ones(0), ValueError, r"x must be a non-empty .* got shape \(0, 3\)"),
        (
            np.ones((2, 3)),
            np.ones(3),
            ValueError,
            "equally many rows, got 2 and 3: row i of y is the target of",
        ),
        (np.array([[1.0, np.nan]]), [1], ValueError, r"x must be finite, but entry \(0, 1\) is nan"),
        (np.ones((1, 2)), [np.inf], ValueError, r"y must be finite, but entry \(0, 0\) is inf"),
        (np.ones((2, 1)), ["a", "b"], TypeError, r"y must hold numbers, got <U1: convert with \.astype"),
        (np.ones((2, 1)), [True, False], TypeError, "y must hold numbers, got bool"),
        (np.ones((2, 1), complex), [1, 2], TypeError, "x must hold numbers, got complex128"),
    ],
)
def test_empirical_refuses(x, y, error, match):
    with pytest.raises(error, match=match):
        Empirical(x, y)


# --- laws of the user -------------------------------------------------------------------------------------


class Drawn:
    """A law of two inputs and one output that returns what it is told to."""

    def __init__(self, *drawn, dim=2, n_outputs=1):
        self.drawn, self.dim, self.n_outputs = drawn, dim, n_outputs

    def sample(self, n, rng):
        return self.drawn


GOOD = Drawn(np.ones((3, 2)), np.ones((3, 1)))


def test_any_object_with_the_three_parts_is_a_law():
    assert check_law(GOOD) is GOOD
    assert isinstance(GOOD, Law)
    x, y = checked_sample(Drawn(np.ones((3, 2), int), np.ones((3, 1), np.float32)), 3, None)
    assert (x.dtype, y.dtype) == (np.float64, np.float32)


def _without(part):
    law = type("Partial", (), {"dim": 1, "n_outputs": 1, "sample": lambda self, n, rng: None})
    delattr(law, part)
    return law()


@pytest.mark.parametrize(
    ("law", "error", "match"),
    [
        (_without("dim"), TypeError, r"law must have .*, but Partial lacks dim: .* Empirical\(x, y\)"),
        (_without("n_outputs"), TypeError, "Partial lacks n_outputs"),
        (_without("sample"), TypeError, "Partial lacks sample"),
        (np.ones((3, 2)), TypeError, "ndarray lacks dim, n_outputs, sample"),
        (None, TypeError, "NoneType lacks dim, n_outputs, sample"),
        (IsotropicGaussians, TypeError, "law must be an object, got the class IsotropicGaussians"),
        (Drawn(dim=2.0), TypeError, "Drawn.dim must be an integer, got 2.0"),
        (Drawn(dim=0), ValueError, "Drawn.dim must be at least 1, got 0"),
        (Drawn(n_outputs=-1), ValueError, "Drawn.n_outputs must be at least 1, got -1"),
    ],
)
def test_check_law_refuses(law, error, match):
    with pytest.raises(error, match=match):
        check_law(law)


def test_check_law_refuses_a_sample_that_cannot_be_called():
    law = Drawn()
    law.sample = np.ones(3)
    with pytest.raises(TypeError, match=r"Drawn.sample must be a method sample\(n, rng\) -> x, y"):
        check_law(law)


@pytest.mark.parametrize(
    ("drawn", "error", "match"),
    [
        ((np.ones((3, 2)),), TypeError, r"Drawn.sample\(3, rng\) must return a pair \(x, y\), got tuple"),
        (
            (np.ones((3, 4)), np.ones((3, 1))),
            ValueError,
            r"x of Drawn.sample\(3, rng\) must have shape \(3, 2\), got \(3, 4\)",
        ),
        ((np.ones((2, 2)), np.ones((3, 1))), ValueError, r"x of .* must have shape \(3, 2\), got \(2, 2\)"),
        ((np.ones((3, 2)), np.ones(3)), ValueError, r"y of .* must have shape \(3, 1\), got \(3,\)"),
        (
            (np.full((3, 2), np.nan), np.ones((3, 1))),
            ValueError,
            r"x of Drawn.sample\(3, rng\) must be finite",
        ),
        ((np.ones((3, 2)), np.full((3, 1), -np.inf)), ValueError, "y of .* must be finite, .* is -inf"),
        ((np.ones((3, 2)), np.array([["a"]] * 3)), TypeError, "y of .* must hold numbers, got <U1"),
    ],
)
def test_checked_sample_refuses(drawn, error, match):
    with pytest.raises(error, match=match):
        checked_sample(Drawn(*drawn), 3, np.random.default_rng(0))


def test_checked_sample_refuses_a_bare_array():
    law = Drawn()
    law.drawn = np.ones((2, 3))
    with pytest.raises(TypeError, match=r"must return a pair \(x, y\), got ndarray"):
        checked_sample(law, 3, np.random.default_rng(0))
