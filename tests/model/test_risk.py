"""Risk and classification error: closed forms against Monte Carlo, data sets by brute force, the errors."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from meanfield.model import network as network_module
from meanfield.model import overlaps
from meanfield.model import risk as risk_module
from meanfield.model.activations import PiecewiseLinear
from meanfield.model.gaussian import GaussianPair, first_layer, pair_overlap
from meanfield.model.laws import AnisotropicGaussians, Empirical, IsotropicGaussians, TeacherStudent
from meanfield.model.losses import LOSSES, check_loss, per_sample_loss
from meanfield.model.moments import feature_moments, output_layer
from meanfield.model.network import Network
from meanfield.model.risk import Estimate, check_fit, classification_error, risk

SLOPED = PiecewiseLinear([(-1.0, 2.0), (0.0, 0.5), (0.7, 0.5)], left_slope=-0.6, right_slope=1.3)
FAMILIES = ("erf", "quadratic", "relu", "linear", "truncated-relu", SLOPED)
ISOTROPIC = IsotropicGaussians(5, 0.6)
ANISOTROPIC = AnisotropicGaussians(5, 2, 0.6)


def network_of(widths, activation, *, scaling="mean-field", biases=False, seed=0, dtype=np.float64):
    """A network in which every layer matters: no zero biases, output weights not centred."""
    rng = np.random.default_rng(seed)
    mean = [0.0] * (len(widths) - 2) + [0.5]
    network = Network.init(widths, activation=activation, scaling=scaling, mean=mean, rng=rng, dtype=dtype)
    if not biases:
        return network
    draws = [rng.normal(0.3, 0.5, n).astype(dtype) for n in widths[1:]]
    return Network(network.weights, draws, activation=activation, scaling=scaling)


SHALLOW = network_of((5, 4, 1), "erf")


def assert_within_four_errors(network, law, *, rng):
    exact, sampled = risk(network, law, method="exact"), risk(network, law, method="sample", rng=rng)
    assert exact.method == "exact"
    assert exact.standard_error == 0
    assert sampled.method == "sample"
    assert abs(sampled.value - exact.value) < 4 * sampled.standard_error


@pytest.mark.parametrize("activation", FAMILIES, ids=str)
@pytest.mark.parametrize("law", [ISOTROPIC, ANISOTROPIC], ids=["isotropic", "anisotropic"])
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("biases", [False, True])
def test_two_gaussians_against_monte_carlo(activation, law, scaling, biases):
    network = network_of((5, 7, 1), activation, scaling=scaling, biases=biases)
    assert_within_four_errors(network, law, rng=1)


@pytest.mark.parametrize("activation", FAMILIES, ids=str)
def test_isotropic_gaussians_have_the_risk_of_the_anisotropic_ones_of_informative_inputs_alone(activation):
    network = network_of((5, 7, 1), activation, biases=True)
    assert risk(network, ISOTROPIC) == risk(network, AnisotropicGaussians(5, 5, 0.6))
    assert risk(network, ISOTROPIC).value != pytest.approx(risk(network, AnisotropicGaussians(5, 4, 0.6)).value)


def test_anisotropic_risks_written_out():
    """Linear neurons have no correlation with the label; quadratic ones half the difference of their variances."""
    w, a = np.array([[0.3, -1.2, 0.7, 0.4, 0.9]]), 0.8
    low, high = (np.sum(w**2 * np.array([s, s, 1, 1, 1]) ** 2) for s in (0.4, 1.6))
    linear, quadratic = (
        Network([w, np.array([[a]])], activation=activation, scaling="standard")
        for activation in ("linear", "quadratic")
    )
    assert risk(linear, ANISOTROPIC).value == pytest.approx(1 + a**2 * (low + high) / 2, rel=1e-14)
    by_hand = 1 - a * (high - low) + 3 * a**2 * (low**2 + high**2) / 2
    assert risk(quadratic, ANISOTROPIC).value == pytest.approx(by_hand, rel=1e-14)


@pytest.mark.parametrize("activation", [activation for activation in FAMILIES if activation != "linear"], ids=str)
def test_neurons_that_see_no_informative_input_know_nothing_of_the_label(activation):
    base = network_of((5, 7, 1), activation, biases=True)
    blind = base.weights[0] * np.array([0, 0, 1, 1, 1])
    network = Network([blind, base.weights[1]], base.biases, activation=activation, scaling="mean-field")
    assert np.abs(feature_moments(network, ANISOTROPIC).correlation).max() == 0
    assert risk(network, ANISOTROPIC).value > 1
    assert np.abs(feature_moments(base, ANISOTROPIC).correlation).max() > 0.01


@pytest.mark.parametrize(
    ("student", "teacher"),
    [("erf", "erf"), ("quadratic",) * 2, ("relu", "relu"), ("relu", "linear"), ("truncated-relu", SLOPED)],
    ids=str,
)
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("biases", [False, True])
def test_teacher_and_student_against_monte_carlo(student, teacher, scaling, biases):
    target = network_of((4, 3, 3), teacher, biases=not biases, scaling="standard", seed=2)
    law = TeacherStudent(target, noise=0.3)
    network = network_of((4, 6, 3), student, scaling=scaling, biases=biases)
    assert_within_four_errors(network, law, rng=3)


@pytest.mark.parametrize("activation", FAMILIES, ids=str)
def test_a_student_equal_to_its_teacher_is_left_with_the_noise(activation):
    teacher = network_of((4, 5, 2), activation, biases=True)
    scale = np.sum(teacher.predict(np.random.default_rng(0).standard_normal((1000, 4))) ** 2) / 1000
    assert abs(risk(teacher, TeacherStudent(teacher, noise=0.5)).value - 2 * 0.25) < 1e-13 * scale
    assert 0 <= risk(teacher, TeacherStudent(teacher)).value < 1e-13 * scale


@pytest.mark.parametrize("activation", FAMILIES, ids=str)
def test_a_network_of_zero_weights_is_a_constant(activation):
    base = network_of((5, 4, 1), activation, biases=True)
    network = Network([np.zeros((4, 5)), base.weights[1]], base.biases, activation=activation, scaling="mean-field")
    constant = network.predict(np.zeros((1, 5)))[0, 0]
    assert risk(network, ISOTROPIC).value == pytest.approx(1 + constant**2, rel=1e-14)


@pytest.mark.parametrize("activation", FAMILIES, ids=str)
def test_reordering_and_duplicating_neurons_changes_nothing(activation):
    network = network_of((5, 9, 1), activation, biases=True)
    order = np.random.default_rng(4).permutation(np.repeat(np.arange(9), 2))
    weights, biases = network.weights, network.biases
    again = Network(
        [weights[0][order], weights[1][:, order]],
        [biases[0][order], biases[1]],
        activation=activation,
        scaling="mean-field",
    )
    assert risk(again, ISOTROPIC).value == pytest.approx(risk(network, ISOTROPIC).value, rel=1e-13)


@pytest.mark.parametrize("activation", ["erf", "relu", "truncated-relu"])
def test_tiles_matter_to_rounding_alone_and_threads_not_at_all(activation, monkeypatch):
    network = network_of((5, 150, 1), activation)
    with threadpool_limits(limits=2):
        at_two_threads = risk(network, ISOTROPIC)
    with threadpool_limits(limits=1):
        assert risk(network, ISOTROPIC) == at_two_threads
    monkeypatch.setattr(overlaps, "ROWS", 37)
    assert risk(network, ISOTROPIC).value == pytest.approx(at_two_threads.value, rel=1e-13)


def second_moment(network, law):
    """Mean over neurons of E sigma(u_i)^2 under isotropic Gaussians."""
    squares = []
    for radius in (1 - law.delta, 1 + law.delta):
        _, _, mean, variance = first_layer(network, radius)
        pair = GaussianPair(mean, mean, variance, variance, variance)
        squares.append(pair_overlap(network.activation, network.activation, pair).mean())
    return np.mean(squares)


def test_risk_at_the_start_of_the_isotropic_gaussians_example():
    """1.7045 for N = infinity, w ~ N(0, 0.8^2 I / d): the radial limit by a series in Hermite functions."""
    law, values = IsotropicGaussians(40, 0.8), []
    settings = {"activation": "truncated-relu", "mean": [0, 1], "std": [0.8 / 40**0.5, 0]}
    for seed in range(3):
        start = Network.init((40, 800, 1), **settings, rng=seed)
        value = risk(start, law).value
        mean_overlap = value - 1 + 2 * feature_moments(start, law).correlation.mean()
        # Independent neurons exceed the limit by (mean_i U_ii - mean_ij U_ij) / (N - 1) in expectation.
        values.append(value - (second_moment(start, law) - mean_overlap) / 799)
    assert abs(np.mean(values) - 1.7045) < 0.01 * 1.7045


def test_moments_are_those_of_features_and_labels():
    teacher = network_of((4, 3, 2), "erf", biases=True, seed=5)
    student, law = network_of((4, 6, 2), "erf", biases=True), TeacherStudent(teacher, noise=0.2)
    moments = feature_moments(student, law)
    x, y = law.sample(100_000, np.random.default_rng(6))
    h = student.features(x, 1)
    for exact, draws in [
        (moments.label_energy, np.sum(y**2, axis=1)),
        (moments.label_mean, y),
        (moments.feature_mean, h),
        (moments.correlation, y[:, :, np.newaxis] * h[:, np.newaxis]),
    ]:
        assert (np.abs(draws.mean(axis=0) - exact) < 4 * draws.std(axis=0) / np.sqrt(len(x))).all()


def test_output_layer_holds_the_factor():
    network = network_of((4, 6, 2), "erf", biases=True, dtype=np.float32)
    readout, bias = output_layer(network)
    assert readout.dtype == bias.dtype == np.float64
    np.testing.assert_allclose(readout, network.weights[1] / 6, rtol=1e-7)
    np.testing.assert_array_equal(bias, network.biases[1])


def test_float32_networks_have_their_float64_closed_form():
    single = network_of((5, 6, 1), "relu", biases=True, dtype=np.float32)
    double = Network(
        [w.astype(np.float64) for w in single.weights],
        [b.astype(np.float64) for b in single.biases],
        activation="relu",
        scaling="mean-field",
    )
    assert risk(single, ISOTROPIC) == risk(double, ISOTROPIC)


def data_set(n, *, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3)), rng.standard_normal((n, 2))


@pytest.mark.parametrize("n", [1, 1024, 2500])
def test_the_rows_of_a_data_set_are_the_population(n):
    network, (x, y) = network_of((3, 8, 8, 2), "tanh", biases=True), data_set(n)
    brute = np.mean(np.sum((y - network.predict(x)) ** 2, axis=1))
    estimate = risk(network, Empirical(x, y))
    assert estimate == Estimate(pytest.approx(brute, rel=1e-14), 0.0, "exact")


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_chunks_matter_to_rounding_alone(chunk, monkeypatch):
    network, law = network_of((3, 8, 2), "relu"), Empirical(*data_set(2500))
    whole = risk(network, law)
    assert risk(network, law) == whole
    monkeypatch.setattr(network_module, "CHUNK", chunk)
    assert risk(network, law).value == pytest.approx(whole.value, rel=1e-14)


@pytest.mark.parametrize("method", ["exact", "sample"])
def test_memory_is_that_of_a_chunk(method):
    network, law = network_of((3, 50, 2), "relu"), Empirical(*data_set(60_000))
    risk(network, law)
    tracemalloc.start()
    risk(network, law, method=method, n_samples=60_000, rng=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * network_module.CHUNK * 50 * 8 < 60_000 * 50 * 8 / 4


def test_sampled_risk_has_an_honest_standard_error():
    network, law = network_of((5, 7, 1), "relu"), ISOTROPIC
    exact = risk(network, law, method="exact").value
    estimates = [risk(network, law, method="sample", n_samples=1500, rng=seed) for seed in range(200)]
    z = np.array([(e.value - exact) / e.standard_error for e in estimates])
    assert abs(z.mean()) < 4 / np.sqrt(200)
    assert abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / 200)


def test_sampled_standard_error_is_that_of_the_mean():
    network, law = network_of((5, 7, 1), "tanh"), ISOTROPIC
    estimate = risk(network, law, n_samples=1500, rng=9)
    stream = np.random.default_rng(9)
    draws = [law.sample(n, stream) for n in (1024, 476)]
    losses = np.concatenate([np.sum((y - network.predict(x)) ** 2, axis=1) for x, y in draws])
    assert estimate.value == pytest.approx(losses.mean(), rel=1e-13)
    assert estimate.standard_error == pytest.approx(losses.std(ddof=1) / np.sqrt(1500), rel=1e-12)
    assert estimate.method == "sample"


def test_any_law_can_be_sampled():
    def sample(n, rng):
        x = rng.standard_normal((n, 5))
        return x, x[:, :1]

    law = SimpleNamespace(dim=5, n_outputs=1, sample=sample)
    estimate = risk(network_of((5, 4, 1), "erf"), law, n_samples=100, rng=0)
    assert estimate.method == "sample"
    assert estimate.value > 0


@pytest.mark.parametrize(("limit", "activation"), [("LARGEST_EXACT", "relu"), ("LARGEST_WITH_ORTHANTS", SLOPED)])
def test_wide_networks_are_sampled_unless_exactness_is_asked_for(limit, activation, monkeypatch):
    law = TeacherStudent(network_of((5, 3, 1), activation))
    network = network_of((5, 8, 1), activation)
    monkeypatch.setattr(risk_module, limit, 11)
    assert risk(network, law).method == "exact"
    monkeypatch.setattr(risk_module, limit, 10)
    assert risk(network, law, n_samples=10, rng=0).method == "sample"
    assert risk(network, law, method="exact").method == "exact"
    with pytest.raises(TypeError, match=r'11 neurons, above 10 .* method="exact".* needs rng='):
        risk(network, law)


@pytest.mark.parametrize(
    ("network", "law", "reason"),
    [
        (network_of((5, 4, 1), "tanh"), ISOTROPIC, "activation 'tanh' have no closed form"),
        (network_of((5, 4, 4, 1), "erf"), ISOTROPIC, "the network has 2"),
        (SHALLOW, TeacherStudent(network_of((5, 4, 4, 1), "erf")), "the teacher has 2"),
        (SHALLOW, TeacherStudent(network_of((5, 4, 1), "relu")), "'erf' and 'relu'"),
        (SHALLOW, SimpleNamespace(dim=5, n_outputs=1, sample=print), "not for SimpleNamespace"),
    ],
)
def test_missing_closed_forms_say_why_and_what_to_do(network, law, reason):
    with pytest.raises(ValueError, match=rf'method="exact" is not available: .*{reason}.*; use'):
        risk(network, law, method="exact")
    with pytest.raises(TypeError, match=rf"risk from samples \(.*{reason}.*\) needs rng="):
        risk(network, law)
    with pytest.raises(ValueError, match=reason):
        feature_moments(network, law)


def test_one_output_is_wrong_where_its_sign_is():
    network = Network([np.eye(2), np.array([[1.0, -1.0]])], activation="linear", scaling="standard")
    x = np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0], [3.0, 0.0]])
    law = Empirical(x, np.array([1, 1, 1, -1]))
    assert classification_error(network, law) == Estimate(0.75, 0.0, "exact")


def test_several_outputs_are_wrong_where_the_largest_is():
    network, (x, _) = network_of((3, 8, 4), "relu"), data_set(2500)
    classes = np.random.default_rng(1).integers(4, size=2500)
    wrong = np.mean(network.predict(x).argmax(axis=1) != classes)
    estimate = classification_error(network, Empirical(x, np.eye(4)[classes]))
    assert 0 < wrong < 1
    assert estimate == Estimate(pytest.approx(wrong, rel=1e-14), 0.0, "exact")


def test_sampled_classification_error_of_a_known_classifier():
    """|x| > c is a chi-squared event when w_1 = 1, w_2 = -1 and the threshold is the output bias."""
    relu = [np.array([[1.0], [-1.0]]), np.array([[1.0, 1.0]])]
    network = Network(relu, [np.zeros(2), np.array([-1.0])], activation="relu", scaling="standard")
    law = IsotropicGaussians(1, 0.5)
    # P(|x| < 1 | y = 1) = 0.495015 with radius 1.5, P(|x| > 1 | y = -1) = 0.045500 with radius 0.5.
    exact = 0.5 * (0.495015 + 0.045500)
    estimate = classification_error(network, law, n_samples=20_000, rng=2)
    assert estimate.method == "sample"
    assert estimate.standard_error == pytest.approx(np.sqrt(estimate.value * (1 - estimate.value) / 20_000))
    assert abs(estimate.value - exact) < 4 * estimate.standard_error


def test_classification_error_refuses_other_labels_and_missing_rng():
    network = network_of((3, 8, 1), "relu")
    with pytest.raises(ValueError, match=r"y of one output must be \+1 or -1, got 0.3"):
        classification_error(network, Empirical(np.zeros((2, 3)), [1.0, 0.3]))
    with pytest.raises(TypeError, match="classification_error from samples needs rng="):
        classification_error(network, IsotropicGaussians(3, 0.5))


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((4, 7, 1), r"network has 4 inputs, but the law IsotropicGaussians has 5: .*\(5, .., 1\)"),
        ((5, 7, 2), "network has 2 outputs, but the law IsotropicGaussians has 1"),
    ],
)
def test_network_and_law_must_fit(widths, message):
    network = network_of(widths, "erf")
    for question in (check_fit, risk, classification_error):
        with pytest.raises(ValueError, match=message):
            question(network, ISOTROPIC)


def test_arguments_in_the_wrong_place_are_named():
    network = network_of((5, 7, 1), "erf")
    with pytest.raises(TypeError, match="network must be a Network, got IsotropicGaussians"):
        risk(ISOTROPIC, network)
    with pytest.raises(TypeError, match="law must have dim, n_outputs and sample"):
        risk(network, np.zeros((3, 5)))
    with pytest.raises(ValueError, match="unknown method 'sampled': did you mean 'sample'"):
        risk(network, ISOTROPIC, method="sampled")
    with pytest.raises(ValueError, match="unknown loss 'squared': did you mean 'square'"):
        risk(network, ISOTROPIC, loss="squared")
    with pytest.raises(ValueError, match="n_samples must be at least 2, got 1"):
        risk(network, ISOTROPIC, method="sample", n_samples=1, rng=0)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_risk_whose_square_overflows_is_a_number_all_the_same():
    law = Empirical([[1.0], [2.0]], [0.0, 0.0])
    huge = Network([np.ones((1, 1)), np.full((1, 1), 1e100)], activation="linear", scaling="standard")
    assert risk(huge, law) == Estimate(pytest.approx(2.5e200), 0.0, "exact")


def test_square_loss_sums_over_outputs_in_float64():
    y = np.array([[1.0, 2.0], [0.0, -1.0]])
    y_hat = np.array([[0.0, 0.5], [0.25, -1.0]], dtype=np.float32)
    losses = per_sample_loss("square", y, y_hat)
    assert losses.dtype == np.float64
    np.testing.assert_array_equal(losses, [3.25, 0.0625])


def test_losses_are_known_by_name():
    assert all(check_loss(name) == name for name in LOSSES)
    with pytest.raises(ValueError, match="unknown loss 'hinge'"):
        check_loss("hinge")
    with pytest.raises(ValueError, match=r"same shape \(n, C\), got \(3, 1\) and \(3,\)"):
        per_sample_loss("square", np.zeros((3, 1)), np.zeros(3))
