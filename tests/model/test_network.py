"""The network type: forward pass, sub-networks, saving, initialisation, and what is refused."""

import copy
import pickle

import numpy as np
import oracles
import pytest

from meanfield import Network, PiecewiseLinear
from meanfield.model import network as network_module
from meanfield.model.activations import ACTIVATIONS

SCALINGS = ["mean-field", "standard"]
BENT = PiecewiseLinear([(-0.2, 0.1), (0.3, -0.4), (1.1, 0.9)], left_slope=0.5, right_slope=0.25)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}


def _random_network(seed, n_hidden=2, *, activation="tanh", scaling="mean-field", biases=True, dtype=np.float64):
    rng = np.random.default_rng(seed)
    widths = [3, *rng.integers(2, 9, n_hidden), 2]
    weights = [rng.standard_normal(shape).astype(dtype) for shape in zip(widths[1:], widths[:-1], strict=True)]
    bias = [rng.standard_normal(n).astype(dtype) for n in widths[1:]] if biases else None
    return Network(weights, bias, activation=activation, scaling=scaling)


def _parts(network):
    exact = [w.astype(np.float64) for w in network.weights]
    biases = None if network.biases is None else [b.astype(np.float64) for b in network.biases]
    return exact, biases, network.activation, network.scaling


def _inputs(network, n=20, seed=1):
    return np.random.default_rng(seed).standard_normal((n, network.widths[0])).astype(network.dtype)


def _close(values, expected, dtype=np.float64):
    return (np.abs(values - expected) <= TOLERANCE[dtype] * (1 + np.abs(expected).max())).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("n_hidden", [1, 2, 3, 4])
def test_predict_is_the_formula(n_hidden, scaling, biases, dtype):
    network = _random_network(n_hidden, n_hidden, scaling=scaling, biases=biases, dtype=dtype)
    x = _inputs(network)
    predicted = network.predict(x)
    assert predicted.shape == (20, 2)
    assert predicted.dtype == dtype
    assert _close(predicted, oracles.forward(*_parts(network), x.astype(np.float64)), dtype)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, BENT], ids=str)
def test_predict_with_every_activation(activation):
    network = _random_network(5, 2, activation=activation)
    x = _inputs(network)
    assert _close(network.predict(x), oracles.forward(*_parts(network), x))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_features_and_readout(scaling):
    network = _random_network(6, 3, scaling=scaling, activation=BENT)
    x = _inputs(network)
    weights, biases, activation, _ = _parts(network)
    for layer in (1, 2, 3):
        below = oracles.forward(weights[:layer], biases[:layer], activation, scaling, x)
        assert _close(network.features(x, layer), oracles.activation_value(activation, below))
    assert np.array_equal(network.readout(network.features(x, 3)), network.predict(x))
    for layer in (0, 4):
        with pytest.raises(ValueError, match=f"layer must be in 1..3, got {layer}"):
            network.features(x, layer)


def test_long_inputs_are_worked_on_in_chunks(monkeypatch):
    network = _random_network(7)
    x = _inputs(network, n=50)
    whole, features = network.predict(x), network.features(x, 1)
    monkeypatch.setattr(network_module, "CHUNK", 7)
    assert _close(network.predict(x), whole)
    assert _close(network.features(x, 1), features)
    assert network.predict(x[:0]).shape == (0, 2)


def test_attributes():
    network = _random_network(8, 2, scaling="mean-field")
    n_1, n_2 = network.widths[1:3]
    assert network.widths == (3, n_1, n_2, 2)
    assert (network.n_hidden, network.dtype) == (2, np.float64)
    assert [network.factor(layer) for layer in range(3)] == [1.0, 1 / n_1, 1 / n_2]
    assert [_random_network(8, scaling="standard").factor(layer) for layer in range(3)] == [1.0, 1.0, 1.0]
    assert repr(network) == f"Network(widths=(3, {n_1}, {n_2}, 2), tanh, mean-field, with biases, float64)"


@pytest.mark.parametrize("biases", [True, False])
def test_attributes_go_back_into_the_constructor(biases):
    network = _random_network(9, biases=biases, activation=BENT)
    again = Network(network.weights, network.biases, activation=network.activation, scaling=network.scaling)
    assert again == network
    assert all(a is b or np.shares_memory(a, b) for a, b in zip(again.weights, network.weights, strict=True))


