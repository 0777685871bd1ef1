"""The constant that a prefactor asks for is the one that gives it back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meanfield.theory.horizon import log_prefactor, needed_constant


@given(st.floats(1e-6, 1e6), st.floats(0, 50))
def test_the_needed_constant_gives_the_prefactor_back(prefactor, horizon):
    constant = float(needed_constant(prefactor, horizon))
    assert log_prefactor(constant, horizon) == pytest.approx(np.log(prefactor), rel=1e-9, abs=1e-9)


def test_at_time_zero_the_constant_is_the_prefactor():
    assert needed_constant([0.5, 2.0], 0.0).tolist() == [0.5, 2.0]


def test_a_prefactor_that_does_not_grow_asks_for_less_and_less():
    constants = needed_constant(1.5, np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0]))
    assert (np.diff(constants) < 0).all()


def test_a_prefactor_of_its_own_form_asks_for_one_constant():
    times = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
    assert needed_constant(np.exp(log_prefactor(0.7, times)), times) == pytest.approx(np.full(5, 0.7), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: needed_constant(0.0, 1.0),
            "prefactor must be positive and finite, got 0.0: a gap of 0 needs no bound",
        ),
        (lambda: needed_constant([1.0, np.nan], 1.0), "prefactor must be positive and finite"),
        (lambda: needed_constant(1.0, -1.0), "horizon must be finite and not negative, got -1.0"),
        (lambda: log_prefactor(1.0, np.inf), "horizon must be finite and not negative"),
        (lambda: log_prefactor(0.0, 1.0), "constant must be positive"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
