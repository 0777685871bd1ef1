"""Measuring on fixed samples."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network

from meanfield.landscape.dropout import neuron_variance
from meanfield.model.laws import Empirical
from meanfield.model.risk import risk
from meanfield.studies.evaluation import FixedSamples


@pytest.mark.parametrize("widths", [(3, 7, 2), (3, 6, 7, 2), (3, 5, 6, 7, 2)])
def test_a_snapshot_is_the_risk_and_the_neuron_variance_of_the_last_hidden_layer(widths):
    rng = np.random.default_rng(0)
    law, network = Empirical(rng.standard_normal((20, 3)), rng.standard_normal((20, 2))), random_network(widths)
    snapshot = FixedSamples(law, 100, rng).snapshot(network)
    assert snapshot["risk"] == pytest.approx(risk(network, law).value, rel=1e-12)
    assert snapshot["c_n"] == neuron_variance(network, law).value