def test_equality_sees_every_part():
    network = _random_network(10)
    single = _random_network(10, dtype=np.float32)
    rebuilt = Network([w.astype(np.float64) for w in single.weights], activation="tanh", scaling="mean-field")
    others = [
        single,
        rebuilt,
        _random_network(11),
        _random_network(10, biases=False),
        _random_network(10, activation="erf"),
        _random_network(10, scaling="standard"),
        _random_network(10, activation=BENT),
        "network",
    ]
    assert network == _random_network(10)
    assert all(network != other for other in others)
    with pytest.raises(TypeError, match="unhashable"):
        hash(network)


def test_arrays_are_read_only_views_and_the_callers_stay_writeable():
    weights, biases = [np.ones((4, 3)), np.ones((2, 4))], [np.ones(4), np.ones(2)]
    network = Network(weights, biases, activation="relu", scaling="standard")
    for kept, given in zip([*network.weights, *network.biases], [*weights, *biases], strict=True):
        assert np.shares_memory(kept, given)
        assert given.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 5
    with pytest.raises(AttributeError):
        network.weights = ()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_are_equal_and_read_only_too(duplicate):
    network = _random_network(12, activation=BENT)
    again = duplicate(network)
    assert again == network
    assert not np.shares_memory(again.weights[0], network.weights[0])
    assert not any(array.flags.writeable for array in (*again.weights, *again.biases))


