"""Intervals over seeds are Student's, and means leave out what is not finite."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from meanfield.theory.seeds import interval_over_seeds, mean_over_seeds


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_interval_is_student_t(level):
    values = np.array([1.0, 2.0, 4.0, 8.0])
    low, high = stats.t.interval(level, 3, values.mean(), stats.sem(values))
    assert interval_over_seeds(values, level) == pytest.approx((high - low) / 2, rel=1e-12)
    assert np.isnan(interval_over_seeds([3.0], level))


def test_means_are_by_group_and_over_finite_values():
    frame = pd.DataFrame({"n": [1, 1, 1, 2, 2], "value": [1.0, 3.0, np.inf, np.nan, 5.0]})
    table = mean_over_seeds(frame, "n", "value")
    assert table["n"].tolist() == [1, 2]
    assert table["mean"].tolist() == [2.0, 5.0]
    assert table["half_width"].tolist() == pytest.approx([interval_over_seeds([1.0, 3.0]), np.nan], nan_ok=True)
