"""The promised names: all there, light to import, with the promised signatures."""

import importlib.metadata
import inspect
import subprocess
import sys

import pytest

import meanfield

EMPTY = inspect.Parameter.empty


class Promised:
    """What other people's scripts call, as stubs; arguments beyond these are free if they have defaults."""

    def Network(weights, biases=None, *, activation, scaling): ...
    def PiecewiseLinear(knots): ...
    def IsotropicGaussians(dim, delta): ...
    def AnisotropicGaussians(dim, n_informative, delta): ...
    def TeacherStudent(teacher): ...
    def Empirical(x, y): ...
    def load_dataset(name, *, split="train", target="one-hot"): ...
    def load_table(path, *, split="train", target="value", target_column=None): ...
    def Estimate(value, standard_error, method): ...
    def risk(network, law, *, loss="square"): ...
    def dropout_curve(network, law, n_kept, *, loss="square"): ...
    def dropout_quantiles(network, law, n_kept, *, loss="square", quantiles=(0.05, 0.5, 0.95), rng): ...
    def Subset(kept, change, standard_error, method): ...
    def choose_subset(network, law, n_kept, *, method, loss="square", rng=None): ...
    def subset_ladder(network, law, n_kept, *, loss="square", rng=None): ...
    def ladder_exponents(ladders): ...
    def connect(first, second, *, kept=None, subnetworks=None, second_keeps="own"): ...
    def choose_kept(network, law, n_kept=None, *, method, loss="square", rng=None): ...
    def WeightPath(vertices, kinds): ...
    def path_risk(path, law, *, loss="square", n_grid=11, rng=None): ...
    def align(first, second, *, rng=None): ...
    def StraightLine(first, second): ...
    def QuadraticBezier(first, bend, second): ...
    def train_bezier(first, second, law, *, step_size, n_steps, loss="square", batch_size=100, rng): ...
    def curve_risk(curve, law, *, loss="square", n_grid=51, refine=True, rng=None): ...
    def Plane(first, second, third): ...
    def plane_risk(plane, law, *, loss="square", n_grid=25, rng=None): ...
    def dropout_bounds(network, law, n_kept, *, delta=0.05, rng=None, n_samples=10_000): ...

    def run_sgd(
        network,
        law,
        *,
        step_size,
        n_steps,
        loss="square",
        batch_size=1,
        schedule=None,
        trained="all",
        record=None,
        on_divergence="raise",
        rng,
    ): ...


class PromisedOfNetwork:
    """Methods of a network."""

    def predict(self, x): ...
    def features(self, x, layer): ...
    def keep(self, kept): ...
    def save(self, path): ...
    def load(path): ...
    def init(widths, *, activation="relu", scaling="mean-field", biases=False, rng): ...


def _stubs(of):
    return {name: stub for name, stub in vars(of).items() if not name.startswith("__")}


def _assert_keeps_promise(actual, stub):
    ours, promised = inspect.signature(actual).parameters, inspect.signature(stub).parameters
    positional = [name for name, p in promised.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(ours)[: len(positional)] == positional
    for name, parameter in promised.items():
        assert name in ours, name
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default), name
    optional = [p.default is not EMPTY or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in ours.values()]
    assert all(free or name in promised for name, free in zip(ours, optional, strict=True)), list(ours)


def _run(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("heavy", ["matplotlib", "sklearn", "numba", "scipy", "pandas", "numpy"])
def test_import_is_light(heavy):
    done = _run(f"import meanfield, sys; sys.exit({heavy!r} in sys.modules)")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", meanfield.__all__)
def test_names_can_be_imported(name):
    assert getattr(meanfield, name).__name__ == name
    assert name in dir(meanfield)


def test_importing_every_name_leaves_plots_and_data_sets_out():
    done = _run("from meanfield import *; import sys; sys.exit(not {'matplotlib', 'sklearn'}.isdisjoint(sys.modules))")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", sorted(_stubs(Promised)))
def test_promised_signatures(name):
    assert name in meanfield.__all__
    _assert_keeps_promise(getattr(meanfield, name), vars(Promised)[name])


@pytest.mark.parametrize("name", sorted(_stubs(PromisedOfNetwork)))
def test_promised_methods_of_a_network(name):
    _assert_keeps_promise(getattr(meanfield.Network, name), vars(PromisedOfNetwork)[name])


def test_promised_attributes_of_a_network():
    network = meanfield.Network.init((2, 3, 1), rng=0)
    for name in ("weights", "biases", "activation", "scaling", "widths"):
        assert hasattr(network, name)


def test_other_names_are_errors():
    with pytest.raises(AttributeError, match="module 'meanfield' has no attribute 'run_sdg'"):
        meanfield.run_sdg  # noqa: B018


def test_version_is_that_of_the_distribution():
    assert meanfield.__version__ == importlib.metadata.version("meanfield-sgd")


@pytest.mark.parametrize(
    ("stub", "change"),
    [
        (lambda a, *, b=1: None, lambda a, *, b=2: None),
        (lambda a, *, b=1: None, lambda a, b=1: None),
        (lambda a, *, b=1: None, lambda b=1, *, a: None),
        (lambda a, *, b=1: None, lambda a, c, *, b=1: None),
        (lambda a, *, b=1: None, lambda a, *, c=1: None),
    ],
)
def test_a_broken_promise_is_noticed(stub, change):
    with pytest.raises(AssertionError):
        _assert_keeps_promise(change, stub)
    _assert_keeps_promise(lambda a, *, b=1, c=None: None, stub)
