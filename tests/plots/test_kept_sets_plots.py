"""The figure of the choice of kept neurons shows every method and loss, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meanfield.plots.kept_sets import changes_by_choice

SIZES, SEEDS = (4, 8, 16), (0, 1, 2)
SIGNS = {"random": 1.0, "greedy": -1.0}


def frames():
    names = ["n_neurons", "method", "n_kept", "seed"]
    ladders = pd.MultiIndex.from_product([(32, 64), SIGNS, SIZES, SEEDS], names=names).to_frame(index=False)
    ladders["change"] = ladders["method"].map(SIGNS) * (1 + 0.01 * ladders["seed"]) / ladders["n_kept"]
    names = ["loss", "n_kept", "seed"]
    quantiles = pd.MultiIndex.from_product([("square", "cross-entropy"), SIZES, SEEDS], names=names).to_frame(
        index=False
    )
    return ladders, quantiles.assign(std_change=1 / quantiles["n_kept"] ** 0.5, magnitude=4 / quantiles["n_kept"])


def points(container):
    return container.lines[0].get_xydata()


def test_a_panel_a_width_and_one_for_the_losses():
    figure = changes_by_choice(*frames())
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["chosen sets, $N=32$, square loss", "chosen sets, $N=64$, square loss", "random sets"]
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    quantile = "95% quantile of $|L_A-L|$"
    losses = {f"{loss}: {what}" for loss in ("square", "cross-entropy") for what in ("std over sets", quantile)}
    assert names == {*SIGNS, *losses, "slope $-1/2$", "slope $-1$"}


def test_points_are_means_over_seeds_and_lowered_losses_are_left_out():
    panel = changes_by_choice(*frames()).axes[0]
    random, greedy = panel.containers
    np.testing.assert_allclose(points(random), [(m, 1.01 / m) for m in SIZES], rtol=1e-12)
    assert len(points(greedy)) == 0


def test_both_statistics_of_each_loss_are_shown():
    panel = changes_by_choice(*frames()).axes[-1]
    assert len(panel.containers) == 4
    np.testing.assert_allclose(points(panel.containers[0]), [(m, m**-0.5) for m in SIZES], rtol=1e-12)
    np.testing.assert_allclose(points(panel.containers[3]), [(m, 4 / m) for m in SIZES], rtol=1e-12)


def test_bad_frames_are_named():
    ladders, quantiles = frames()
    with pytest.raises(ValueError, match=r"ladders lacks the columns \['method'\]"):
        changes_by_choice(ladders.drop(columns="method"), quantiles)
    with pytest.raises(ValueError, match="quantiles has more than one row"):
        changes_by_choice(ladders, pd.concat([quantiles, quantiles]))
    three = pd.concat([quantiles, quantiles[quantiles["loss"] == "square"].assign(loss="logistic")])
    with pytest.raises(ValueError, match=r"quantiles must hold at most 2 losses, got .*: select some"):
        changes_by_choice(ladders, three)
