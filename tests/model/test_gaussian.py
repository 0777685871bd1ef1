"""Gaussian expectations of neurons against quadrature, Monte Carlo and their own symmetries."""

from __future__ import annotations

import itertools
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
from scipy.special import erf

from meanfield.model import overlaps
from meanfield.model.activations import PiecewiseLinear, piecewise_linear_form
from meanfield.model.gaussian import (
    GaussianNeurons,
    GaussianPair,
    activation_family,
    first_layer,
    mean_activation,
    needs_orthants,
    pair_overlap,
)
from meanfield.model.network import Network
from meanfield.model.overlaps import mean_overlap_tiles, overlap_tiles

BUMP = PiecewiseLinear([(0.0, -2.5), (0.5, -4.0), (1.5, 7.5)])
SLOPED = PiecewiseLinear([(-1.0, 2.0), (0.0, 0.5), (0.7, 0.5)], left_slope=-0.6, right_slope=1.3)
PIECEWISE = ("relu", "linear", "truncated-relu", BUMP, SLOPED)
ACTIVATIONS = ("erf", "quadratic", *PIECEWISE)

# (mean_u, mean_v, std_u, std_v): centred, off centre, and with one or both constant or nearly so.
SPREAD = ((0, 0, 1, 1), (0, 0, 0.4, 3), (0.5, -1.2, 1, 0.3), (1.5, 1.5, 0.7, 0.7), (-4, 6, 1.1, 2))
DEGENERATE = ((0.3, 0, 0, 1), (0, 0.5, 1.3, 0), (0.5, 1.5, 0, 0), (0, 0, 1e-9, 1), (0, 1, 1e-200, 40))

# The same with 1 - |correlation|; both signs of the correlation are tried.
GEOMETRIES = (
    *((*shape, short) for shape in SPREAD for short in (0, 1e-15, 1e-8, 1e-3, 0.3)),
    *((*shape, 1) for shape in DEGENERATE),
)


def sigma(activation, z):
    if activation == "erf":
        return erf(z / np.sqrt(2))
    if activation == "quadratic":
        return z**2
    form = piecewise_linear_form(activation)
    knots, values = np.array(form.knots).T
    below, above = np.minimum(z - knots[0], 0), np.maximum(z - knots[-1], 0)
    return np.interp(z, knots, values) + form.left_slope * below + form.right_slope * above


def kinks(activation):
    form = piecewise_linear_form(activation)
    return [] if form is None else [knot for knot, _ in form.knots]


def gaussian_nodes(breaks):
    """Gauss-Legendre nodes and weights times the density, on the pieces between sorted breaks (..., P)."""
    node, weight = np.polynomial.legendre.leggauss(9)
    half = np.diff(breaks)[..., np.newaxis] / 2
    x = (breaks[..., :-1, np.newaxis] + half + half * node).reshape(*breaks.shape[:-1], -1)
    return x, (half * weight).reshape(x.shape) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def with_breaks(*extra):
    """The grid -9, -8.25, .., 9 and further points, sorted; points of shape (n,) make n grids at once."""
    shape = np.broadcast_shapes(*(np.shape(point) for point in extra), ())
    grid = np.broadcast_to(np.linspace(-9, 9, 25), (*shape, 25))
    points = [np.broadcast_to(np.clip(point, -9, 9), shape)[..., np.newaxis] for point in extra]
    return np.sort(np.concatenate([grid, *points], axis=-1), axis=-1)


def overlap_by_quadrature(first, second, mean_u, mean_v, std_u, std_v, short, sign):
    """E first(u) second(v), u = mean_u + std_u x, v = mean_v + std_v (rho x + s y), over x and y in turn."""
    rho, spread = sign * (1 - short), np.sqrt(short * (2 - short))
    widths = [0, 1e-9, *(spread * step for step in (0.5, 1, 2, 4, 8))]
    bends_u = [(knot - mean_u) / std_u for knot in kinks(first) if std_u > 0]
    bends_v = [(knot - mean_v) / (std_v * rho) for knot in kinks(second) if std_v * rho != 0]
    x, weight_x = gaussian_nodes(
        with_breaks(*bends_u, *(z + side * width for z in bends_v for width in widths for side in (-1, 1)))
    )
    center, scale = mean_v + std_v * rho * x, std_v * spread
    bends_y = [(knot - center) / scale for knot in kinks(second) if scale > 0]
    y, weight_y = gaussian_nodes(with_breaks(np.zeros_like(x), *bends_y))
    conditional = np.sum(weight_y * sigma(second, center[:, np.newaxis] + scale * y), axis=-1)
    return float(np.sum(weight_x * sigma(first, mean_u + std_u * x) * conditional))


def pair_of(mean_u, mean_v, std_u, std_v, short, sign):
    covariance = sign * (1 - short) * std_u * std_v
    return GaussianPair(*map(np.array, map(float, (mean_u, mean_v, std_u**2, std_v**2, covariance))))


