"""Forms of the mean-field theorems' bounds at prefactor 1: what their unknown constants multiply.

| form | what it bounds |
| --- | --- |
| `theorem_form`, "two-layer" | the change of the loss when m of N neurons are kept |
| `multilayer_form`, "multilayer" | the same, at least m neurons kept in each hidden layer |
| `discrepancy_form` | the difference between the loss of SGD at width N and that of the mean-field limit |

The constants depend on the training time T and the number of layers, not on m, N, alpha or the dimension: fitted in one
place, such a bound can be refuted in all others (`meanfield.theory.prefactor`, and `meanfield.theory.discrepancy` for
the last one).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from meanfield.checks import check_integer, check_numbers, check_positive
from meanfield.theory.bounds import check_delta

__all__ = ["FORMS", "discrepancy_form", "multilayer_form", "theorem_form"]

Array = NDArray[np.float64]


def theorem_form(
    n_kept: ArrayLike, n_neurons: ArrayLike, *, step_size: float, n_parameters: int, delta: float = 0.05
) -> Array:
    """Return the form of the two-layer bound at prefactor 1, with z = sqrt(log(1/delta)).

        (sqrt(log m) + z)/sqrt m + sqrt(alpha) (sqrt(D + log N) + z)

    Parameters
    ----------
    n_kept, n_neurons : m and N, which broadcast
    step_size : alpha
    n_parameters : D, of one neuron: its inputs, outputs and biases, as far as they are trained
    delta : probability exp(-z^2) with which the bound may fail

    Raises
    ------
    TypeError : ``n_kept`` or ``n_neurons`` does not hold numbers
    ValueError : ``n_kept`` outside 1..n_neurons, an infinite ``n_neurons``, or no numbers; ``step_size``,
        ``n_parameters`` or ``delta`` out of range

    Source: form of Shevchenko & Mondelli 2020, Theorem 1.
    """
    kept, total = _checked_counts(n_kept, n_neurons)
    z = _tail(delta)
    return (np.sqrt(np.log(kept)) + z) / np.sqrt(kept) + _noise(total, step_size, n_parameters, z)


def multilayer_form(
    n_kept: ArrayLike, n_neurons: ArrayLike, *, step_size: float, n_parameters: int, delta: float = 0.05
) -> Array:
    """Return the form of the bound for several hidden layers at prefactor 1, with z = sqrt(log(1/delta)).

        (sqrt d + z)/sqrt(A_min) + sqrt(alpha) (sqrt(d + log N) + z)

    The first term asks for A_min above d, where that for two layers asks for no more than log m: *linear in the
    dimension* instead of dimension-free. A bound from above, it is not refuted by changes that are smaller.

    Parameters
    ----------
    n_kept : A_min, the least number of neurons kept in a hidden layer
    n_neurons : N, the largest width if they differ
    step_size : alpha
    n_parameters : d, of one neuron of the first layer
    delta : probability exp(-z^2) with which the bound may fail

    Raises
    ------
    TypeError, ValueError : as `theorem_form`

    Source: form of Shevchenko & Mondelli 2020, Theorem 2.
    """
    kept, total = _checked_counts(n_kept, n_neurons)
    z = _tail(delta)
    return (math.sqrt(_dimension(n_parameters)) + z) / np.sqrt(kept) + _noise(total, step_size, n_parameters, z)


def discrepancy_form(n_neurons: ArrayLike, *, step_size: float, n_parameters: int) -> Array:
    """Return the form of the bound on the expected difference in loss of SGD and its mean-field limit, at constant 1.

        sqrt(d/N) + alpha + sqrt(alpha d)

    Here no neurons are dropped, and nothing is said with a probability.

    Parameters
    ----------
    n_neurons : N, the smallest width if they differ
    step_size : alpha
    n_parameters : d, of one neuron of the first layer

    Raises
    ------
    TypeError : ``n_neurons`` does not hold numbers
    ValueError : ``n_neurons`` below 1, infinite, or no numbers; ``step_size`` or ``n_parameters`` out of range

    Source: form of Araújo, Oliveira & Yukimura 2019, Theorem 5.4.
    """
    total = _checked_widths(n_neurons)
    alpha, dimension = check_positive("step_size", step_size), _dimension(n_parameters)
    return np.sqrt(dimension / total) + alpha + math.sqrt(alpha * dimension)


FORMS: dict[str, Callable[..., Array]] = {"two-layer": theorem_form, "multilayer": multilayer_form}


def _checked_counts(n_kept: ArrayLike, n_neurons: ArrayLike) -> tuple[Array, Array]:
    kept, total = check_numbers("n_kept", n_kept), _checked_widths(n_neurons)
    if not (kept.size and ((kept >= 1) & (kept <= total)).all()):
        raise ValueError(f"n_kept must lie in 1..n_neurons, got {n_kept!r} of {n_neurons!r}")
    return kept, total


def _checked_widths(n_neurons: ArrayLike) -> Array:
    total = check_numbers("n_neurons", n_neurons)
    if not (total.size and ((total >= 1) & np.isfinite(total)).all()):
        raise ValueError(f"n_neurons must be at least 1 and finite, got {n_neurons!r}")
    return total


def _tail(delta: float) -> float:
    """Return z, of which exp(-z^2) = delta."""
    return math.sqrt(-math.log(check_delta(delta)))


def _dimension(n_parameters: int) -> int:
    return check_integer("n_parameters", n_parameters, least=1)


def _noise(n_neurons: Array, step_size: float, n_parameters: int, z: float) -> Array:
    """Return what SGD's steps of finite size add."""
    return math.sqrt(check_positive("step_size", step_size)) * (
        np.sqrt(_dimension(n_parameters) + np.log(n_neurons)) + z
    )
