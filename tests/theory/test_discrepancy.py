"""One constant for the distance to the limit: distances that obey the form pass elsewhere, those that do not fail."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from meanfield.theory import discrepancy
from meanfield.theory.discrepancy import check_discrepancy, fit_discrepancy

WIDTHS, REFERENCE, DIMS = (32, 128, 512), 2048, (8, 32, 128, 512)
NOISE = 2.0**-5


def plain_form(n_neurons, dim):
    alpha = NOISE / dim
    return math.sqrt(dim / n_neurons) + alpha + math.sqrt(alpha * dim)


def gaps(rate_in_d=0.0, rate_in_n=0.0, noise=0.01):
    """Distances 0.3 (form(N) + form(N')) d^rate_in_d N^rate_in_n, with their 95% intervals."""
    rng = np.random.default_rng(0)
    rows = []
    for n in WIDTHS:
        for dim in DIMS:
            true = (
                0.3 * (plain_form(n, dim) + plain_form(REFERENCE, dim)) * (dim / 8) ** rate_in_d * (n / 32) ** rate_in_n
            )
            gap = true * (1 + noise * rng.standard_normal())
            ends = {"gap_low": gap - 1.96 * noise * true, "gap_high": gap + 1.96 * noise * true}
            place = {"n_neurons": n, "n_reference": REFERENCE, "step_size": NOISE / dim, "n_parameters": dim}
            rows.append({**place, "gap": gap, **ends})
    return pd.DataFrame(rows)


def checked(table):
    return check_discrepancy(fit_discrepancy(table, n_neurons=32, n_parameters=8), table)


def test_the_fit_is_the_least_constant_of_its_place():
    table = gaps()
    fit = fit_discrepancy(table, n_neurons=128, n_parameters=32)
    (row,) = table[(table["n_neurons"] == 128) & (table["n_parameters"] == 32)].to_dict("records")
    assert fit.constant == pytest.approx(row["gap_high"] / (plain_form(128, 32) + plain_form(REFERENCE, 32)), rel=1e-12)
    others = check_discrepancy(fit, table)
    assert len(others) == len(table) - 1
    assert not ((others["n_neurons"] == 128) & (others["n_parameters"] == 32)).any()
    first = others.iloc[0]
    assert first["bound"] == pytest.approx(fit.constant * (plain_form(32, 8) + plain_form(REFERENCE, 8)), rel=1e-12)
    assert first["ratio"] == pytest.approx(first["gap"] / first["bound"], rel=1e-12)


def test_distances_that_obey_the_form_pass():
    table = checked(gaps())
    assert (table["gap_low"] <= table["bound"]).all()
    assert not table["fails"].any()


def test_smaller_ones_refute_nothing():
    table = checked(gaps(rate_in_d=-0.5, rate_in_n=-0.5))
    assert (table["ratio"] <= 1).all()
    assert not table["fails"].any()


def test_distances_that_grow_faster_with_the_dimension_fail_there():
    table = checked(gaps(rate_in_d=0.1))
    assert table.loc[table["n_parameters"] > 8, "fails"].all()
    assert not table.loc[table["n_parameters"] == 8, "fails"].any()


def test_distances_that_do_not_fall_with_width_fail_there():
    table = checked(gaps(rate_in_n=0.1))
    assert table.loc[table["n_neurons"] > 32, "fails"].all()
    assert not table.loc[table["n_neurons"] == 32, "fails"].any()


class TestErrors:
    def test_no_such_place(self):
        with pytest.raises(ValueError, match=r"no rows at n_neurons=64, n_parameters=8, only at \[\(32, 8\), "):
            fit_discrepancy(gaps(), n_neurons=64, n_parameters=8)

    def test_no_other_place(self):
        table = gaps()
        fit = fit_discrepancy(table, n_neurons=32, n_parameters=8)
        with pytest.raises(ValueError, match="where the constant was fitted: add another width or dimension"):
            check_discrepancy(fit, table.iloc[:1])

    def test_missing_columns(self):
        with pytest.raises(ValueError, match=r"gaps lacks the columns \['gap_high'\]: it needs"):
            fit_discrepancy(gaps().drop(columns="gap_high"), n_neurons=32, n_parameters=8)

    @pytest.mark.parametrize(
        ("column", "value"),
        [("gap", math.nan), ("gap_high", math.inf), ("gap_low", -1.0), ("gap_low", 1e9), ("n_reference", 32)],
    )
    def test_numbers_out_of_order(self, column, value):
        with pytest.raises(ValueError, match=r"gap_high and n_reference > n_neurons, got \{'n_neurons': 32"):
            fit_discrepancy(gaps().assign(**{column: value}), n_neurons=32, n_parameters=8)


def test_public_names_exist():
    assert all(hasattr(discrepancy, name) for name in discrepancy.__all__)
