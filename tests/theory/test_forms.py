"""The theorems' forms: in numbers, what they grow and fall with, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from meanfield.theory import forms
from meanfield.theory.forms import FORMS, discrepancy_form, multilayer_form, theorem_form

OF = {"step_size": 1e-3, "n_parameters": 33}
Z = math.sqrt(math.log(20))
NOISE = math.sqrt(1e-3) * (math.sqrt(33 + math.log(256)) + Z)


def test_two_layers_in_numbers():
    assert theorem_form(64, 256, **OF) == pytest.approx((math.sqrt(math.log(64)) + Z) / 8 + NOISE, rel=1e-14)


def test_several_layers_in_numbers():
    assert multilayer_form(64, 256, **OF) == pytest.approx((math.sqrt(33) + Z) / 8 + NOISE, rel=1e-14)


def test_the_discrepancy_in_numbers():
    expected = math.sqrt(33 / 256) + 1e-3 + math.sqrt(0.033)
    assert discrepancy_form(256, **OF) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_bounds_fall_with_m_and_rise_with_all_else(form):
    m = np.arange(4, 500)
    assert (np.diff(form(m, 500, **OF)) < 0).all()
    base = form(16, 256, **OF)
    assert form(16, 512, **OF) > base
    assert form(16, 256, step_size=2e-3, n_parameters=33) > base
    assert form(16, 256, step_size=1e-3, n_parameters=34) > base
    assert form(16, 256, **OF, delta=0.5) < base


def test_the_discrepancy_falls_with_width_and_rises_with_all_else():
    assert (np.diff(discrepancy_form(np.arange(1, 500), **OF)) < 0).all()
    base = discrepancy_form(256, **OF)
    assert discrepancy_form(256, step_size=2e-3, n_parameters=33) > base
    assert discrepancy_form(256, step_size=1e-3, n_parameters=34) > base


def test_the_kept_numbers_for_a_bound_grow_linearly_with_the_dimension_in_several_layers_only():
    small = {"step_size": 1e-12, "delta": 1 - 1e-12}
    dims, m = np.array([16, 64, 256, 1024]), np.arange(1, 200_001)

    def needed(form):
        return [m[(form(m, 200_000, **small, n_parameters=int(d)) < 0.5) & (m >= 4)][0] for d in dims]

    np.testing.assert_allclose(needed(multilayer_form), 4 * dims, rtol=0.02)
    assert np.ptp(needed(theorem_form)) <= 1


@pytest.mark.parametrize("n_kept", [0, 9, math.nan])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_kept_out_of_range(form, n_kept):
    with pytest.raises(ValueError, match=rf"n_kept must lie in 1..n_neurons, got {n_kept} of 8"):
        form(n_kept, 8, **OF)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
        ({"n_parameters": 0}, "n_parameters must be at least 1, got 0"),
    ],
)
def test_bad_parameters(change, message):
    for form, sizes in ((theorem_form, (4, 8)), (multilayer_form, (4, 8)), (discrepancy_form, (8,))):
        with pytest.raises(ValueError, match=message):
            form(*sizes, **OF | change)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_numbers_alone_are_taken(form):
    with pytest.raises(TypeError, match="n_kept must hold numbers, got dtype <U1: convert it with astype first"):
        form("4", 8, **OF)
    with pytest.raises(TypeError, match="n_neurons must hold numbers, got dtype <U1"):
        form(4, "8", **OF)
    with pytest.raises(ValueError, match="n_neurons must be at least 1 and finite, got inf"):
        form(4, math.inf, **OF)
    with pytest.raises(ValueError, match=r"n_kept must lie in 1..n_neurons, got array.* of 8"):
        form(np.array([], int), 8, **OF)


@pytest.mark.parametrize("n_neurons", [math.inf, math.nan, 0.5])
def test_the_discrepancy_of_no_width(n_neurons):
    with pytest.raises(ValueError, match=f"n_neurons must be at least 1 and finite, got {n_neurons}"):
        discrepancy_form(n_neurons, **OF)


def test_the_discrepancy_of_no_numbers():
    with pytest.raises(ValueError, match="n_neurons must be at least 1 and finite, got array"):
        discrepancy_form(np.array([], int), **OF)
    with pytest.raises(TypeError, match="n_neurons must hold numbers, got dtype <U1"):
        discrepancy_form("8", **OF)


def test_bad_width_or_delta():
    with pytest.raises(ValueError, match=r"n_neurons must be at least 1 and finite, got \[8, 0\]"):
        discrepancy_form([8, 0], **OF)
    with pytest.raises(ValueError, match=r"delta must lie between 0 and 1, got 1\.0"):
        multilayer_form(4, 8, **OF, delta=1.0)


def test_public_names_exist():
    assert all(hasattr(forms, name) for name in forms.__all__)