# --- sub-networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeping_all_neurons_changes_no_bit(dtype, scaling, order):
    drawn = Network.init((20, 64, 50, 33), scaling=scaling, biases=True, dtype=dtype, rng=3)
    network = Network(
        [np.array(w, order=order) for w in drawn.weights], drawn.biases, activation="relu", scaling=scaling
    )
    x = _inputs(network, n=300)
    kept = network.keep([np.arange(64), list(range(50))])
    assert kept == network
    assert np.array_equal(kept.predict(x), network.predict(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("n_hidden", [1, 2, 3])
def test_keep_is_the_masked_and_rescaled_network(n_hidden, scaling, biases, dtype):
    rng = np.random.default_rng(13)
    network = _random_network(n_hidden, n_hidden, scaling=scaling, biases=biases, dtype=dtype)
    kept = [rng.permutation(n)[: rng.integers(1, n + 1)] for n in network.widths[1:-1]]
    x = _inputs(network)
    smaller = network.keep(kept)
    assert smaller.widths[1:-1] == tuple(map(len, kept))
    assert smaller.dtype == dtype
    assert _close(smaller.predict(x), _masked_forward(network, kept, x.astype(np.float64)), dtype)


def _masked_forward(network, kept, x):
    weights, biases, activation, scaling = _parts(network)
    h = x
    for layer, w in enumerate(weights):
        z = oracles.layer_factor(weights, layer, scaling) * (h @ w.T) + (0 if biases is None else biases[layer])
        if layer == network.n_hidden:
            return z
        n, m = len(w), len(kept[layer])
        h = oracles.activation_value(activation, z) * np.isin(np.arange(n), kept[layer]) * n / m


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_order_of_neurons_does_not_matter(scaling):
    rng = np.random.default_rng(14)
    network = _random_network(15, 3, scaling=scaling)
    permuted = network.keep([rng.permutation(n) for n in network.widths[1:-1]])
    x = _inputs(network)
    assert permuted != network
    assert _close(permuted.predict(x), network.predict(x))


def test_keep_leaves_biases_and_mean_field_weights_unscaled():
    network = _random_network(16, 1)
    smaller = network.keep([[1, 0]])
    assert np.array_equal(smaller.weights[0], network.weights[0][[1, 0]])
    assert np.array_equal(smaller.weights[1], network.weights[1][:, [1, 0]])
    assert np.array_equal(smaller.biases[0], network.biases[0][[1, 0]])
    assert np.array_equal(smaller.biases[1], network.biases[1])


@pytest.mark.parametrize(
    ("kept", "error", "match"),
    [
        ([[0]], ValueError, "kept must hold 2 index arrays, one a hidden layer, got 1"),
        ([[0], []], ValueError, r"kept\[1\] must be a non-empty one-dimensional array"),
        ([[0], [0, 0]], ValueError, r"kept\[1\] must be distinct, got 1 repeated"),
        ([[-1], [0]], ValueError, r"kept\[0\] must lie in 0..\d, got values -1..-1"),
        ([[0], [99]], ValueError, r"kept\[1\] must lie in"),
        ([[0], [True, False]], TypeError, r"kept\[1\] must hold integer positions, .*numpy.flatnonzero"),
        ([[0], [0.0]], TypeError, "integer positions"),
        (5, TypeError, r"kept must be a sequence of index arrays, one a hidden layer, got 5$"),
        (None, TypeError, "kept must be a sequence of index arrays, one a hidden layer, got None$"),
        ("01", TypeError, "kept must be a sequence of index arrays, one a hidden layer, got '01'"),
        ([[0], [0, [1]]], TypeError, r"kept\[1\] must hold integer positions, got \[0, \[1\]\]"),
    ],
)
def test_keep_refuses(kept, error, match):
    with pytest.raises(error, match=match):
        _random_network(17).keep(kept)


# --- what the constructor and the forward pass refuse -------------------------------------------------------

W = [np.ones((4, 3)), np.ones((2, 4))]
B = [np.ones(4), np.ones(2)]


@pytest.mark.parametrize(
    ("weights", "biases", "error", "match"),
    [
        (None, None, TypeError, "weights must be a sequence of arrays, one a layer, got None"),
        (W, 5, TypeError, r"biases must be a sequence of arrays, one a layer, got 5"),
        ([W[0].astype(int), W[1]], None, TypeError, r"weights\[0\] must be float32 or float64, got int64"),
        (
            [W[0], W[1].astype(np.float16)],
            None,
            TypeError,
            r"weights\[1\] must be float32 or float64, got float16",
        ),
        ([W[0].astype(">f8"), W[1]], None, TypeError, "must be float32 or float64, got >f8"),
        ([W[0], W[1].astype(np.float32)], None, TypeError, r"one dtype, got \['float32', 'float64'\]"),
        ([W[0].tolist(), W[1]], None, TypeError, r"weights\[0\] must be a numpy array, got list"),
        (
            [W[0], np.full((2, 4), np.nan)],
            None,
            ValueError,
            r"weights\[1\] must be finite, .*\(0, 0\) is nan",
        ),
        ([W[0], np.ones((2, 5))], None, ValueError, r"weights\[1\] must have 4 columns.*got shape \(2, 5\)"),
        ([W[0], np.ones(4)], None, ValueError, r"2 dimension\(s\), got shape \(4,\)"),
        ([np.ones((0, 3)), np.ones((2, 0))], None, ValueError, "must be a non-empty array"),
        ([W[0]], None, ValueError, r"at least two weight arrays \(one hidden layer\), got 1"),
        ([], None, ValueError, "got 0"),
        (W, [B[0]], ValueError, "biases must be None or 2 arrays, one a layer, got 1"),
        (W, [B[0], None], TypeError, r"biases\[1\] is None: give numpy.zeros\(2\)"),
        (W, [B[1], B[0]], ValueError, r"biases\[0\] must have shape \(4,\) and dtype float64, got \(2,\)"),
        (W, [B[0].astype(np.float32), B[1]], ValueError, "dtype float64, got .* float32"),
        (W, [B[0], np.array([1, 2])], TypeError, r"biases\[1\] must be float32 or float64, got int64"),
        (W, [B[0], np.array([1.0, np.inf])], ValueError, r"biases\[1\] must be finite, .*\(1,\) is inf"),
    ],
)
def test_constructor_refuses(weights, biases, error, match):
    with pytest.raises(error, match=match):
        Network(weights, biases, activation="relu", scaling="mean-field")


def test_constructor_refuses_unknown_names():
    with pytest.raises(ValueError, match="unknown activation 'Relu': did you mean 'relu'"):
        Network(W, activation="Relu", scaling="mean-field")
    with pytest.raises(ValueError, match="unknown scaling 'meanfield': did you mean 'mean-field'"):
        Network(W, activation="relu", scaling="meanfield")


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.ones((5, 2)), r"x must have shape \(n, 3\), got \(5, 2\)"),
        (np.ones(3), r"x must have shape \(n, 3\), got \(3,\)"),
        (np.array([[0.0, np.nan, 0.0]]), r"x must be finite, but entry \(0, 1\) is nan"),
    ],
)
def test_forward_pass_refuses(x, match):
    network = Network(W, activation="relu", scaling="mean-field")
    for call in (network.predict, lambda x: network.features(x, 1)):
        with pytest.raises(ValueError, match=match):
            call(x)


