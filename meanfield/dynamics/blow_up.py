"""Training that has blown up without leaving the finite numbers: how it is told from training that went well."""

from __future__ import annotations

import warnings

import numpy as np

from meanfield.checks import BlowUpWarning
from meanfield.model.laws import Empirical
from meanfield.model.losses import per_sample_loss
from meanfield.model.network import Network
from meanfield.model.risk import risk

__all__ = ["BLOW_UP", "JUDGED_SAMPLES", "warn_of_blow_up"]

# A loss this many times that of the start is a divergence, though its numbers are still finite.
BLOW_UP = 10.0

# The last samples of a run that it is judged by.
JUDGED_SAMPLES = 100


def warn_of_blow_up(end: float, start: Network, samples: Empirical, loss: str, step_size: float) -> None:
    """Warn where the loss at the end of training is far above those of the start and of no outputs at all.

        L_end > 10 max{L_start, L_0},      L_0 = loss of outputs that are zero,      if the maximum is positive

    On the same samples, so that a few large targets make no difference; and beside L_0, as noise drives healthy
    training away from a start whose loss is near zero, but hardly above the loss of having learnt nothing.

    Parameters
    ----------
    end : L_end, mean loss of the ``samples`` at the end of training
    start : network that training started from
    step_size : to be reduced

    Warns
    -----
    BlowUpWarning : with the three losses, raised as if by the caller of the calling function
    """
    at_zero = float(per_sample_loss(loss, samples.y, np.zeros_like(samples.y)).mean())
    if end <= BLOW_UP * at_zero:
        return
    at_start = risk(start, samples, loss=loss).value
    if max(at_start, at_zero) == 0 or end <= BLOW_UP * at_start:
        return
    warnings.warn(
        f"the loss at the end, {end:.3g}, is more than {BLOW_UP:g} times that at the start, {at_start:.3g}, and that "
        f"of zero outputs, {at_zero:.3g}: training blew up, though its numbers are finite; reduce step_size, now "
        f"{step_size:g}",
        BlowUpWarning,
        stacklevel=3,
    )
