"""One prefactor, fitted in one place: quantiles that obey the form pass in all others, those that do not fail."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from random_networks import random_network

from meanfield import IsotropicGaussians, dropout_quantiles
from meanfield.theory import prefactor
from meanfield.theory.forms import FORMS, theorem_form
from meanfield.theory.prefactor import check_prefactor, describe_checked, fit_prefactor

OF = {"step_size": 1e-3, "n_parameters": 33}
WIDTHS = (64, 256, 1024, 4096)
FITTED_AT = 256
MAGNITUDES = ["magnitude", "magnitude_low", "magnitude_high"]


def quantiles(growth=0.0, noise=0.0, rng=None):
    """Quantiles 3 form(m, N) (N/256)^growth with standard error ``noise`` and 95% intervals, relative."""
    rows = pd.DataFrame([(n, m) for n in WIDTHS for m in 2 ** np.arange(13) if m <= n], columns=["n_neurons", "n_kept"])
    form = theorem_form(rows["n_kept"], rows["n_neurons"], **OF)
    true = 3 * form * (rows["n_neurons"] / FITTED_AT) ** growth
    error = noise * (0 if rng is None else rng.standard_normal(len(rows)))
    magnitude = true * (1 + error)
    ends = {"magnitude_low": magnitude - 1.96 * noise * true, "magnitude_high": magnitude + 1.96 * noise * true}
    return rows.assign(quantile=0.95, magnitude=magnitude, **ends)


def test_the_fit_is_the_least_prefactor_that_holds_at_its_width():
    measured = quantiles(noise=0.1, rng=np.random.default_rng(0))
    fit = fit_prefactor(measured, FITTED_AT, **OF)
    here = measured[(measured["n_neurons"] == FITTED_AT) & (measured["n_kept"] >= 4)]
    slack = fit.bound(here["n_kept"], here["n_neurons"]) - here["magnitude_high"]
    assert slack.min() == pytest.approx(0, abs=1e-12)
    assert here["n_kept"][slack.idxmin()] == fit.n_kept
    assert (fit.n_neurons, fit.delta, fit.step_size, fit.n_parameters) == (FITTED_AT, 0.05, 1e-3, 33)


def test_below_four_nothing_is_asked():
    measured = quantiles()
    few = measured["n_kept"] < 4
    wild = measured.assign(**{name: measured[name].mask(few, 1e9) for name in MAGNITUDES})
    fit = fit_prefactor(wild, FITTED_AT, **OF)
    assert fit.prefactor == pytest.approx(3, rel=1e-12)
    checked = check_prefactor(fit, wild)
    assert checked["n_kept"].min() == 4
    np.testing.assert_allclose(checked["ratio"], 1, rtol=1e-12)


def test_the_other_widths_are_listed_with_their_bounds():
    measured = quantiles(growth=-0.1)
    fit = fit_prefactor(measured, FITTED_AT, **OF)
    checked = check_prefactor(fit, measured)
    assert list(checked.columns) == ["n_neurons", "n_kept", "quantile", *MAGNITUDES, "bound", "ratio", "fails"]
    assert sorted(set(checked["n_neurons"])) == [64, 1024, 4096]
    np.testing.assert_allclose(checked["ratio"], (checked["n_neurons"] / FITTED_AT) ** -0.1, rtol=1e-12)
    # Falling with N, it is above the bound at the smaller width.
    assert set(checked.loc[checked["fails"], "n_neurons"]) == {64}


def fraction_failing(replicas):
    return np.mean([check_prefactor(fit_prefactor(rows, FITTED_AT, **OF), rows)["fails"].mean() for rows in replicas])


def test_quantiles_that_obey_the_form_pass():
    rng = np.random.default_rng(1)
    # At equality everywhere the most is failed that a true claim can: less than 2.5% of the rows.
    assert fraction_failing(quantiles(noise=0.05, rng=rng) for _ in range(100)) < 0.025


@pytest.mark.parametrize("growth", [0.1, 0.5])
def test_quantiles_that_grow_with_width_fail_above(growth):
    measured = quantiles(growth=growth, noise=0.01, rng=np.random.default_rng(2))
    checked = check_prefactor(fit_prefactor(measured, FITTED_AT, **OF), measured)
    assert checked.loc[checked["n_neurons"] > FITTED_AT, "fails"].all()
    assert not checked.loc[checked["n_neurons"] < FITTED_AT, "fails"].any()


def test_a_single_row_above_is_found():
    measured = quantiles()
    fit = fit_prefactor(measured, FITTED_AT, **OF)
    row = measured.index[(measured["n_neurons"] == 1024) & (measured["n_kept"] == 32)][0]
    measured.loc[row, MAGNITUDES] *= 1.01
    checked = check_prefactor(fit, measured)
    failed = checked[checked["fails"]]
    assert failed[["n_neurons", "n_kept"]].to_numpy().tolist() == [[1024, 32]]
    assert failed["ratio"].item() == pytest.approx(1.01, rel=1e-12)


DIMS = (8, 32, 128)


def by_dimension(rate, noise=0.01):
    """Quantiles at each d, three times the multilayer form, times d^``rate``."""
    rng = np.random.default_rng(3)
    tables = {}
    for dim in DIMS:
        table = quantiles()
        form = FORMS["multilayer"](table["n_kept"], table["n_neurons"], step_size=1e-3, n_parameters=dim)
        true = 3 * form * (dim / 32) ** rate
        middle = true * (1 + noise * rng.standard_normal(len(table)))
        ends = {"magnitude_low": middle - 1.96 * noise * true, "magnitude_high": middle + 1.96 * noise * true}
        tables[dim] = table.assign(quantile=0.95, magnitude=middle, **ends)
    return tables


def failing(tables, prefactor_times=1.0):
    """The fraction of rows above the bound fitted at d = 32 and one width, at each d."""
    fit = fit_prefactor(tables[32], FITTED_AT, step_size=1e-3, n_parameters=32, form="multilayer")
    fit = replace(fit, prefactor=prefactor_times * fit.prefactor)
    return [check_prefactor(fit, tables[dim], n_parameters=dim)["fails"].mean() for dim in DIMS]


def test_the_multilayer_form_passes_at_other_dimensions_if_it_is_obeyed():
    assert max(failing(by_dimension(0.0))) < 0.025
    assert max(failing(by_dimension(0.0), prefactor_times=0.9)) == 1


@pytest.mark.parametrize("rate", [-0.2, 0.2])
def test_the_multilayer_form_is_refuted_by_another_dependence_on_the_dimension(rate):
    below, here, above = failing(by_dimension(rate))
    assert here < 0.025
    assert (below, above) == ((1, 0) if rate < 0 else (0, 1))


def test_where_it_was_fitted_the_width_is_left_out_and_elsewhere_not():
    measured = quantiles()
    fit = fit_prefactor(measured, FITTED_AT, **OF)
    assert FITTED_AT not in set(check_prefactor(fit, measured)["n_neurons"])
    assert check_prefactor(fit, measured, **OF).equals(check_prefactor(fit, measured))
    for place in ({"n_parameters": 34}, {"step_size": 2e-3}):
        checked = check_prefactor(fit, measured, **place)
        assert sorted(set(checked["n_neurons"])) == list(WIDTHS)
        np.testing.assert_allclose(
            checked["bound"] / 3, theorem_form(checked["n_kept"], checked["n_neurons"], **OF | place)
        )


@pytest.mark.parametrize(
    ("ratios", "fails", "words"),
    [
        (
            [0.5, 0.8],
            [False, False],
            "not refuted by 2 quantiles, all below the bound; the bound is 1.25 to 2 times what was measured, 1.62 in "
            "the median",
        ),
        (
            [0.5, 0.1, 0.0, 0.0008],
            [False] * 4,
            "not refuted by 4 quantiles, all below the bound; the bound is 2 to 1250 times what was measured, 10 in "
            "the median: a weak test, half of them could be 10 times as large and pass",
        ),
        ([0.0], [False], "not refuted by 1 quantiles, all below the bound"),
        (
            [0.5, 1.5],
            [False, False],
            "not refuted by 2 quantiles, 1 of them above the bound, but with intervals too wide to tell; the bound is "
            "0.667 to 2 times what was measured, 1.33 in the median",
        ),
        ([1.2, 1.5], [False, True], "FAILS at 1 of 2 quantiles, whose whole intervals are above the bound"),
    ],
)
def test_in_words_nothing_holds(ratios, fails, words):
    assert describe_checked(pd.DataFrame({"ratio": ratios, "fails": fails})) == words


class TestErrors:
    def test_no_rows_at_the_width(self):
        with pytest.raises(
            ValueError, match=r"no rows with n_kept >= 4 at n_neurons=128, only at \[64, 256, 1024, 4096"
        ):
            fit_prefactor(quantiles(), 128, **OF)

    def test_no_other_width(self):
        measured = quantiles()
        fit = fit_prefactor(measured, FITTED_AT, **OF)
        with pytest.raises(ValueError, match="no rows with n_kept >= 4 but at n_neurons=256, where the prefactor was"):
            check_prefactor(fit, measured[measured["n_neurons"] == FITTED_AT])

    def test_missing_columns(self):
        with pytest.raises(
            ValueError, match=r"quantiles lacks the columns \['magnitude_low', 'magnitude_high'\]: it needs"
        ):
            fit_prefactor(quantiles().drop(columns=MAGNITUDES[1:]), FITTED_AT, **OF)

    def test_no_rows_of_the_quantile(self):
        with pytest.raises(ValueError, match=r"must hold the 0.9-quantile, got only \[0.95\]: pass quantiles=\[0.9\]"):
            fit_prefactor(quantiles(), FITTED_AT, **OF, delta=0.1)

    @pytest.mark.parametrize(
        ("end", "value"), [("", math.nan), ("_high", math.inf), ("_low", -1.0), ("_high", 0.0), ("_low", 1e9)]
    )
    def test_magnitudes_out_of_order(self, end, value):
        with pytest.raises(ValueError, match=r"finite with 0 <= low <= magnitude <= high, got \{'n_neurons': 64"):
            fit_prefactor(quantiles().assign(**{f"magnitude{end}": value}), FITTED_AT, **OF)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
            ({"n_parameters": 0}, "n_parameters must be at least 1, got 0"),
            ({"delta": 1.0}, "delta must lie between 0 and 1, got 1.0"),
        ],
    )
    def test_parameters(self, change, message):
        with pytest.raises(ValueError, match=message):
            fit_prefactor(quantiles(), FITTED_AT, **{**OF, **change})

    def test_unknown_form(self):
        with pytest.raises(ValueError, match="unknown form 'multi-layer': did you mean 'multilayer'"):
            fit_prefactor(quantiles(), FITTED_AT, **OF, form="multi-layer")


def test_the_table_of_dropout_quantiles_is_taken_as_it_is():
    law = IsotropicGaussians(dim=3, delta=0.5)
    tables = [
        dropout_quantiles(random_network((3, n, 1)), law, [4, 6], quantiles=[0.5, 0.9], n_samples=50, rng=0)
        for n in (8, 16)
    ]
    fit = fit_prefactor(pd.concat(tables), 8, **OF, delta=0.1)
    checked = check_prefactor(fit, pd.concat(tables))
    assert checked["quantile"].tolist() == [0.9, 0.9]
    assert checked["magnitude"].tolist() == tables[1]["magnitude"].tolist()[1::2]


def test_public_names_exist():
    assert all(hasattr(prefactor, name) for name in prefactor.__all__)