def magnitude(*means_and_stds):
    """Of the products that are summed, of pieces of u and of v; slopes and values are some 10."""
    mean_u, mean_v, std_u, std_v = means_and_stds
    return 100 * (1 + mean_u**2 + std_u**2) * (1 + mean_v**2 + std_v**2)


def random_neurons(activation, n_neurons, dim, rng, *, biases):
    weights = rng.standard_normal((n_neurons, dim)) * rng.uniform(0.5, 1.2, (n_neurons, 1))
    bias = rng.normal(0.5, 0.5, n_neurons) if biases else np.zeros(n_neurons)
    return GaussianNeurons(activation, weights, bias, (weights**2).sum(axis=1))


def features(neurons, x):
    return sigma(neurons.activation, x @ neurons.weights.T + neurons.biases)


def assembled(first, second=None):
    other = first if second is None else second
    return whole(overlap_tiles(first, second), (len(first.weights), len(other.weights)), symmetric=second is None)


def whole(tiles, shape, *, symmetric):
    matrix = np.full(shape, np.nan)
    for rows, columns, tile in tiles:
        assert np.isnan(matrix[rows, columns]).all(), "a tile came twice"
        matrix[rows, columns] = tile
        if symmetric:
            matrix[columns, rows] = tile.T
    return matrix


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("mean", [0.0, 0.5, -1.7])
@pytest.mark.parametrize("std", [1e-3, 0.6, 5.0])
def test_mean_is_the_integral(activation, mean, std):
    x, weight = gaussian_nodes(with_breaks(*((knot - mean) / std for knot in kinks(activation))))
    integral = np.sum(weight * sigma(activation, mean + std * x))
    assert abs(mean_activation(activation, mean, std**2) - integral) <= 1e-13 * (1 + 40 * (mean**2 + std**2))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_mean_without_spread_is_the_activation(activation):
    z = np.array([-3.0, -1.0, 0.0, 0.5, 0.7, 1.5, 2.0])
    np.testing.assert_allclose(mean_activation(activation, z, np.zeros(7)), sigma(activation, z), atol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_overlap_is_the_double_integral_at_any_correlation(activation, sign):
    for geometry in GEOMETRIES:
        exact = pair_overlap(activation, activation, pair_of(*geometry, sign))
        integral = overlap_by_quadrature(activation, activation, *geometry, sign)
        assert abs(exact - integral) <= 1e-15 * magnitude(*geometry[:4]), geometry


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(PIECEWISE, 2)), ids=str)
def test_overlap_of_two_piecewise_linear_functions(first, second):
    for geometry in GEOMETRIES[::5]:
        exact = pair_overlap(first, second, pair_of(*geometry, -1))
        integral = overlap_by_quadrature(first, second, *geometry, -1)
        assert abs(exact - integral) <= 1e-15 * magnitude(*geometry[:4]), geometry


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("biases", [False, True])
def test_moments_of_neurons_against_monte_carlo(activation, biases):
    rng = np.random.default_rng(7)
    neurons = random_neurons(activation, 5, 3, rng, biases=biases)
    h = features(neurons, rng.standard_normal((100_000, 3)))
    products = h[:, :, np.newaxis] * h[:, np.newaxis]
    for exact, draws in [
        (mean_activation(activation, neurons.biases, neurons.variances), h),
        (assembled(neurons), products),
    ]:
        error = draws.std(axis=0) / np.sqrt(len(draws))
        assert (np.abs(draws.mean(axis=0) - exact) < 4 * error).all()


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("biases", [False, True])
def test_tiles_make_the_symmetric_positive_matrix_of_all_pairs(activation, biases, monkeypatch):
    monkeypatch.setattr(overlaps, "ROWS", 16)
    monkeypatch.setattr(overlaps, "COLUMNS", 32)
    neurons = random_neurons(activation, 71, 5, np.random.default_rng(3), biases=biases)
    matrix = assembled(neurons)
    b, v = neurons.biases, neurons.variances
    covariance = neurons.weights @ neurons.weights.T
    brute = pair_overlap(activation, activation, GaussianPair(b[:, None], b, v[:, None], v, covariance))
    scale = np.abs(brute).max()
    assert np.abs(matrix - brute).max() <= 1e-13 * scale
    assert np.abs(brute - brute.T).max() <= 1e-13 * scale
    assert np.linalg.eigvalsh(matrix).min() >= -1e-11 * scale


def test_tiles_between_two_layers_are_all_pairs():
    rng = np.random.default_rng(4)
    first = random_neurons("relu", overlaps.COLUMNS + 3, 4, rng, biases=True)
    second = random_neurons(SLOPED, 5, 4, rng, biases=False)
    matrix, transposed = assembled(first, second), assembled(second, first)
    np.testing.assert_allclose(matrix, transposed.T, rtol=0, atol=1e-13 * np.abs(matrix).max())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("scales", [(0.4, 1.6), (1.0, 1.0), (0.0, 2.0)])
