"""The study of the bounds from its grid to its verdict, at small scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from meanfield.landscape.dropout_bounds import dropout_bounds
from meanfield.landscape.permutations import dropout_quantiles, quantile_intervals
from meanfield.studies import dropout_bounds as study
from meanfield.studies import dropout_bounds_tables as tables_module
from meanfield.studies.data import GAUSSIANS
from meanfield.studies.dropout import initial_network, kept_numbers, trained
from meanfield.studies.dropout_bounds import BoundsRun, grid, least_orders, one_run
from meanfield.studies.dropout_bounds_report import STUDY, _Conclusion
from meanfield.studies.dropout_bounds_tables import THEOREM, Measured, fitted_theorem, limits, over_seeds, with_theorem
from meanfield.studies.engine import run_all, run_rng
from meanfield.studies.report import run_study
from meanfield.studies.store import Store
from meanfield.theory.bounds import sup_bound
from meanfield.theory.prefactor import check_prefactor, describe_checked

SMALL = {"widths": [8, 16], "n_seeds": 2, "n_samples": 100, "n_orders": 80, "horizon": 0.02, "step_size": 1e-3}
GAUSSIAN = SMALL | {"data": ["gaussians"]}


def test_the_grid_is_every_data_set_width_and_replica_of_the_mean_field_scaling():
    runs = grid(**SMALL | {"data": ["gaussians", "digits"]})
    assert len(runs) == len(set(runs)) == 2 * 2 * 2
    assert {run.scaling for run in runs} == {"mean-field"}
    assert {(run.delta, run.n_orders) for run in runs} == {(0.05, 80)}


def test_bounds_and_quantiles_are_those_of_the_trained_network_on_one_set_of_samples():
    run = grid(**GAUSSIAN)[0]
    frames = one_run(run, run_rng(0, 0))
    for_weights, for_training, for_evaluation, _ = run_rng(0, 0).spawn(4)
    network = trained(run, initial_network(run, GAUSSIANS, for_weights), GAUSSIANS, for_training).final
    seed, sizes = int(for_evaluation.integers(2**62)), kept_numbers(8)
    expected = dropout_bounds(network, GAUSSIANS, sizes, delta=run.delta, rng=seed, n_samples=100)
    pd.testing.assert_series_equal(frames["bounds"]["value"], expected["value"])
    assert frames["summary"]["c_n"].item() == expected.attrs["c_n"]
    assert frames["summary"]["n_parameters"].item() == 32
    alike = dropout_quantiles(network, GAUSSIANS, sizes, quantiles=[0.95], n_permutations=3, rng=seed, n_samples=100)
    assert frames["summary"]["risk"].item() == alike["risk"].iloc[0]
    assert set(frames["quantiles"].columns) == set(alike.columns) - {"n_neurons"}


def test_the_changes_are_those_that_the_quantiles_come_from():
    frames = one_run(grid(**GAUSSIAN)[1], run_rng(0, 1))
    changes = frames["changes"].pivot(index="order", columns="n_kept", values="change")
    quantiles = frames["quantiles"].set_index("n_kept")
    expected = changes.quantile(0.95, interpolation="higher")
    inverted = np.quantile(changes.to_numpy(), 0.95, axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(quantiles.loc[changes.columns, "change"], inverted)
    assert (expected >= inverted).all()


# --- tables, on frames made up for them -----------------------------------------------------------------

N_SETS = 1000
SIZES = (2, 4, 8)


def made_up(change_of=lambda m, n: 1 / m, runs=None) -> Measured:
    """Networks whose changes are uniform on change_of(m, N) (0, 1), and whose bounds (a) are 1.5 / m."""
    runs = runs or grid(**GAUSSIAN)
    rng, parts = np.random.default_rng(0), {"summary": [], "bounds": [], "quantiles": [], "changes": []}
    for run in runs:
        key = {"data": run.data, "seed": run.seed, "n_neurons": run.n_neurons, "delta": run.delta}
        names = ("gamma_variance", "gamma_covariance", "diagonal_variance", "pair_square", "gamma_range", "diameter")
        parts["summary"].append({**key, "c_n": 1.0 + 0.01 * run.seed, "n_parameters": 32, **dict.fromkeys(names, 0.0)})
        for m in SIZES:
            draws = change_of(m, run.n_neurons) * rng.random(N_SETS)
            common = {**key, "n_kept": m, "mean_change": 1.0, "c_n": 1.0, "std_change": 1.0}
            constants = dict.fromkeys(("largest_observed", "gamma_range", "diameter"), np.nan)
            sup = dict.fromkeys(("largest_neuron", "largest_target"), np.nan)
            for bound, value in (("cantelli", 1.5 / m), ("exponential", 0.5 / m), ("sup", np.nan)):
                remarks = "undefined" if bound == "sup" else ""
                row = {**common, **constants, **sup, "bound": bound, "value": value, "remarks": remarks}
                parts["bounds"].append(row)
            sets = {"change": draws, "magnitude": np.abs(draws)}
            tops = {name: float(np.quantile(values, 0.95, method="inverted_cdf")) for name, values in sets.items()}
            ends = {f"{name}{end}": top for name, top in tops.items() for end in ("", "_low", "_high")}
            parts["quantiles"].append({**key, "n_kept": m, "quantile": 0.95, **ends})
            parts["changes"] += [{**key, "n_kept": m, "change": draw} for draw in draws]
    return Measured(runs[0], *(pd.DataFrame(rows) for rows in parts.values()))


def tables(measured):
    table = with_theorem(measured, fitted_theorem(measured))
    return table, over_seeds(measured, fitted_theorem(measured), table)


def test_a_bound_above_all_changes_holds_and_one_in_their_middle_is_refuted():
    table, pooled = tables(made_up())
    for rows, n_sets in ((table, N_SETS), (pooled, 2 * N_SETS)):
        above, middle = (rows[rows["bound"] == bound] for bound in ("cantelli", "exponential"))
        assert (above["exceedance"] == 0).all()
        assert not above["refuted"].any()
        assert above["ratio"].to_numpy() == pytest.approx(0.95 / 1.5, abs=0.02)
        assert middle["exceedance"].to_numpy() == pytest.approx(0.5, abs=0.06)
        assert (middle["exceedance_low"] < middle["exceedance"]).all()
        assert (middle["exceedance"] < middle["exceedance_high"]).all()
        assert middle["refuted"].all()
        assert (middle["n_sets"] == n_sets).all()


def test_an_undefined_bound_keeps_its_rows_and_remarks():
    for rows in tables(made_up()):
        undefined = rows[rows["bound"] == "sup"]
        assert len(undefined)
        assert undefined["value"].isna().all()
        assert undefined["ratio"].isna().all()
        assert (undefined["remarks"] == "undefined").all()
        assert undefined["measured"].gt(0).all()


def test_the_theorem_is_fitted_at_the_smallest_width_and_judged_on_magnitudes():
    measured = made_up(change_of=lambda m, n: -(n / 8) / m)
    theorem = fitted_theorem(measured)
    assert theorem.fit.n_neurons == 8
    assert "must span a factor 16" in theorem.reason
    rows = with_theorem(measured, theorem).query("bound == @THEOREM")
    assert rows["n_kept"].min() == 4
    assert (rows["remarks"] == "prefactor fitted at N = 8, not given").all()
    fitted, other = (rows[rows["n_neurons"] == n] for n in (8, 16))
    # Fitted at m = 4 to magnitudes divided by (8 - 4)/(8 - 1).
    assert fitted.loc[fitted["n_kept"] == 4, "ratio"].max() == pytest.approx(4 / 7, abs=0.02)
    assert not fitted["refuted"].any()
    # Twice as large at twice the width: no prefactor of the smaller width can do.
    assert other.loc[other["n_kept"] == theorem.fit.n_kept, "refuted"].all()


def depleted(m, n):
    return (n - m) / (m * (n - 1))


def verdict_on_theorem(measured):
    table, pooled = tables(measured)
    rows = pooled[(pooled["bound"] == THEOREM) & (pooled["n_neurons"] != fitted_theorem(measured).fit.n_neurons)]
    return table, rows


def test_a_rise_by_the_finite_population_factor_alone_refutes_nothing():
    runs = [replace(run, n_neurons=n) for run in grid(**GAUSSIAN)[:2] for n in (16, 64, 256)]
    measured = made_up(depleted, runs=runs)
    _, rows = verdict_on_theorem(measured)
    assert len(rows) == 4
    assert not rows["refuted"].any()
    # Not so with the raw magnitudes: m = 4 of 16 lacks a fifth.
    fit = fitted_theorem(measured).fit
    raw = replace(fit, prefactor=fit.prefactor * depleted(4, 16) * 4)
    assert check_prefactor(raw, measured.quantiles)["fails"].any()


@pytest.mark.parametrize("growth", [0.1, 0.5])
def test_a_rise_beyond_the_finite_population_factor_is_refuted(growth):
    runs = [replace(run, n_neurons=n) for run in grid(**GAUSSIAN)[:2] for n in (16, 64, 256)]
    measured = made_up(lambda m, n: (n / 16) ** growth * depleted(m, n), runs=runs)
    table, rows = verdict_on_theorem(measured)
    for judged in (table[table["bound"] == THEOREM], rows):
        assert judged.query("n_kept == 4 and n_neurons > 16")["refuted"].all()
        assert not judged.query("n_neurons <= 16")["refuted"].any()


def test_the_fit_takes_few_of_the_neurons():
    runs = [replace(run, n_neurons=64) for run in grid(**GAUSSIAN)[:2]]
    wild = made_up(lambda m, n: depleted(m, n) if m == 4 else 100.0, runs=runs)
    assert fitted_theorem(wild).fit.n_kept == 4


def test_what_the_study_refutes_is_what_the_check_of_the_prefactor_refutes(monkeypatch):
    def all_fail(fit, quantiles):
        return quantiles.assign(fails=True)

    monkeypatch.setattr(tables_module, "check_prefactor", all_fail)
    table, rows = verdict_on_theorem(made_up())
    assert rows["refuted"].all()
    assert set(table.loc[(table["bound"] == THEOREM) & table["refuted"].eq(True), "n_neurons"]) == {16}
    assert not table.loc[table["bound"] == "cantelli", "refuted"].any()


def test_the_theorem_is_fitted_where_c_n_has_settled():
    runs = [replace(run, n_neurons=n) for run in grid(**GAUSSIAN)[:2] for n in (8, 32, 128, 512)]
    theorem = fitted_theorem(made_up(runs=runs))
    assert theorem.fit.n_neurons == 8
    assert theorem.reason == "the smallest width from which c_N has settled"


def test_outside_its_assumptions_the_theorem_says_so():
    digits = made_up(runs=grid(**SMALL | {"data": ["digits"]}))
    remarks = with_theorem(digits, fitted_theorem(digits)).query("bound == @THEOREM")["remarks"]
    assert remarks.str.contains("the activation is not bounded; initial output weights are not bounded").all()


def test_limits_are_those_of_the_widest_networks_and_no_width_enters():
    measured = made_up()
    rows = limits(measured).query("bound == 'exponential'")
    # With neither linear part nor spread only c/m is left; seeds have c = 1 and 1.01.
    assert rows["limit"].to_numpy() == pytest.approx(1.005 / np.array(SIZES))
    _, pooled = tables(measured)
    found = pooled[pooled["bound"] == "exponential"]
    assert (found.groupby("n_kept")["limit"].nunique() == 1).all()
    assert (found["limit_ratio"] >= found["measured"] / found["limit"] - 1e-12).all()
    assert pooled.loc[pooled["bound"] == THEOREM, "limit"].isna().all()


def test_the_limit_of_the_sup_form_takes_the_largest_values_of_the_widest_networks():
    measured = made_up()
    widest = measured.bounds["n_neurons"] == 16
    bounds = measured.bounds.assign(largest_neuron=np.where(widest, 2.0, 50.0), largest_target=1.0)
    rows = limits(measured._replace(bounds=bounds)).query("bound == 'sup'")
    place = {"n_neurons": np.inf, "n_kept": np.array(SIZES), "delta": 0.05}
    expected = sup_bound(1.005 / np.array(SIZES), largest_neuron=2.0, largest_target=1.0, **place)
    assert rows["limit"].to_numpy() == pytest.approx(expected, rel=1e-12)


def words_on(measured, bound):
    (line,) = [line for line in _Conclusion(measured).verdict() if line.startswith(f"  {bound}: ")]
    return line.removeprefix(f"  {bound}: ")


def test_the_theorem_is_spoken_of_as_the_check_of_its_prefactor_is_elsewhere():
    runs = [replace(run, n_neurons=n) for run in grid(**GAUSSIAN)[:2] for n in (16, 64, 256)]
    for change_of, fate in (
        (depleted, "not refuted by 4 quantiles"),
        (lambda m, n: n / m, "FAILS at 4 of 4 quantiles"),
    ):
        measured = made_up(change_of, runs=runs)
        pooled = tables_module._pooled_quantiles(measured).query("n_kept >= 4")
        checked = check_prefactor(fitted_theorem(measured).fit, pooled)
        words = words_on(measured, THEOREM)
        assert words.startswith(fate)
        assert words.startswith(f"{describe_checked(checked)}; worst ratio")
    assert words_on(measured, "exponential").startswith("FAILS at 9 of 9 (N, m), e.g. (16, 2)")
    assert words_on(made_up(depleted, runs=runs), "cantelli").startswith("holds; worst ratio")


def test_the_verdict_says_at_how_many_of_the_measured_the_theorem_is_judged():
    runs = [replace(run, n_neurons=n) for run in grid(**GAUSSIAN)[:2] for n in (16, 64, 256)]
    lines = list(_Conclusion(made_up(depleted, runs=runs)).verdict())
    (where,) = [line for line in lines if "judged at" in line]
    # m = 4, 8 of m = 2, 4, 8, at two widths of three.
    assert where.startswith("    judged at 4 of 9 (N, m) measured: not at the width of the fit, nor at m < 4")


# --- the report -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return run_study(STUDY, grid(**SMALL | {"data": ["gaussians", "digits"]}), tmp_path_factory.mktemp("bounds"))


def test_the_study_leaves_its_tables_figures_and_verdict(result):
    assert {path.name for path in result.files} >= {"bounds.csv", "bounds_by_network.csv", "bounds-gaussians.png"}
    written = pd.read_csv(next(path for path in result.files if path.name == "bounds.csv"))
    needed = {"bound", "n_kept", "n_neurons", "value", "measured", "ratio", "delta", "remarks", "limit"}
    assert needed | {"exceedance", "exceedance_low", "exceedance_high"} <= set(written.columns)
    assert set(written["bound"]) == {"cantelli", "exponential", "sup", THEOREM}
    assert set(result.report.figures) == {"bounds-gaussians", "bounds-digits"}
    words = "\n".join(result.report.words)
    for expected in ("cantelli: holds; worst ratio", "sup: undefined: relu is unbounded", "all met", "unmet: the act"):
        assert expected in words
    assert len(result.report.table) == 2 * 4


def test_exact_moments_make_the_bounds_hold_on_every_network(result):
    rows = result.report.tables["bounds_by_network"]
    computable = rows[(rows["bound"] != THEOREM) & rows["value"].notna()]
    assert not computable["refuted"].any()
    assert computable["ratio"].between(0, 1).all()


def test_diverged_networks_are_named_and_left_out(tmp_path):
    runs = [replace(run, step_size=step) for run, step in zip(grid(**GAUSSIAN)[:2], (1e-3, 1e-3), strict=True)]
    store = Store(tmp_path)
    run_all(one_run, runs, store, root_seed=0, n_workers=1, progress=False)
    frames = store.read(runs[1])
    frames["summary"]["status"] = "diverged: at step 3"
    lost = replace(runs[1], seed=5)
    store.write(lost, frames, root_seed=0)
    report = STUDY.report(store, [*runs, lost])
    assert report.words[-1] == "gaussians, N = 8, seed 5: diverged: at step 3"
    assert set(report.tables["bounds_by_network"]["seed"]) == {0, 1}
    assert STUDY.report(store, [lost]).words == ["gaussians, N = 8, seed 5: diverged: at step 3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 1.0}, "delta must lie between 0 and 1, got 1.0"),
        ({"n_orders": 1}, "orders must be at least 2, got 1"),
        ({"widths": [1]}, "widths must be at least 2, got 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        grid(**GAUSSIAN | options)


def test_wider_networks_cost_more():
    costs = [study.cost(run) for run in grid(**GAUSSIAN | {"n_seeds": 1, "widths": [8, 64, 512]})]
    assert costs == sorted(costs)
    assert isinstance(grid(**GAUSSIAN)[0], BoundsRun)


@pytest.mark.parametrize(("delta", "least"), [(0.05, 72), (0.005, 736), (0.5, 6)])
def test_orders_too_few_for_an_interval_are_refused_before_any_work(delta, least):
    assert least_orders(delta) == least
    values = np.arange(least, dtype=float)
    assert np.isfinite(quantile_intervals(values, [1 - delta], 0.95)[2]).all()
    assert not np.isfinite(quantile_intervals(values[1:], [1 - delta], 0.95)[2]).any()
    with pytest.raises(ValueError, match=f"orders must be at least {least} for an interval of the quantile"):
        grid(widths=[8], delta=delta, n_orders=least - 1)
