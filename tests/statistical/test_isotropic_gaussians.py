"""SGD on isotropic Gaussians follows the distributional dynamics (Mei, Montanari & Nguyen 2018)."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield import IsotropicGaussians, Network, Recording, risk, run_sgd

STEP_SIZE = 1e-4

# Risk of the limit at these times: d = 40, Delta = 0.8, truncated ReLU, w(0) ~ N(0, 0.8^2 / d I), from solvers of the
# radial partial differential equation that agree to 5e-4.
LIMIT = {0.0: 1.7045, 0.1: 1.3390, 1.0: 1.0706}


def _risks(seed: int, n_neurons: int = 800) -> list[float]:
    law = IsotropicGaussians(40, 0.8)
    start = Network.init((40, n_neurons, 1), activation="truncated-relu", mean=(0, 1), std=(0.8 / 40**0.5, 0), rng=seed)
    record = Recording([round(time / STEP_SIZE) for time in LIMIT], networks=True)
    n_steps = round(max(LIMIT) / STEP_SIZE)
    networks = run_sgd(
        start, law, step_size=STEP_SIZE, n_steps=n_steps, trained=[0], record=record, rng=1000 + seed
    ).networks
    return [risk(networks[step], law, method="exact").value for step in sorted(networks)]


@pytest.mark.long
def test_risk_follows_the_limit_to_one_percent():
    risks = np.array([_risks(seed) for seed in range(8)])
    limit = np.array(list(LIMIT.values()))
    relative = risks.mean(axis=0) / limit - 1
    assert (np.abs(relative) <= 0.01).all(), relative
    # Control: the limit at one time is far from the risk at another.
    assert (np.abs(risks.mean(axis=0)[1:] / limit[:-1] - 1) > 0.1).all()