def test_mean_tiles_are_the_mean_of_those_of_scaled_inputs(activation, biases, scales, monkeypatch):
    monkeypatch.setattr(overlaps, "ROWS", 16)
    monkeypatch.setattr(overlaps, "COLUMNS", 32)
    neurons = random_neurons(activation, 71, 5, np.random.default_rng(3), biases=biases)
    scaled = [neurons._replace(weights=s * neurons.weights, variances=s**2 * neurons.variances) for s in scales]
    expected = np.mean([assembled(one) for one in scaled], axis=0)
    found = whole(mean_overlap_tiles(neurons, scales), (71, 71), symmetric=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("tiles", [overlap_tiles, lambda neurons: mean_overlap_tiles(neurons, (0.5, 1.5))])
def test_blas_is_pinned_once_and_released_after_all_tiles(tiles, monkeypatch):
    calls = []

    @contextmanager
    def guard():
        calls.append("pinned")
        yield
        calls.append("released")

    monkeypatch.setattr(overlaps, "single_threaded_blas", guard)
    neurons = random_neurons("erf", 3 * overlaps.ROWS, 2, np.random.default_rng(3), biases=False)
    assert len(list(tiles(neurons))) > 3
    assert calls == ["pinned", "released"]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("biases", [False, True])
def test_duplicated_and_reordered_neurons_have_duplicated_and_reordered_overlaps(activation, biases):
    rng = np.random.default_rng(5)
    neurons = random_neurons(activation, 9, 4, rng, biases=biases)
    neurons.weights[3] = 0.0
    order = rng.permutation(np.repeat(np.arange(9), 2))
    weights, bias = neurons.weights[order], neurons.biases[order]
    again = GaussianNeurons(activation, weights, bias, (weights**2).sum(axis=1))
    plain = GaussianNeurons(activation, neurons.weights, neurons.biases, (neurons.weights**2).sum(axis=1))
    expected = assembled(plain)
    atol = 1e-13 * np.abs(expected).max()
    np.testing.assert_allclose(assembled(again), expected[np.ix_(order, order)], rtol=0, atol=atol)


def test_diagonal_is_the_second_moment():
    neurons = random_neurons("truncated-relu", 40, 6, np.random.default_rng(6), biases=True)
    x, weight = gaussian_nodes(np.linspace(-9, 9, 6001))
    u = neurons.biases[:, np.newaxis] + np.sqrt(neurons.variances)[:, np.newaxis] * x
    second = np.sum(weight * sigma("truncated-relu", u) ** 2, axis=1)
    np.testing.assert_allclose(np.diag(assembled(neurons)), second, rtol=1e-5)


def test_tiles_need_little_memory():
    neurons = random_neurons("relu", 1500, 2, np.random.default_rng(8), biases=False)
    tracemalloc.start()
    total = sum(float(tile.sum()) for _, _, tile in overlap_tiles(neurons))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 0
    assert peak < 1500**2 * 8 / 4


def test_first_layer_carries_radius_biases_and_float64():
    network = Network.init((3, 4, 1), activation="erf", biases=True, dtype=np.float32, rng=0)
    layer = first_layer(network, 0.5)
    assert layer.weights.dtype == layer.biases.dtype == layer.variances.dtype == np.float64
    np.testing.assert_array_equal(layer.weights, 0.5 * network.weights[0].astype(np.float64))
    np.testing.assert_allclose(layer.variances, (layer.weights**2).sum(axis=1))


@pytest.mark.parametrize(
    ("activation", "family"),
    [
        ("erf", "erf"),
        ("quadratic", "quadratic"),
        ("relu", "piecewise-linear"),
        ("truncated-relu", "piecewise-linear"),
        (BUMP, "piecewise-linear"),
        ("tanh", None),
    ],
    ids=str,
)
def test_families(activation, family):
    assert activation_family(activation) == family


@pytest.mark.parametrize(
    ("activation", "biases", "needed"),
    [
        ("erf", False, False),
        ("erf", True, True),
        ("quadratic", True, False),
        ("relu", False, False),
        ("relu", True, True),
        ("linear", True, False),
        ("truncated-relu", False, True),
    ],
)
def test_orthants_are_needed_where_kinks_are_off_the_mean(activation, biases, needed):
    neurons = random_neurons(activation, 3, 2, np.random.default_rng(0), biases=biases)
    assert needs_orthants(neurons) is needed


def test_unknown_closed_forms_say_so():
    pair = pair_of(0, 0, 1, 1, 0.5, 1)
    with pytest.raises(ValueError, match="no closed form for activation 'tanh'"):
        mean_activation("tanh", 0.0, 1.0)
    with pytest.raises(ValueError, match="no closed form for the pair of 'erf' and 'relu'"):
        pair_overlap("erf", "relu", pair)
