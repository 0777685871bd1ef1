"""No bound is exceeded more often than it allows, by enumeration; a wrong constant in one is noticed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import hadamard

from meanfield.theory import bounds
from meanfield.theory.bounds import (
    NeuronConstants,
    cantelli_bound,
    check_delta,
    exchange_factor,
    exponential_bound,
    judge_bound,
    limit_bounds,
    limit_std,
    sup_bound,
)
from meanfield.theory.scaling import finite_population_factor

DELTAS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.95)


@dataclass(frozen=True)
class Population:
    """All there is to know of N neurons f (N, n) on n equally likely samples with targets y (n,)."""

    f: np.ndarray
    y: np.ndarray

    @property
    def n_neurons(self):
        return len(self.f)

    @cached_property
    def changes(self):
        """By m: L_A - L for every set A of m neurons."""
        whole = ((self.y - self.f.mean(axis=0)) ** 2).mean()
        sets = {m: list(combinations(range(self.n_neurons), m)) for m in range(1, self.n_neurons)}
        kept_means = {m: np.array([self.f[list(kept)].mean(axis=0) for kept in of_size]) for m, of_size in sets.items()}
        return {m: ((self.y - means) ** 2).mean(axis=1) - whole for m, means in kept_means.items()}

    def constants(self, m):
        gamma = (self.f * (self.y - self.f.mean(axis=0))).mean(axis=1)
        distances = ((self.f[:, np.newaxis] - self.f) ** 2).mean(axis=2)
        return {
            "mean": finite_population_factor(self.n_neurons, m) * self.f.var(axis=0).mean(),
            "std": self.changes[m].std(),
            "gamma_range": np.ptp(gamma),
            "diameter": np.sqrt(distances.max()),
            "largest_neuron": np.abs(self.f).max(),
            "largest_target": np.abs(self.y).max(),
            "n_neurons": self.n_neurons,
            "n_kept": m,
        }


def camps(n_neurons, target):
    """Half of the neurons say 1, half -1."""
    return Population(np.repeat([[1.0], [-1.0]], n_neurons // 2, axis=0), np.array([target]))


def random_population(seed):
    rng = np.random.default_rng(seed)
    return Population(rng.standard_normal((rng.integers(5, 11), 6)), rng.standard_normal(6) * rng.integers(1, 20))


POPULATIONS = {
    # All but one of the neurons are equal, and that one does harm: two values, the case Cantelli's bound is sharp in.
    "one against all": Population(np.eye(10)[:, :1], np.array([-1e3])),
    "camps, linear part alone": camps(12, 1e3),
    "camps, quadratic part alone": camps(12, 0.0),
    # Every set of m has the same loss: nothing but the mean is left of a bound at large delta.
    "orthogonal": Population(hadamard(8).astype(float), np.zeros(8)),
    **{f"random {seed}": random_population(seed) for seed in range(12)},
}


def value_of(bound, delta, constants):
    if bound == "cantelli":
        return cantelli_bound(constants["mean"], constants["std"], delta)
    needs, formula = {
        "exponential": (("gamma_range", "diameter"), exponential_bound),
        "sup": (("largest_neuron", "largest_target"), sup_bound),
    }[bound]
    return formula(
        constants["mean"], delta=delta, **{name: constants[name] for name in (*needs, "n_neurons", "n_kept")}
    )


def exceedances(bound, tamper=lambda constants: constants):
    """All (population, m, delta, probability of exceeding) in which a bound is exceeded too often."""
    found = []
    for name, population in POPULATIONS.items():
        for m, changes in population.changes.items():
            # The last delta is just below the probability of drawing one given neuron.
            for delta in (*DELTAS, 0.99 * m / population.n_neurons):
                value = value_of(bound, delta, tamper(population.constants(m)))
                above = float((~(changes <= value + 1e-9 * np.abs(changes).max())).mean())
                if not above <= delta:
                    found.append((name, m, delta, above))
    return found


@pytest.mark.parametrize("bound", ["cantelli", "exponential", "sup"])
def test_no_bound_is_exceeded_more_often_than_it_allows(bound):
    assert exceedances(bound) == []


def times(factor, *names):
    return lambda constants: {**constants, **{name: factor * constants[name] for name in names}}


@pytest.mark.parametrize(
    ("bound", "tamper"),
    [
        ("cantelli", times(0.5, "std")),
        ("cantelli", times(0.95, "std")),
        ("cantelli", times(0, "mean")),
        ("exponential", times(0.5, "gamma_range")),
        ("exponential", times(0.5, "diameter")),
        ("exponential", times(0, "mean")),
        ("sup", times(0.5, "largest_target")),
        ("sup", times(0.5, "largest_neuron")),
        ("sup", times(0, "mean")),
    ],
)
def test_a_wrong_constant_is_noticed(bound, tamper):
    assert exceedances(bound, tamper)


@pytest.mark.parametrize("bound", ["exponential", "sup"])
def test_a_halved_kappa_is_noticed(monkeypatch, bound):
    monkeypatch.setattr(bounds, "exchange_factor", lambda *sizes: exchange_factor(*sizes) / 2)
    assert exceedances(bound)


def test_cantelli_is_attained_by_two_values():
    # Of 10 neurons one is kept: mean 0, the odd one has probability 1/10.
    values = np.array([9.0] + [-1.0] * 9)
    assert cantelli_bound(values.mean(), values.std(), 0.1) == pytest.approx(9, rel=1e-14)


def test_formulas_in_numbers():
    kappa = math.sqrt(60 / 99.5 / (1 - 1 / 120))
    assert exchange_factor(100, 40) == pytest.approx(kappa, rel=1e-14)
    assert cantelli_bound(2.0, 3.0, 0.2) == pytest.approx(8.0, rel=1e-14)
    q = kappa * math.sqrt(math.log(2 / 0.05) / 80)
    of = {"n_neurons": 100, "n_kept": 40, "delta": 0.05}
    exponential = exponential_bound(4.0, gamma_range=0.5, diameter=3.0, **of)
    assert exponential == pytest.approx(q + (2 + 3 * q) ** 2, rel=1e-14)
    tail = kappa * math.sqrt(math.log(20) / 80)
    assert sup_bound(4.0, largest_neuron=2.0, largest_target=5.0, **of) == pytest.approx(4 + 56 * tail, rel=1e-14)


class TestExchangeFactor:
    @staticmethod
    def pairs(most=120):
        return np.array([(n, m) for n in range(2, most) for m in range(1, n)]).T

    def test_covers_the_increments_of_the_martingale(self):
        for n, m in self.pairs().T:
            steps = np.arange(1, m + 1)
            if m > n - m:  # the dropped neurons are drawn one by one instead
                steps = np.arange(1, n - m + 1)
            partners = max(m, n - m)
            needed = ((partners / (n - steps)) ** 2).sum() / m
            assert needed <= exchange_factor(n, m) ** 2 * (1 + 1e-12)

    def test_is_zero_at_n_at_most_one_and_one_in_the_limit(self):
        n, m = self.pairs()
        assert (exchange_factor(n, n) == 0).all()
        assert (exchange_factor([1, 2, 10**9], [1, 2, 10**9]) == 0).all()
        assert ((exchange_factor(n, m) > 0) & (exchange_factor(n, m) <= 1)).all()
        assert (exchange_factor(math.inf, m) == 1).all()
        assert exchange_factor(10**9, 7) == pytest.approx(1, abs=1e-8)

    def test_falls_with_m_and_rises_with_n(self):
        n, m = self.pairs()
        inner = m < n - 1
        assert (exchange_factor(n, m)[inner] >= exchange_factor(n, m + 1)[inner]).all()
        assert (exchange_factor(n + 1, m) >= exchange_factor(n, m)).all()

    @pytest.mark.parametrize(("n_neurons", "n_kept"), [(4, 5), (4, 0), (math.inf, math.inf), (4, math.nan)])
    def test_kept_out_of_range(self, n_neurons, n_kept):
        with pytest.raises(ValueError, match=rf"n_kept must lie in 1..n_neurons={n_neurons}, got {n_kept}"):
            exchange_factor(n_neurons, n_kept)


RANGES = {"exponential": {"gamma_range": 0.5, "diameter": 3.0}, "sup": {"largest_neuron": 1.0, "largest_target": 2.0}}
FORMULAS = [(exponential_bound, RANGES["exponential"]), (sup_bound, RANGES["sup"])]


@pytest.mark.parametrize(("formula", "constants"), FORMULAS)
class TestMonotonicity:
    def test_all_neurons_kept_is_exactly_zero(self, formula, constants):
        assert formula(0.0, **constants, n_neurons=[1, 7, 1000], n_kept=[1, 7, 1000], delta=0.05).tolist() == [0, 0, 0]

    def test_falls_with_m_and_delta(self, formula, constants):
        m = np.arange(1, 50)
        means = 5.0 * finite_population_factor(50, m)
        values = [formula(means, **constants, n_neurons=50, n_kept=m, delta=delta) for delta in DELTAS]
        assert (np.diff(values, axis=1) < 0).all()
        assert (np.diff(values, axis=0) < 0).all()

    def test_rises_with_every_constant(self, formula, constants):
        of = {"n_neurons": 50, "n_kept": 7, "delta": 0.05}
        value = formula(1.0, **constants, **of)
        assert formula(1.1, **constants, **of) > value
        for name in constants:
            assert formula(1.0, **{**constants, name: 1.1 * constants[name]}, **of) > value

    def test_no_width_is_above_the_limit(self, formula, constants):
        n, m = TestExchangeFactor.pairs()
        at_width = formula(5.0 * finite_population_factor(n, m), **constants, n_neurons=n, n_kept=m, delta=0.05)
        assert (at_width <= formula(5.0 / m, **constants, n_neurons=math.inf, n_kept=m, delta=0.05)).all()

    @pytest.mark.parametrize("delta", [0, 1, -0.1, math.nan])
    def test_delta_out_of_range(self, formula, constants, delta):
        with pytest.raises(ValueError, match=rf"delta must lie between 0 and 1, got {delta}: pass e.g. delta=0.05"):
            formula(1.0, **constants, n_neurons=5, n_kept=2, delta=delta)

    def test_negative_constants(self, formula, constants):
        for name in constants:
            with pytest.raises(ValueError, match=f"{name} must not be negative, got -1.0"):
                formula(1.0, **{**constants, name: -1.0}, n_neurons=5, n_kept=2, delta=0.05)


def test_cantelli_falls_with_delta_and_rises_with_its_moments():
    assert (np.diff([cantelli_bound(1.0, 2.0, delta) for delta in DELTAS]) < 0).all()
    assert cantelli_bound(1.1, 2.0, 0.05) > cantelli_bound(1.0, 2.0, 0.05)
    assert cantelli_bound(1.0, 2.1, 0.05) > cantelli_bound(1.0, 2.0, 0.05)
    assert cantelli_bound(0.0, 0.0, 0.05) == 0
    assert np.isnan(cantelli_bound(1.0, math.nan, 0.05))
    with pytest.raises(ValueError, match=r"std must not be negative, got -2\.0"):
        cantelli_bound(1.0, [1.0, -2.0], 0.05)


def test_a_mean_that_rounding_made_negative_is_zero():
    of = {"gamma_range": 0.0, "diameter": 0.0, "n_neurons": 5, "n_kept": 2, "delta": 0.05}
    assert exponential_bound(-1e-18, **of) == 0


class TestLimit:
    @staticmethod
    def law_of_neurons(seed, n_atoms=4):
        """Constants of a law of neurons with equally likely atoms, and all losses of m independent ones."""
        rng = np.random.default_rng(seed)
        f, y = rng.standard_normal((n_atoms, 5)), 3 * rng.standard_normal(5)
        phi = f - f.mean(axis=0)
        gamma, pairs = (phi * (y - f.mean(axis=0))).mean(axis=1), phi @ phi.T / 5
        own = np.diag(pairs)
        constants = NeuronConstants(
            c_n=own.mean(),
            gamma_variance=gamma.var(),
            gamma_covariance=np.mean(gamma * (own - own.mean())),
            diagonal_variance=own.var(),
            # Independent neurons may be equal: the diagonal counts.
            pair_square=(pairs**2).mean(),
            gamma_range=np.ptp(gamma),
            diameter=np.sqrt(((f[:, np.newaxis] - f) ** 2).mean(axis=2).max()),
        )
        whole = ((y - f.mean(axis=0)) ** 2).mean()

        def changes(m):
            drawn = f[np.array(list(product(range(n_atoms), repeat=m)))]
            return ((y - drawn.mean(axis=1)) ** 2).mean(axis=1) - whole

        return constants, changes

    @pytest.mark.parametrize("seed", range(3))
    def test_std_is_that_of_independent_neurons(self, seed):
        constants, changes = self.law_of_neurons(seed)
        n_kept = np.arange(1, 6)
        np.testing.assert_allclose(limit_std(constants, n_kept), [changes(m).std() for m in n_kept], rtol=1e-10)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("delta", DELTAS)
    def test_no_limit_is_exceeded_by_independent_neurons(self, seed, delta):
        constants, changes = self.law_of_neurons(seed)
        for row in limit_bounds(constants, range(1, 6), delta=delta).itertuples():
            assert (changes(row.n_kept) <= row.value * (1 + 1e-12)).mean() >= 1 - delta

    def test_the_table(self):
        constants, _ = self.law_of_neurons(0)
        table = limit_bounds(constants, [3, 8], delta=0.1)
        assert table["bound"].tolist() == ["cantelli", "exponential"] * 2
        assert table["n_kept"].tolist() == [3, 3, 8, 8]
        assert table["delta"].tolist() == [0.1] * 4
        q = np.sqrt(np.log(20) / 16)
        quadratic = (np.sqrt(constants.c_n / 8) + constants.diameter * q) ** 2
        assert table["value"][3] == pytest.approx(2 * constants.gamma_range * q + quadratic, rel=1e-14)
        assert table["value"][2] == pytest.approx(constants.c_n / 8 + 3 * limit_std(constants, 8), rel=1e-14)

    def test_falls_with_m(self):
        constants, _ = self.law_of_neurons(0)
        table = limit_bounds(constants, np.arange(1, 200))
        for _, rows in table.groupby("bound"):
            assert (np.diff(rows["value"]) < 0).all()

    def test_kept_out_of_range(self):
        constants, _ = self.law_of_neurons(0)
        with pytest.raises(ValueError, match="n_kept must be at least 1, got 0"):
            limit_bounds(constants, [3, 0])


class TestJudgeBound:
    @pytest.mark.parametrize("above", [0, 1, 7, 20])
    def test_interval_is_the_exact_binomial_one(self, above):
        draws = np.r_[np.full(above, 2.0), np.zeros(20 - above)]
        verdict = judge_bound(draws, 1.0, 0.05)
        interval = stats.binomtest(above, 20).proportion_ci(0.95, method="exact")
        assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
        assert (verdict.exceedance, verdict.n_draws, verdict.delta) == (above / 20, 20, 0.05)
        assert verdict.refuted == (interval.low > 0.05)

    def test_ratio_is_at_most_one_exactly_if_the_bound_is_not_exceeded_too_often(self):
        draws = np.arange(1.0, 101.0)
        assert judge_bound(draws, 95.0, 0.05).ratio == 1
        assert judge_bound(draws, 95.0, 0.05).exceedance == 0.05
        assert judge_bound(draws, 94.9, 0.05).ratio > 1
        assert judge_bound(draws, 94.9, 0.05).exceedance == 0.06

    def test_false_alarms_are_at_most_two_and_a_half_percent(self):
        draws = np.random.default_rng(0).random((2000, 400))
        alarms = np.mean([judge_bound(row, 0.95, 0.05).refuted for row in draws])
        assert 0 < alarms <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 2000)

    @pytest.mark.parametrize("draws", [[], [1.0, math.nan], [[1.0]]])
    def test_bad_draws(self, draws):
        with pytest.raises(ValueError, match="changes must be a non-empty row of finite numbers, got shape"):
            judge_bound(draws, 1.0, 0.05)

    @pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
    def test_bad_value(self, value):
        with pytest.raises(ValueError, match=f"value must be positive and finite, got {value}"):
            judge_bound([1.0], value, 0.05)


def test_delta_is_returned_as_a_float():
    assert check_delta(np.float32(0.5)) == 0.5


def test_public_names_exist():
    assert all(hasattr(bounds, name) for name in bounds.__all__)
