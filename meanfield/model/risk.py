"""Population risk and classification error of a network: exact where possible, else with a standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice, check_integer, check_rng
from meanfield.model.laws import Empirical, Law, Sample, check_law, checked_sample
from meanfield.model.losses import check_loss, per_sample_loss
from meanfield.model.moments import (
    feature_moments,
    moments_cost,
    moments_obstacle,
    output_layer,
    readout_risk,
)
from meanfield.model.network import Network, row_chunks

__all__ = ["Estimate", "check_fit", "classification_error", "mistakes", "risk"]

METHODS = ("exact", "sample")
DEFAULT_SAMPLES = 2**14

# Widths up to which all pairs cost a few seconds: some 10 ns a pair, 1 us with orthant probabilities.
LARGEST_EXACT, LARGEST_WITH_ORTHANTS = 16384, 2048


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and the way it was found, "exact" (standard error 0) or "sample"."""

    value: float
    standard_error: float
    method: str


def risk(
    network: Network,
    law: Law,
    *,
    loss: str = "square",
    method: str | None = None,
    n_samples: int = DEFAULT_SAMPLES,
    rng: np.random.Generator | int | None = None,
) -> Estimate:
    """Return the population risk L = E l(y, y_hat(x)) of ``network`` under ``law``.

    | law | "exact" is |
    | --- | --- |
    | `Empirical` | the mean over its rows, any network and loss |
    | `IsotropicGaussians` | a closed form: square loss; one hidden layer; erf, quadratic, piecewise linear |
    | `AnisotropicGaussians` | the same |
    | `TeacherStudent` | the same, for a teacher of one hidden layer and of the same family of activations |
    | any other | not available |

    Parameters
    ----------
    loss : see `meanfield.model.losses`
    method : "exact", "sample", or None: exact where available, closed forms up to 16384 neurons (a teacher's
        included) or 2048 if their pairs take orthant probabilities (kinks away from 0, biases); else sample
    n_samples : fresh samples drawn by method "sample", at least 2
    rng : Generator or seed; needed by method "sample" alone

    Returns
    -------
    Estimate : closed forms are exact to rounding in absolute terms; a risk far below E |y|^2 has fewer digits

    Raises
    ------
    ValueError : network and law do not fit, or no closed form exists for method "exact"
    TypeError : sampling without ``rng``

    References
    ----------
    Mei, Montanari & Nguyen 2018 (two Gaussians); Saad & Solla 1995 (teacher and student).
    """
    check_loss(loss)
    check_fit(network, law)
    obstacle = _obstacle(network, law, loss)
    if method is None:
        obstacle = obstacle or _excess(network, law)
        method = "exact" if obstacle is None else "sample"
    if check_choice("method", method, METHODS) == "sample":
        samples = _fresh(law, n_samples, rng, f"risk from samples ({obstacle or 'as asked'})")
        return Estimate(*_mean_and_standard_error(_losses(network, samples, loss)), "sample")
    if obstacle:
        raise ValueError(f'method="exact" is not available: {obstacle}; use method="sample" with rng=')
    if isinstance(law, Empirical):
        return Estimate(_mean_and_standard_error(_losses(network, _rows(law), loss))[0], 0.0, "exact")
    return Estimate(readout_risk(feature_moments(network, law), *output_layer(network)), 0.0, "exact")


def classification_error(
    network: Network,
    law: Law,
    *,
    n_samples: int = DEFAULT_SAMPLES,
    rng: np.random.Generator | int | None = None,
) -> Estimate:
    """Return the probability that ``network`` names the wrong class, exact for `Empirical` laws.

    With one output y = +-1, and y_hat is wrong unless it has the sign of y (0 has neither); with several the
    class is the largest output, the first of equals.

    Parameters
    ----------
    n_samples : fresh samples drawn from other laws, at least 2
    rng : Generator or seed, needed to draw them

    Returns
    -------
    Estimate : sampled with the binomial standard error sqrt(p (1 - p) / n_samples); it is 0 if no sample is
        wrong, where errors of probability up to about 3 / n_samples are still likely (95%)

    Raises
    ------
    ValueError : network and law do not fit, or one output with y other than +-1
    TypeError : sampling without ``rng``
    """
    check_fit(network, law)
    if isinstance(law, Empirical):
        return Estimate(_mean_and_standard_error(_mistakes(network, _rows(law)))[0], 0.0, "exact")
    samples = _fresh(law, n_samples, rng, "classification_error from samples")
    wrong, _ = _mean_and_standard_error(_mistakes(network, samples))
    return Estimate(wrong, math.sqrt(wrong * (1 - wrong) / n_samples), "sample")


