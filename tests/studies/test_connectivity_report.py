"""The words and tables of the connectivity study follow from frames made up for them, in every direction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from meanfield.studies import connectivity_report
from meanfield.studies.connectivity_tables import (
    costs,
    exponent_of,
    exponents_in_width,
    form_exponent,
    form_terms,
    ladder_slopes,
    means,
)

WIDTHS = (32, 128, 512)
PAIRS = 4


def barriers_frame(exponent: float, *, scaling: str = "mean-field", noise: float = 0.01) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product([WIDTHS, range(PAIRS), ("train", "test")], names=["n_neurons", "seed", "split"])
    frame = index.to_frame(index=False).assign(scaling=scaling, way="dropout", error_barrier=0.5)
    frame["barrier"] = 3 * frame["n_neurons"] ** exponent * np.exp(noise * rng.standard_normal(len(frame)))
    return frame.assign(above_chord=2 * frame["barrier"])


def one_row(exponent: float, **options: object) -> pd.Series:
    return connectivity_report._row(exponents_in_width(barriers_frame(exponent, **options)), "dropout")


@pytest.mark.parametrize(
    ("exponent", "noise", "word"),
    [
        (-0.5, 0.01, "falls, exponent -0.50"),
        (0.5, 0.01, "GROWS, exponent 0.50"),
        (0.0, 0.01, "is flat, exponent 0.00"),
        (0.0, 1.0, "is not shown to fall"),
    ],
)
def test_the_direction_is_said_as_it_is(exponent, noise, word):
    words = connectivity_report._on_exponent(one_row(exponent, noise=noise))
    assert words.startswith(word)
    assert "90% interval" in words
    assert "N in 32..512" in words
    assert "less than a factor" not in words


@pytest.mark.parametrize(
    ("exponent", "noise", "word"),
    [
        (0.5, 0.01, "does not fall, as it must not: GROWS"),
        (0.0, 0.01, "does not fall, as it must not: is flat"),
        (-0.5, 0.01, "FALLS, as it must not: falls"),
        (0.0, 1.0, "not shown not to fall: is not shown to fall"),
        (0.3, 1.0, "not shown not to fall: is not shown to fall"),
    ],
)
def test_the_control_must_not_fall_and_is_said_not_to_only_where_that_is_shown(exponent, noise, word):
    assert connectivity_report._on_control(one_row(exponent, noise=noise)).startswith(word)
    assert connectivity_report._on_control(None) == "not measured"


def exponents_of(trained, untrained, control):
    frames = [
        barriers_frame(trained),
        barriers_frame(untrained).assign(way="untrained"),
        barriers_frame(control, scaling="control"),
    ]
    return exponents_in_width(pd.concat(frames, ignore_index=True))


@pytest.mark.parametrize(
    ("trained", "untrained", "control", "averages"),
    [
        (-1.0, -1.0, 0.0, True),
        (-1.0, -0.5, 0.5, True),
        (-1.0, 0.0, 0.0, False),
        (-1.0, -1.0, -0.5, False),
        (0.0, -1.0, 0.0, False),
    ],
)
def test_the_cause_is_named_only_where_untrained_ends_and_the_control_show_it(trained, untrained, control, averages):
    words = connectivity_report._on_cause(exponents_of(trained, untrained, control))
    assert words.startswith("It falls between untrained ends too, and not in the control") == averages
    assert words.startswith("Whether averaging over neurons is enough for it to fall is not shown") != averages


def test_no_cause_is_named_without_a_control_or_where_it_is_not_judged():
    exponents = exponents_of(-1.0, -1.0, 0.0)
    assert connectivity_report._on_cause(exponents) == connectivity_report.AVERAGING
    control = exponents["scaling"] == "control"
    without = exponents[~control]
    assert connectivity_report._on_cause(without) == connectivity_report.NO_CAUSE_FOUND
    unjudged = exponents.assign(**{name: exponents[name].mask(control) for name in ("exponent", "low", "high")})
    assert connectivity_report._on_cause(unjudged) == connectivity_report.NO_CAUSE_FOUND


def test_the_exponent_is_held_beside_that_of_the_theorem():
    n = np.array([32.0, 1024.0])
    rise = np.log(np.sqrt(np.log(n) / n))
    assert form_exponent([32, 1024]) == pytest.approx(np.diff(rise)[0] / np.log(32))
    # sqrt(log 1024 / 1024), and sqrt(0.02 (75 + log 1024)) with D = 75
    assert form_terms(1024, 0.02, 75) == pytest.approx((0.0822739, 1.2801), rel=1e-4)
    assert form_terms(1024, 0.02, 300)[1] == pytest.approx(np.sqrt(0.02 * (300 + np.log(1024))))
    for exponent, word in ((-1.0, "falls faster than"), (-0.1, "falls more slowly than")):
        assert connectivity_report._beside(one_row(exponent), -0.4) == word
    assert connectivity_report._beside(one_row(-0.4, noise=0.3), -0.4) == "is not told apart from"


def test_with_several_hidden_layers_the_first_term_is_that_of_the_dimension():
    # sqrt(65 / 1024), and sqrt(0.02 (65 + log 1024)) with d = 65
    assert form_terms(1024, 0.02, 65, n_hidden=2) == pytest.approx((0.2519456, 1.1994288), rel=1e-6)
    assert form_exponent([32, 128, 1024], n_hidden=3) == pytest.approx(-0.5)
    assert form_exponent([32, 128, 1024]) > -0.5


def test_widths_without_a_barrier_are_named_and_left_out_of_the_fit():
    frame = barriers_frame(-1.0, noise=1e-6)
    frame.loc[(frame["n_neurons"] == 512) & (frame["seed"] < 2), "barrier"] = 0.0
    row = connectivity_report._row(exponents_in_width(frame), "dropout")
    words = connectivity_report._on_exponent(row)
    assert "N in 32..128, less than a factor 16" in words
    assert words.endswith("none in 2 pairs of N = 512")
    assert row["exponent"] == pytest.approx(-1, abs=1e-5)
    frame["barrier"] = 0.0
    words = connectivity_report._on_exponent(connectivity_report._row(exponents_in_width(frame), "dropout"))
    assert words.startswith("not judged: zero at N = 32, 128, 512, which leaves fewer than two widths to fit")
    assert words.endswith("none in 12 pairs of N = 32, 128, 512")


def test_each_group_and_measure_has_its_own_fit():
    frame = pd.concat([barriers_frame(-0.5), barriers_frame(0.5, scaling="control")])
    table = exponents_in_width(frame)
    assert len(table) == 2 * 2 * 2
    expected = table["scaling"].map({"mean-field": -0.5, "control": 0.5})
    assert (table["exponent"] - expected).abs().max() < 0.02
    chord = connectivity_report._row(table, "dropout", measure="above_chord")
    barrier = connectivity_report._row(table, "dropout")
    assert chord["constant"] == pytest.approx(2 * barrier["constant"])
    assert connectivity_report._row(table, "line") is None


def test_the_last_exponent_is_that_of_the_two_widest():
    frame = barriers_frame(0.0, noise=1e-9)
    frame["barrier"] = frame["n_neurons"].map({32: 1.0, 128: 1.0, 512: 0.25}) * (1 + 1e-9 * frame["seed"])
    row = exponent_of(frame[frame["split"] == "train"], "barrier")
    assert row["last_exponent"] == pytest.approx(-1)
    assert row["exponent"] == pytest.approx(-0.5)


def test_intervals_of_the_means_are_students():
    frame = barriers_frame(-0.5, noise=0.3)
    table = means(frame).query("split == 'train' and measure == 'barrier'").set_index("n_neurons")
    for n, group in frame[frame["split"] == "train"].groupby("n_neurons"):
        half_width = stats.t.ppf(0.95, PAIRS - 1) * group["barrier"].std(ddof=1) / PAIRS**0.5
        assert table.loc[n, "half_width"] == pytest.approx(half_width)
        assert table.loc[n, "mean"] == pytest.approx(group["barrier"].mean())


def ladder_frame(in_kept: float, in_width: float) -> pd.DataFrame:
    rows = [
        {"n_neurons": n, "seed": seed, "n_kept": m, "method": method}
        for n in WIDTHS
        for seed in range(PAIRS)
        for m in (2**k for k in range((n // 2).bit_length()))
        for method in ("random", "greedy")
    ]
    frame = pd.DataFrame(rows)
    n, m = frame["n_neurons"], frame["n_kept"]
    factor = (n - m) / (n - 1) * (1 + 1e-9 * frame["seed"])
    frame["barrier"] = np.where(frame["method"] == "random", 1.0, 0.1) * factor * m**in_kept * n**in_width
    return frame.assign(change=frame["barrier"])


def test_slopes_of_the_ladder_in_both_directions():
    slopes = ladder_slopes(ladder_frame(-1.0, 0.25)).query("measure == 'barrier'")
    in_kept, in_width = slopes[slopes["direction"] == "m"], slopes[slopes["direction"] == "N"]
    assert in_kept["exponent"].to_numpy() == pytest.approx(np.full(2, -1.0))
    assert in_kept[["x_min", "x_max"]].to_numpy().tolist() == [[16, 256]] * 2
    assert in_kept.set_index("method")["constant"]["random"] == pytest.approx(512**0.25, rel=1e-6)
    assert in_width["exponent"].to_numpy() == pytest.approx(np.full(2, -0.75), abs=0.02)
    words = list(connectivity_report._on_ladder(slopes))
    assert len(words) == 4
    assert words[0].startswith("  random, in N: falls, exponent -0.76")
    assert words[1].startswith("  random, in m: falls, exponent -1.00")


def test_kept_numbers_of_narrow_networks_are_all_fitted():
    narrow = ladder_frame(-1.0, 0.0).query("n_neurons == 32").assign(n_neurons=16).query("n_kept <= 8")
    slopes = ladder_slopes(narrow).query("measure == 'barrier' and direction == 'm'")
    assert slopes[["x_min", "x_max"]].to_numpy().tolist() == [[1, 8]] * 2
    assert "m in 1..8, less than a factor 16" in next(connectivity_report._on_ladder(slopes))


def test_a_ladder_of_one_pair_is_not_judged():
    one = ladder_frame(-1.0, 0.0).query("seed == 0")
    slopes = ladder_slopes(one)
    assert slopes["exponent"].isna().all()
    assert all("not judged" in line for line in connectivity_report._on_ladder(slopes))


def test_a_ladder_without_barriers_says_so():
    slopes = ladder_slopes(ladder_frame(-1.0, -0.5).assign(barrier=0.0))
    barriers = slopes[slopes["measure"] == "barrier"].groupby("direction")["not_judged"]
    assert set(barriers.get_group("m")) == {"above zero in every pair at fewer than two m"}
    assert all("which leaves fewer than two widths" in words for words in barriers.get_group("N"))
    assert slopes.loc[slopes["measure"] == "change", "not_judged"].isna().all()


def test_costs_are_those_of_the_widest_mean_field_networks():
    rows = [
        {"scaling": scaling, "n_neurons": n, "way": "dropout", "n_passes": p, "n_gradients": 0, "n_assignments": 3}
        for scaling, n, p in (("mean-field", 4, 1), ("mean-field", 8, 12), ("mean-field", 8, 14), ("control", 8, 99))
    ]
    table = costs(pd.DataFrame(rows).assign(seconds=2.0))
    expected = {"way": "dropout", "n_passes": 13.0, "n_gradients": 0.0, "n_assignments": 3.0, "seconds": 2.0}
    assert table.to_dict("records") == [expected]
    assert list(connectivity_report._on_costs(table)) == ["  dropout path, same half: 13, 0, 3, 2"]


def test_the_rise_of_the_error_is_that_found_at_both_ends_of_the_widths():
    frame = barriers_frame(-0.5)
    assert connectivity_report._on_errors(frame) == "rises by 0.500 at N = 32 and 0.500 at N = 512, as far as found"
    none = frame.assign(error_barrier=np.nan)
    assert connectivity_report._on_errors(none) == "the targets are no classes"