# --- saving -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("activation", ["relu", "truncated-relu", BENT], ids=str)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_save_and_load_keep_every_bit(tmp_path, scaling, activation, biases, dtype):
    network = _random_network(18, 3, activation=activation, scaling=scaling, biases=biases, dtype=dtype)
    network.save(tmp_path / "network.npz")
    again = Network.load(tmp_path / "network.npz")
    assert again == network
    assert again.activation == activation
    assert np.array_equal(again.predict(_inputs(network)), network.predict(_inputs(network)))
    assert [file.name for file in tmp_path.iterdir()] == ["network.npz"]


def test_files_written_by_hand_are_read(tmp_path):
    path = tmp_path / "by_hand.npz"
    np.savez_compressed(path, weight_0=W[0], weight_1=W[1], scaling="standard", activation="relu", remark="anything")
    assert Network.load(str(path)) == Network(W, activation="relu", scaling="standard")


WHOLE = {"weight_0": W[0], "weight_1": W[1], "scaling": "standard", "activation": "relu"}


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        (
            {"weight_0": None},
            ValueError,
            r"is not a saved network: it lacks weight_0; it holds \['activation'",
        ),
        ({"weight_0": None, "weight_1": None}, ValueError, "lacks weight_0"),
        ({"weight_1": None, "weight_2": W[1]}, ValueError, "lacks weight_1"),
        ({"scaling": None, "activation": None}, ValueError, "lacks activation, scaling"),
        ({"bias_0": B[0]}, ValueError, "lacks bias_1"),
        ({"activation_knots": np.zeros((1, 2))}, ValueError, "lacks activation_slopes"),
        (
            {"activation_knots": np.zeros((1, 2)), "activation_slopes": np.zeros(3)},
            ValueError,
            r"activation_slopes must hold the left and the right slope, got shape \(3,\)",
        ),
        (
            {"activation_knots": np.zeros(3), "activation_slopes": np.zeros(2)},
            ValueError,
            "knots must be pairs",
        ),
        ({"activation": "tanhh"}, ValueError, "did you mean 'tanh'"),
        ({"scaling": "mean_field"}, ValueError, "did you mean 'mean-field'"),
        (
            {"weight_0": W[0].astype(np.float16)},
            TypeError,
            r"weights\[0\] must be float32 or float64, got float16",
        ),
        ({"weight_0": np.ones((5, 3))}, ValueError, r"weights\[1\] must have 5 columns"),
    ],
)
def test_load_refuses(tmp_path, changes, error, match):
    arrays = {name: value for name, value in {**WHOLE, **changes}.items() if value is not None}
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(error, match=match):
        Network.load(tmp_path / "wrong.npz")


# --- initialisation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "means", "stds"),
    [
        ({}, [0, 0, 0], [1 / np.sqrt(50), 1, 1]),
        ({"scaling": "standard"}, [0, 0, 0], np.sqrt([2 / 50, 2 / 120, 2 / 100])),
        ({"scaling": "standard", "activation": "tanh"}, [0, 0, 0], np.sqrt([1 / 50, 1 / 120, 1 / 100])),
        ({"mean": [0, 1, -2], "std": [0.5, 0.1, 3]}, [0, 1, -2], [0.5, 0.1, 3]),
        ({"mean": 2, "std": 0.3}, [2, 2, 2], [0.3, 0.3, 0.3]),
        ({"mean": [None, 1, None], "std": [None, 0.1, 2]}, [0, 1, 0], [1 / np.sqrt(50), 0.1, 2]),
        ({"scaling": "standard", "std": [None, 0.1, None]}, [0, 0, 0], [np.sqrt(2 / 50), 0.1, np.sqrt(2 / 100)]),
    ],
)
def test_init_draws_each_layer_from_its_gaussian(options, means, stds):
    network = Network.init((50, 120, 100, 30), rng=19, **options)
    for w, mean, std in zip(network.weights, means, stds, strict=True):
        standard_error = std / np.sqrt(w.size)
        assert abs(w.mean() - mean) <= 4 * standard_error
        assert abs(w.std() - std) <= 4 * standard_error / np.sqrt(2)
        assert abs(np.mean(((w - mean) / std) ** 4) - 3) <= 4 * np.sqrt(96 / w.size)