def mistakes(y: NDArray[Any], y_hat: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which samples are put in the wrong class, (n,), by the rule of `classification_error`; y, y_hat (n, C)."""
    return _wrong_sign(y, y_hat) if y.shape[1] == 1 else y.argmax(axis=1) != y_hat.argmax(axis=1)


def check_fit(network: Network, law: Law) -> None:
    """Raise unless ``network`` is a Network, ``law`` a Law, and their inputs and outputs agree in number."""
    if not isinstance(network, Network):
        raise TypeError(f"network must be a Network, got {type(network).__name__}")
    check_law(law)
    ends = {"inputs": (network.widths[0], law.dim), "outputs": (network.widths[-1], law.n_outputs)}
    for name, (in_network, in_law) in ends.items():
        if in_network != in_law:
            raise ValueError(
                f"network has {in_network} {name}, but the law {type(law).__name__} has {in_law}: "
                f"make a network of widths ({law.dim}, .., {law.n_outputs})"
            )


def _obstacle(network: Network, law: Law, loss: str) -> str | None:
    """Say why there is no exact risk; None if there is."""
    if isinstance(law, Empirical):
        return None
    if loss != "square":
        return f"closed forms are for the square loss, got loss={loss!r}"
    return moments_obstacle(network, law)


def _excess(network: Network, law: Law) -> str | None:
    """Say why the closed form costs too much to be the default; None if it does not."""
    if isinstance(law, Empirical):
        return None
    n_neurons, with_orthants = moments_cost(network, law)
    most = LARGEST_WITH_ORTHANTS if with_orthants else LARGEST_EXACT
    if n_neurons <= most:
        return None
    return f'{n_neurons} neurons, above {most} the closed form is used only with method="exact"'


def _rows(law: Empirical) -> Iterator[Sample]:
    for rows in row_chunks(law.n_samples):
        yield law.x[rows], law.y[rows]


def _fresh(law: Law, n_samples: int, rng: np.random.Generator | int | None, purpose: str) -> Iterator[Sample]:
    generator = check_rng(rng, purpose)
    sizes = [rows.stop - rows.start for rows in row_chunks(check_integer("n_samples", n_samples, least=2))]
    return (checked_sample(law, size, generator) for size in sizes)


def _losses(network: Network, samples: Iterator[Sample], loss: str) -> Iterator[NDArray[np.float64]]:
    for x, y in samples:
        yield per_sample_loss(loss, y, network.predict(x))


def _mistakes(network: Network, samples: Iterator[Sample]) -> Iterator[NDArray[np.float64]]:
    for x, y in samples:
        yield mistakes(y, network.predict(x)).astype(np.float64)


def _wrong_sign(y: NDArray[Any], y_hat: NDArray[Any]) -> NDArray[np.bool_]:
    if (strange := y[np.abs(y) != 1]).size:
        raise ValueError(f"y of one output must be +1 or -1, got {strange[0]}: use risk for regression")
    return (np.sign(y_hat) != y)[:, 0]


def _mean_and_standard_error(parts: Iterator[NDArray[np.float64]]) -> tuple[float, float]:
    """Mean of all values and its standard error, part by part (Chan, Golub & LeVeque 1983)."""
    n, mean, squares = 0, 0.0, 0.0
    for part in parts:
        part_mean = float(part.mean())
        gap, total = part_mean - mean, n + part.size
        squares += float(np.sum((part - part_mean) ** 2)) + gap * gap * n * part.size / total
        mean, n = mean + gap * part.size / total, total
    # A single row has no spread.
    return mean, math.sqrt(squares / (n * max(n - 1, 1)))
