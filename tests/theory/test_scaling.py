"""Intervals cover, tests keep their size, the control is rejected: on power laws whose exponent is known."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from meanfield.theory import scaling
from meanfield.theory.scaling import (
    ExponentFit,
    compare_with_margin,
    equivalence_test,
    finite_population_factor,
    fit_exponent,
    rejects,
    settled_from,
)

N_SEEDS = 5
N_REPLICAS = 2000
WIDTHS = 2 ** np.arange(6, 15)  # 64..16384: five ranges of a factor 16 or more
MARGIN = 0.1


def rows(points, n_seeds=N_SEEDS):
    """Columns x and seed of a complete design, seed by seed."""
    return np.tile(points, n_seeds), np.repeat(np.arange(n_seeds), len(points))


def curves(log_mean, sigma, *, correlated, rng_seed, n_replicas=N_REPLICAS):
    """Replicas (n_replicas, n_seeds, n_points) of exp(log_mean + noise), a random walk along x or white."""
    noise = sigma * np.random.default_rng(rng_seed).standard_normal((n_replicas, N_SEEDS, log_mean.size))
    return np.exp(log_mean + (noise.cumsum(axis=-1) if correlated else noise))


def fits(points, replicas):
    x, seed = rows(points)
    return [fit_exponent(x, y.ravel(), seed) for y in replicas]


def verdicts(replicas):
    x, seed = rows(WIDTHS)
    return [settled_from(x, y.ravel(), seed, margin=MARGIN) for y in replicas]


def rate(outcomes):
    """Fraction of true outcomes."""
    return float(np.mean(np.asarray(list(outcomes), dtype=bool)))


def three_standard_errors(probability, n=N_REPLICAS):
    return 3 * np.sqrt(probability * (1 - probability) / n)


def a_fit(low, high, **changes):
    middle = (low + high) / 2
    fit = ExponentFit(middle, (high - low) / 4, low, high, 0.9, N_SEEDS, 64.0, 4096.0, 1.0)
    return dataclasses.replace(fit, **changes)


class TestFitExponent:
    @pytest.mark.parametrize("exponent", [-1.0, -0.5, 0.0, 1.0])
    def test_recovers_an_exact_power_law(self, exponent):
        x, seed = rows(WIDTHS)
        fit = fit_exponent(x, 3.0 * x.astype(float) ** exponent, seed)
        assert fit.exponent == pytest.approx(exponent, abs=1e-12)
        assert fit.constant == pytest.approx(3.0, rel=1e-12)
        assert fit.low == pytest.approx(fit.high, abs=1e-12)
        assert (fit.n_seeds, fit.x_min, fit.x_max, fit.level) == (N_SEEDS, 64, 16384, 0.9)

    @pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
    def test_equals_one_regression_a_seed_and_student_t_over_seeds(self, level):
        x, seed = rows(WIDTHS)
        y = curves(0.3 * np.log(WIDTHS), 0.2, correlated=True, rng_seed=1, n_replicas=1)[0]
        lines = [stats.linregress(np.log(WIDTHS), np.log(of_seed)) for of_seed in y]
        slopes = np.array([line.slope for line in lines])
        interval = stats.t.interval(level, N_SEEDS - 1, loc=slopes.mean(), scale=stats.sem(slopes))
        fit = fit_exponent(x, y.ravel(), seed, level=level)
        assert fit.exponent == pytest.approx(slopes.mean(), rel=1e-12)
        assert fit.standard_error == pytest.approx(stats.sem(slopes), rel=1e-10)
        assert (fit.low, fit.high) == pytest.approx(interval, rel=1e-10)
        assert fit.constant == pytest.approx(np.exp(np.mean([line.intercept for line in lines])), rel=1e-10)

    def test_does_not_depend_on_row_order_labels_or_container(self):
        x, seed = rows(WIDTHS)
        y = curves(np.zeros(WIDTHS.size), 0.2, correlated=True, rng_seed=2, n_replicas=1).ravel()
        frame = pd.DataFrame({"x": x, "y": y, "seed": [f"replica {s}" for s in seed]})
        frame = frame.sample(frac=1, random_state=0)
        plain = fit_exponent(list(x), list(y), list(seed))
        shuffled = fit_exponent(frame.x, frame.y, frame.seed)
        assert dataclasses.astuple(shuffled) == pytest.approx(dataclasses.astuple(plain), rel=1e-9)

    @pytest.mark.parametrize("correlated", [False, True])
    def test_interval_covers_at_its_level(self, correlated):
        replicas = curves(-np.log(WIDTHS), 0.1, correlated=correlated, rng_seed=3)
        covered = rate(fit.low <= -1 <= fit.high for fit in fits(WIDTHS, replicas))
        assert abs(covered - 0.9) <= three_standard_errors(0.9)

    def test_control_rows_as_units_undercover_when_points_of_a_seed_are_correlated(self):
        replicas = np.log(curves(-np.log(WIDTHS), 0.1, correlated=True, rng_seed=3))
        x, _ = rows(np.log(WIDTHS))
        u, n = x - x.mean(), x.size
        log_y = replicas.reshape(N_REPLICAS, n)
        slope = (log_y * u).sum(axis=1) / (u * u).sum()
        residual = log_y - log_y.mean(axis=1, keepdims=True) - slope[:, None] * u
        error = np.sqrt((residual**2).sum(axis=1) / (n - 2) / (u * u).sum())
        covered = rate(abs(slope + 1) <= stats.t.ppf(0.95, n - 2) * error)
        assert covered < 0.9 - 3 * three_standard_errors(0.9)

    def test_describes_itself_in_words(self):
        fit = a_fit(-1.03, -0.99, exponent=-1.01, n_seeds=4)
        assert fit.describe() == "exponent -1.010 (90% interval -1.030..-0.990, 4 seeds, x in 64..4096)"

    def test_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            a_fit(0.0, 0.1).exponent = 0.0


class TestFitExponentErrors:
    x, seed = rows(np.array([64, 256]), n_seeds=2)
    y = np.array([1.0, 2.0, 3.0, 4.0])

    @pytest.mark.parametrize("level", [0, 1, 1.5, np.nan])
    def test_level(self, level):
        with pytest.raises(ValueError, match=rf"level must lie between 0 and 1, got {level}"):
            fit_exponent(self.x, self.y, self.seed, level=level)

    def test_lengths_differ(self):
        with pytest.raises(ValueError, match=r"x, y and seed .* equal length.*\(4,\), \(3,\) and \(4,\)"):
            fit_exponent(self.x, self.y[:3], self.seed)

    def test_not_one_dimensional(self):
        with pytest.raises(ValueError, match=r"one-dimensional .* got shapes \(2, 2\)"):
            fit_exponent(self.x.reshape(2, 2), self.y.reshape(2, 2), self.seed.reshape(2, 2))

    def test_not_numbers(self):
        with pytest.raises(TypeError, match=r"y must hold numbers, got dtype <U1: convert it with astype"):
            fit_exponent(self.x, ["1", "2", "3", "4"], self.seed)

    @pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
    @pytest.mark.parametrize("name", ["x", "y"])
    def test_not_positive_or_not_finite(self, name, value):
        columns = {"x": self.x.astype(float), "y": self.y.copy(), "seed": self.seed}
        columns[name][2] = value
        with pytest.raises(ValueError, match=rf"{name} must be positive.*row 2 is {value} \(1 such"):
            fit_exponent(**columns)

    def test_one_seed(self):
        with pytest.raises(ValueError, match=r"at least 2 seeds, got 1: add a replica"):
            fit_exponent(self.x[:2], self.y[:2], self.seed[:2])

    def test_no_rows(self):
        with pytest.raises(ValueError, match=r"at least 2 seeds, got 0: add a replica"):
            fit_exponent(np.array([]), np.array([]), np.array([]))

    def test_row_without_label(self):
        with pytest.raises(ValueError, match=r"seed must label every row, but row 1 has none"):
            fit_exponent(self.x, self.y, [0.0, np.nan, 1.0, 1.0])

    def test_one_distinct_x(self):
        with pytest.raises(ValueError, match=r"at least 2 distinct x, got only 64: add another"):
            fit_exponent([64, 64], [1.0, 2.0], [0, 1])

    def test_a_seed_lacks_a_point(self):
        with pytest.raises(ValueError, match=r"cover the same x.*seed 1 has 0 rows at 256: add a missing"):
            fit_exponent(self.x[:3], self.y[:3], self.seed[:3])

    def test_a_seed_repeats_a_point(self):
        with pytest.raises(ValueError, match=r"one row at each.*seed b has 2 rows at 64: average repeated rows$"):
            fit_exponent([*self.x, 64], [*self.y, 5.0], ["a", "a", "b", "b", "b"])


class TestEquivalenceTest:
    @pytest.mark.parametrize(
        ("low", "high", "inside"),
        [
            (-0.09, 0.09, True),
            (-0.1, 0.05, False),
            (-0.05, 0.1, False),
            (0.2, 0.3, False),
            (np.nan, np.nan, False),
        ],
    )
    def test_passes_exactly_when_the_interval_is_inside(self, low, high, inside):
        assert equivalence_test(a_fit(low, high), MARGIN) is inside

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_false_alarms_are_five_percent_at_the_margin(self, sign):
        replicas = curves(sign * MARGIN * np.log(WIDTHS), 0.05, correlated=True, rng_seed=4)
        alarms = rate(equivalence_test(fit, MARGIN) for fit in fits(WIDTHS, replicas))
        assert abs(alarms - 0.05) <= three_standard_errors(0.05)

    @pytest.mark.parametrize("sigma", [0.2, 0.5])
    def test_noise_never_raises_the_false_alarm_rate(self, sigma):
        replicas = curves(MARGIN * np.log(WIDTHS), sigma, correlated=True, rng_seed=5)
        alarms = rate(equivalence_test(fit, MARGIN) for fit in fits(WIDTHS, replicas))
        assert alarms <= 0.05 + three_standard_errors(0.05)

    def test_passes_when_nothing_depends_on_width(self):
        replicas = curves(np.zeros(WIDTHS.size), 0.05, correlated=True, rng_seed=6)
        assert rate(equivalence_test(fit, MARGIN) for fit in fits(WIDTHS, replicas)) >= 0.99

    @pytest.mark.parametrize("margin", [0.0, -0.1, np.nan])
    @pytest.mark.parametrize("judge", [equivalence_test, rejects, compare_with_margin])
    def test_margin_must_be_positive(self, judge, margin):
        with pytest.raises(ValueError, match=rf"margin must be positive and finite, got {margin}"):
            judge(a_fit(0.0, 0.1), margin)


class TestRejects:
    @pytest.mark.parametrize(
        ("low", "high", "outside"),
        [
            (0.11, 0.2, True),
            (-0.2, -0.11, True),
            (0.1, 0.2, False),
            (-0.2, 0.2, False),
            (np.nan, np.nan, False),
        ],
    )
    def test_passes_exactly_when_the_interval_is_outside(self, low, high, outside):
        assert rejects(a_fit(low, high), MARGIN) is outside

    def test_control_of_exponent_one_is_always_rejected(self):
        judged = fits(WIDTHS, curves(np.log(WIDTHS), 0.1, correlated=True, rng_seed=7))
        assert all(rejects(fit, MARGIN) for fit in judged)
        assert not any(equivalence_test(fit, MARGIN) for fit in judged)

    @pytest.mark.parametrize(("sigma", "size"), [(0.05, 0.05), (100.0, 0.1)])
    def test_false_alarms_at_the_margin_are_one_sided_for_narrow_and_two_sided_for_wide_intervals(self, sigma, size):
        replicas = curves(MARGIN * np.log(WIDTHS), sigma, correlated=False, rng_seed=8)
        alarms = rate(rejects(fit, MARGIN) for fit in fits(WIDTHS, replicas))
        assert abs(alarms - size) <= three_standard_errors(size)

    @pytest.mark.parametrize(
        ("low", "high", "words"),
        [
            (-0.02, 0.04, "inside +-0.1"),
            (0.9, 1.1, "wholly outside +-0.1"),
            (0.0, 0.2, "undecided (neither inside nor wholly outside +-0.1)"),
        ],
    )
    def test_words_follow_the_two_tests(self, low, high, words):
        fit = a_fit(low, high)
        assert compare_with_margin(fit, MARGIN) == f"{fit.describe()}, {words}"


class TestSettledFrom:
    # Flat from 256 on; each width below that bends every longer range out of the margin.
    TESTED = "ranges of width up to the largest, tested from the shortest on until one fails"
    BENT = np.where(WIDTHS < 256, 2.0 * np.log2(WIDTHS / 256), 0.0)

    def test_finds_where_the_curve_flattens(self):
        x, seed = rows(WIDTHS)
        y = curves(self.BENT, 0.01, correlated=True, rng_seed=9, n_replicas=1).ravel()
        verdict = settled_from(x, y, seed, margin=MARGIN)
        assert verdict.settled
        assert verdict.from_width == 256
        assert verdict.fit == fit_exponent(x[x >= 256], y[x >= 256], seed[x >= 256])
        words = f"{verdict.fit.describe()}, inside +-0.1; {self.TESTED}: 3 of 5 pass"
        assert verdict.describe() == (
            "settled from width 256 on (within +-0.1: a factor 1.5 over a 64-fold width; no drift seen, the interval "
            f"holds 0): {words}"
        )

    def test_table_holds_every_range_from_the_shortest_outwards(self):
        x, seed = rows(WIDTHS)
        y = curves(self.BENT, 0.01, correlated=True, rng_seed=9, n_replicas=1).ravel()
        table = settled_from(x, y, seed, margin=MARGIN).table
        assert table["x_min"].tolist() == [1024, 512, 256, 128, 64]
        assert (table["x_max"] == 16384).all()
        assert table["accepted"].tolist() == [True, True, True, False, False]
        for row in table.itertuples():
            expected = fit_exponent(x[x >= row.x_min], y[x >= row.x_min], seed[x >= row.x_min])
            assert (row.exponent, row.low, row.high) == (expected.exponent, expected.low, expected.high)
            assert row.equivalent == equivalence_test(expected, MARGIN)

    def test_a_failure_ends_the_search_though_a_longer_range_passes(self):
        # Log value climbs 0.25 a doubling over the last two: a long flat stretch before it dilutes the slope.
        x, seed = rows(WIDTHS)
        late_rise = np.where(WIDTHS > 4096, 0.25 * np.log2(WIDTHS / 4096), 0.0)
        y = curves(late_rise, 1e-3, correlated=True, rng_seed=10, n_replicas=1).ravel()
        verdict = settled_from(x, y, seed, margin=MARGIN)
        assert verdict.table["equivalent"].tolist() == [False, False, False, True, True]
        assert not verdict.table["accepted"].any()
        assert not verdict.settled
        assert verdict.from_width is None
        assert verdict.fit.x_min == 1024
        # Centred on 1024..16384 in doublings: (1 * 0.25 + 2 * 0.5) / (4 + 1 + 0 + 1 + 4).
        assert verdict.fit.exponent == pytest.approx(0.125 / np.log(2), abs=2e-3)
        words = f"{verdict.fit.describe()}, wholly outside +-0.1; {self.TESTED}: 0 of 5 pass"
        assert verdict.describe() == f"not shown to settle: {words}"

    def test_noise_is_no_evidence_of_settling(self):
        x, seed = rows(WIDTHS)
        y = curves(np.zeros(WIDTHS.size), 2.0, correlated=False, rng_seed=11, n_replicas=1).ravel()
        verdict = settled_from(x, y, seed, margin=MARGIN)
        assert not verdict.settled
        assert "undecided" in verdict.describe()

    def test_control_of_exponent_one_never_settles(self):
        replicas = curves(np.log(WIDTHS), 0.1, correlated=True, rng_seed=12, n_replicas=200)
        assert all(not verdict.settled and rejects(verdict.fit, MARGIN) for verdict in verdicts(replicas))

    def test_fixed_sequence_keeps_five_percent_where_any_passing_range_would_not(self):
        judged = verdicts(curves(MARGIN * np.log(WIDTHS), 0.02, correlated=False, rng_seed=13, n_replicas=1000))
        assert abs(rate(verdict.settled for verdict in judged) - 0.05) <= three_standard_errors(0.05, 1000)
        any_range = rate(verdict.table["equivalent"].any() for verdict in judged)
        assert any_range > 0.05 + 2 * three_standard_errors(0.05, 1000)

    def test_a_start_below_the_true_one_is_reported_in_at_most_five_percent(self):
        # Flat from 512 on, and over 256..16384 a slope of exactly the margin: the first true null.
        below, inside = WIDTHS == 256, WIDTHS >= 256
        centred = np.log(WIDTHS[inside]) - np.log(WIDTHS[inside]).mean()
        log_mean = np.where(below, MARGIN * (centred**2).sum() / centred[0], 0.0)
        log_mean[WIDTHS < 256] = log_mean[below]
        judged = verdicts(curves(log_mean, 0.02, correlated=False, rng_seed=14, n_replicas=1000))
        too_early = rate(verdict.settled and verdict.from_width <= 256 for verdict in judged)
        assert abs(too_early - 0.05) <= three_standard_errors(0.05, 1000)
        assert rate(verdict.settled and verdict.from_width <= 512 for verdict in judged) >= 0.99

    def test_widths_may_come_in_a_shuffled_frame(self):
        x, seed = rows(WIDTHS)
        y = curves(self.BENT, 0.01, correlated=True, rng_seed=9, n_replicas=1).ravel()
        frame = pd.DataFrame({"x": x, "y": y, "seed": seed}).sample(frac=1, random_state=0)
        assert settled_from(frame.x, frame.y, frame.seed).from_width == 256


class TestSettledFromErrors:
    @staticmethod
    def settle(widths, **options):
        x, seed = rows(np.asarray(widths))
        return settled_from(x, np.ones(x.size), seed, **options)

    def test_widths_span_too_little(self):
        message = r"must span a factor 16, got 64..512, a factor 8: add a width of at least 1024"
        with pytest.raises(ValueError, match=message):
            self.settle([64, 128, 512])

    def test_span_of_exactly_the_factor_is_enough(self):
        assert self.settle([64, 1024]).from_width == 64

    def test_min_factor(self):
        with pytest.raises(ValueError, match=r"min_factor must be above 1, got 1: a slope needs two widths"):
            self.settle([64, 1024], min_factor=1)

    def test_margin(self):
        with pytest.raises(ValueError, match=r"margin must be positive and finite, got 0"):
            self.settle([64, 1024], margin=0)

    def test_widths_are_integers(self):
        with pytest.raises(TypeError, match=r"widths must hold integers, got dtype float64"):
            self.settle([64.0, 1024.0])

    def test_values_are_named_in_errors(self):
        x, seed = rows(WIDTHS)
        with pytest.raises(
            ValueError, match=r"values must be positive and finite.*row 0 is 0.0 \(45 such.*a smaller step size$"
        ):
            settled_from(x, np.zeros(x.size), seed)


class TestFinitePopulationFactor:
    @pytest.mark.parametrize("n_neurons", [2, 3, 7])
    def test_is_the_variance_of_a_subset_mean_by_enumeration(self, n_neurons):
        f = np.random.default_rng(15).standard_normal(n_neurons)
        n_kept = np.arange(1, n_neurons + 1)
        enumerated = [np.var([np.mean(kept) for kept in combinations(f, m)]) for m in n_kept]
        predicted = finite_population_factor(n_neurons, n_kept) * np.var(f)
        np.testing.assert_allclose(predicted, enumerated, rtol=1e-12, atol=1e-16)

    def test_is_exactly_zero_when_all_are_kept(self):
        n_neurons = np.array([1, 2, 3, 400, 10**9])
        assert (finite_population_factor(n_neurons, n_neurons) == 0).all()

    def test_broadcasts(self):
        factor = finite_population_factor(np.array([[8], [16]]), np.array([1, 2, 8]))
        assert factor.shape == (2, 3)
        assert factor[1, 1] == pytest.approx(14 / (2 * 15), rel=1e-15)

    def test_small_integer_types_do_not_overflow(self):
        assert finite_population_factor(np.int8(120), np.int8(60)) == pytest.approx(1 / 119, rel=1e-15)

    @pytest.mark.parametrize(("n_neurons", "n_kept", "got"), [(4, 5, 5), (4, 0, 0), (4, [1, -2], -2)])
    def test_kept_out_of_range(self, n_neurons, n_kept, got):
        with pytest.raises(ValueError, match=rf"n_kept must lie in 1..n_neurons=4, got {got}"):
            finite_population_factor(n_neurons, n_kept)

    @pytest.mark.parametrize(("n_neurons", "n_kept", "name"), [(4.0, 2, "n_neurons"), (4, True, "n_kept")])
    def test_not_integers(self, n_neurons, n_kept, name):
        with pytest.raises(TypeError, match=rf"{name} must hold integers, got dtype"):
            finite_population_factor(n_neurons, n_kept)


def test_public_names_exist():
    assert all(hasattr(scaling, name) for name in scaling.__all__)