def test_init_layers_are_independent():
    first, second, third = (w.ravel() for w in Network.init((40, 40, 40, 40), rng=20, std=1.0).weights)
    for a, b in ((first, second), (first, third), (second, third)):
        assert abs(np.corrcoef(a, b)[0, 1]) <= 4 / np.sqrt(a.size)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_narrow_two_layer_networks_start_as_the_first_neurons_of_wide_ones(scaling):
    narrow, wide = (Network.init((7, n, 3), scaling=scaling, std=1.0, rng=21) for n in (5, 40))
    assert np.array_equal(narrow.weights[0], wide.weights[0][:5])
    assert np.array_equal(narrow.weights[1], wide.weights[1][:, :5])


def test_init_options():
    network = Network.init((3, 4, 2), activation=BENT, biases=True, std=[1, 0], mean=[0, 0.5], dtype="float32", rng=22)
    assert network.dtype == np.float32
    assert network.activation == BENT
    assert (network.weights[1] == 0.5).all()
    assert all((b == 0).all() for b in network.biases)
    assert Network.init((3, 4, 2), rng=22).biases is None


@pytest.mark.parametrize("one", [np.float32(1), np.int64(1), 1, 1.0])
def test_numbers_of_every_type_are_means_and_standard_deviations(one):
    expected = Network.init((3, 4, 2), mean=(1.0, 1.0), std=(1.0, 1.0), rng=0)
    assert Network.init((3, 4, 2), mean=one, std=one, rng=0) == expected
    assert Network.init((3, 4, 2), mean=(one, 1.0), std=np.array([one, 1]), rng=0) == expected


def test_init_randomness_is_the_callers():
    generator = np.random.default_rng(23)
    first, second = (Network.init((3, 4, 2), rng=generator) for _ in range(2))
    assert first == Network.init((3, 4, 2), rng=23)
    assert first != second


@pytest.mark.parametrize(
    ("widths", "options", "error", "match"),
    [
        ((3, 4, 2), {"rng": None}, TypeError, "Network.init needs rng=.*got None"),
        (
            (3, 2),
            {},
            ValueError,
            r"n_1, .., n_H, C\) with a hidden layer, got \(3, 2\): pass three numbers or more",
        ),
        ((3, 0, 2), {}, ValueError, r"widths\[1\] must be at least 1, got 0"),
        ((3, 4.0, 2), {}, TypeError, r"widths\[1\] must be an integer, got 4.0"),
        ((3, 4, 2), {"dtype": "float16"}, TypeError, "dtype must be float32 or float64, got float16"),
        ((3, 4, 2), {"dtype": int}, TypeError, "dtype must be float32 or float64, got int64"),
        ((3, 4, 2), {"scaling": "ntk"}, ValueError, "unknown scaling 'ntk'"),
        ((3, 4, 2), {"activation": "gelu"}, ValueError, "unknown activation 'gelu'"),
        ((3, 4, 2), {"std": -1}, ValueError, "std must be finite and not negative"),
        ((3, 4, 2), {"mean": np.nan}, ValueError, "mean must be finite"),
        ((3, 4, 2), {"std": [None, np.inf]}, ValueError, "std must be finite and not negative"),
        (3, {}, TypeError, r"widths must be a sequence of integers \(d, n_1, .., n_H, C\), got 3$"),
        ((3, 4, 2), {"dtype": "float99"}, TypeError, "dtype must be float32 or float64, got 'float99'"),
        ((3, 4, 2), {"mean": True}, TypeError, "mean must be a number, got True of type bool"),
        ((3, 4, 2), {"mean": ("a", 0)}, TypeError, "mean must be a number, got 'a' of type str"),
        ((3, 4, 2), {"std": "yes"}, TypeError, "std must be a sequence of numbers, one a layer, got 'yes'"),
        ((3, 4, 2), {"std": np.array(1.0)}, TypeError, "std must be a sequence of numbers, one a layer, got array"),
        ((3, 4, 2), {"mean": [0, 1, 2]}, ValueError, r"mean must be one number or one a layer \(2\), got 3"),
    ],
)
def test_init_refuses(widths, options, error, match):
    with pytest.raises(error, match=match):
        Network.init(widths, **{"rng": 0, **options})


@pytest.mark.parametrize("misspelt", ["biases_0", "bias0", "weights_0"])
def test_misspelt_weights_and_biases_are_named_and_not_ignored(tmp_path, misspelt):
    arrays = dict(Network.init((3, 4, 2), rng=0).arrays()) | {misspelt: np.zeros(4)}
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(
        ValueError, match=f"arrays that would be ignored: {misspelt}; weights and biases are called weight_i"
    ):
        Network.load(tmp_path / "mine.npz")
