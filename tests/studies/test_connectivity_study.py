"""The connectivity study from its grid to its verdict, at small scale."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from meanfield import (
    DivergenceError,
    StraightLine,
    align,
    choose_kept,
    choose_subset,
    classification_error,
    connect,
    curve_risk,
    dropout_change,
    load_dataset,
    path_risk,
    risk,
    run_sgd,
)
from meanfield.checks import BlowUpWarning
from meanfield.studies import connectivity_ways
from meanfield.studies.connectivity import ConnectivityRun, cost, grid, initial_network, memory, one_run, ways_of
from meanfield.studies.connectivity_report import STUDY
from meanfield.studies.connectivity_ways import CERTIFIED, LADDER, UNTRAINED, WAYS
from meanfield.studies.engine import run_rng
from meanfield.studies.evaluation import fixed_rows
from meanfield.studies.report import run_study
from meanfield.studies.store import Store

SMALL = {"widths": [4, 16, 64], "n_pairs": 2, "horizon": 1.0, "n_samples": 200}


def small_run(**changes: object) -> ConnectivityRun:
    return replace(grid(**SMALL)[0], **{"n_neurons": 16, "plane_points": 0, **changes})


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def frames():
    return one_run(small_run(n_samples=1400, plane_points=5), run_rng(0, 0))


@pytest.fixture(scope="module")
def ends(digits):
    """Both networks of the pair of ``frames``, trained once more by the public names alone."""
    run, trained = small_run(), []
    for stream in run_rng(0, 0).spawn(5)[:2]:
        for_weights, for_training = stream.spawn(2)
        start = initial_network(run, digits, for_weights)
        options = {"step_size": run.step_size, "n_steps": run.n_steps, "rng": for_training}
        trained.append(run_sgd(start, digits, **options).final)
    return trained


def row(frames, way, split="train"):
    barriers = frames["barriers"]
    return barriers[(barriers["way"] == way) & (barriers["split"] == split)].iloc[0]


def test_the_grid_is_every_scaling_width_and_pair_and_one_plane():
    runs = grid(**SMALL)
    assert len(runs) == len(set(runs)) == 2 * 3 * 2
    assert {run.scaling for run in runs} == {"mean-field", "control"}
    (shown,) = [run for run in runs if run.plane_points]
    assert (shown.scaling, shown.n_neurons, shown.seed) == ("mean-field", 64, 0)
    widths = [run.n_neurons for run in grid()]
    assert max(widths) >= 16 * min(widths)


def test_data_sets_are_trained_longer_than_gaussians_unless_told():
    assert {run.horizon for run in grid()} == {400.0}
    assert {run.horizon for run in grid(data="gaussians")} == {4.0}
    assert {run.horizon for run in grid(horizon=2.0)} == {2.0}


def test_every_way_is_measured_on_both_splits(frames):
    barriers = frames["barriers"]
    assert set(barriers["way"]) == {*WAYS, UNTRAINED}
    assert (barriers.groupby("way")["split"].apply(sorted).map(tuple) == ("test", "train")).all()
    assert (barriers["barrier"] >= 0).all()
    assert (barriers["above_chord"] >= -1e-12).all()
    assert set(frames["profile"]["way"]) == {*WAYS, UNTRAINED}


@pytest.mark.parametrize(("way", "second_keeps"), [("dropout", "same"), ("complement", "complement")])
def test_the_barrier_of_a_dropout_path_is_that_of_its_halves(frames, ends, digits, way, second_keeps):
    halves = [np.arange(8), np.arange(8) if second_keeps == "same" else np.arange(8, 16)]
    whole = [risk(end, digits).value for end in ends]
    kept = [risk(end.keep([half]), digits).value for end, half in zip(ends, halves, strict=True)]
    expected = max(*whole, *kept) - max(whole)
    assert row(frames, way)["barrier"] == pytest.approx(expected, rel=1e-9)
    assert row(frames, way)["larger_end"] == pytest.approx(max(whole), rel=1e-12)
    assert frames["summary"]["risk"].item() == pytest.approx(np.mean(whole), rel=1e-12)


def test_the_other_convention_is_above_the_line_between_both_losses(frames, ends, digits):
    table = path_risk(connect(*ends), digits, n_grid=201)
    chord = (1 - table["t"]) * table["risk"].iloc[0] + table["t"] * table["risk"].iloc[-1]
    assert row(frames, "dropout")["above_chord"] == pytest.approx((table["risk"] - chord).max(), rel=1e-9)


def test_the_straight_line_and_the_error_along_it(frames, ends, digits):
    for split, law in (("train", digits), ("test", load_dataset("digits", split="test"))):
        table = curve_risk(StraightLine(*ends), law, n_grid=21)
        measured = row(frames, "line", split)
        assert measured["barrier"] == pytest.approx(table.attrs["barrier"], rel=1e-9)
        errors = [classification_error(end, law).value for end in ends]
        assert measured["error_barrier"] == pytest.approx(table["classification_error"].max() - max(errors))


def test_the_ladder_is_the_identity_of_the_path(ends, digits, frames):
    ladder = frames["ladder"]
    assert sorted(ladder["n_kept"].unique()) == [1, 2, 4, 8]
    assert set(ladder["method"]) == set(LADDER)
    for n_kept in (2, 8):
        here = ladder[(ladder["n_kept"] == n_kept) & (ladder["method"] == "greedy")].iloc[0]
        sets = [choose_subset(end, digits, n_kept, method="greedy").kept for end in ends]
        path = connect(*ends, kept=[[np.array(kept)] for kept in sets])
        assert here["barrier"] == pytest.approx(path_risk(path, digits).attrs["barrier"], rel=1e-9)
        changes = [dropout_change(end, digits, [list(kept)]).value for end, kept in zip(ends, sets, strict=True)]
        assert here["change"] == pytest.approx(np.mean(changes), rel=1e-9)


def test_the_greedy_way_is_the_greedy_rung_of_the_ladder(frames):
    ladder = frames["ladder"]
    rung = ladder[(ladder["n_kept"] == 8) & (ladder["method"] == "greedy")]
    assert row(frames, "greedy")["barrier"] == pytest.approx(rung["barrier"].item(), rel=1e-9)


def test_the_cost_counts_passes_and_gradients(frames):
    cost_of = frames["cost"].set_index("way")
    assert cost_of.loc["dropout", "n_passes"] == 8 + 4
    assert cost_of.loc["complement", "n_passes"] == 6 + 2
    assert cost_of.loc["line", "n_passes"] >= 21
    # Networks that a search tries are not counted.
    assert (cost_of.loc[["best-of", "greedy"], "n_passes"] == 8 + 4).all()
    # 50 samples an end: one batch of 100 for the bend
    assert cost_of["n_gradients"].to_dict() == {way: 100 * (way == "bezier") for way in cost_of.index}
    # one hidden layer: a single assignment problem
    assert cost_of["n_assignments"].to_dict() == {way: int(way == "aligned") for way in cost_of.index}
    assert (cost_of["seconds"] > 0).all()


def test_the_plane_holds_the_ends_and_the_path_lies_off_it(frames, ends):
    projection = frames["projection"]
    flat = [np.concatenate([np.ravel(a) for a in end.weights]) for end in ends]
    last = projection[projection["t"] == 1]
    assert last["u"].to_numpy() == pytest.approx(np.linalg.norm(flat[1] - flat[0]))
    assert set(projection["way"]) == {"dropout", "line", "bezier"}
    off = projection.groupby("way")["off_plane"].max()
    assert off["dropout"] > 1
    assert off["line"] == pytest.approx(0, abs=1e-10)
    assert off["bezier"] == pytest.approx(0, abs=1e-10)
    vertices = projection[(projection["way"] == "dropout") & projection["vertex"]]
    assert vertices["t"].to_numpy() == pytest.approx(np.arange(8) / 7)
    plane = frames["plane"]
    assert len(plane) == 25
    for axis in "uv":
        assert plane[axis].min() < projection[axis].min() < projection[axis].max() < plane[axis].max()


def test_both_ends_are_drawn_and_trained_independently(ends):
    first, second = ends
    for ours, theirs in zip(first.weights, second.weights, strict=True):
        assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.3


def test_widths_share_samples_and_first_neurons(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        connectivity_ways, "connect", lambda first, second, **options: seen.setdefault(first.widths[1], first) and None
    )
    for n_neurons in (8, 16):
        with pytest.raises(TypeError):
            one_run(small_run(n_neurons=n_neurons, scaling="control", step_size=1e-9, horizon=1e-8), run_rng(0, 0))
    np.testing.assert_allclose(seen[8].weights[0], seen[16].weights[0][:8], rtol=0, atol=1e-6)


def test_the_control_goes_dropout_paths_alone_and_has_no_ladder():
    run = small_run(scaling="control")
    frames = one_run(run, run_rng(0, 0))
    assert set(frames["barriers"]["way"]) == set(ways_of(run)) <= set(CERTIFIED)
    assert set(frames) == {"summary", "barriers", "cost", "profile"}


def test_rows_are_a_small_data_set_whole_and_part_of_a_large_one(digits):
    assert fixed_rows(digits, 1400, np.random.default_rng(0)) is digits
    part = fixed_rows(digits, 100, np.random.default_rng(0))
    assert part.n_samples == 100
    assert np.array_equal(part.x, digits.sample(100, np.random.default_rng(0))[0])


def test_targets_without_classes_or_test_split_have_no_errors(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.standard_normal((50, 3)), y=rng.standard_normal(50))
    run = grid(**SMALL | {"data": str(tmp_path / "mine.npz"), "widths": [4], "n_pairs": 1})[0]
    frames = one_run(run, run_rng(0, 0))
    assert set(frames["barriers"]["split"]) == {"train"}
    assert frames["barriers"]["error_barrier"].isna().all()
    assert frames["summary"]["test_error"].isna().all()


@pytest.mark.parametrize(("largest", "n_trained", "n_failed"), [(1.0, 1, 0), (0.02, 1, 1), (0.0, 0, 3)])
def test_a_bend_that_diverges_is_trained_again_by_smaller_steps(monkeypatch, largest, n_trained, n_failed):
    whole = connectivity_ways.train_bezier

    def failing(*arguments, step_size, **options):
        if step_size > largest:
            raise DivergenceError("too large", SimpleNamespace(n_gradients=7))
        return whole(*arguments, step_size=step_size, **options)

    monkeypatch.setattr(connectivity_ways, "train_bezier", failing)
    frames = one_run(small_run(horizon=40.0, plane_points=5), run_rng(0, 0))
    cost_of = frames["cost"].set_index("way").loc["bezier"]
    assert cost_of["n_gradients"] == 4000 * n_trained + 7 * n_failed
    assert cost_of["curve"] == ("QuadraticBezier" if n_trained else "StraightLine")
    assert ({"plane", "projection"} <= set(frames)) == ("plane" in frames) == (n_trained > 0)
    is_line = row(frames, "bezier")["barrier"] == pytest.approx(row(frames, "line")["barrier"], rel=1e-6)
    assert is_line == (n_trained == 0)


def test_a_bend_that_blows_up_is_trained_again_by_smaller_steps(monkeypatch):
    whole = connectivity_ways.train_bezier

    def warning(*arguments, step_size, **options):
        if step_size > 0.02:
            warnings.warn("blown up", BlowUpWarning, stacklevel=2)
        return whole(*arguments, step_size=step_size, **options)

    monkeypatch.setattr(connectivity_ways, "train_bezier", warning)
    cost_of = one_run(small_run(horizon=40.0), run_rng(0, 0))["cost"].set_index("way").loc["bezier"]
    assert cost_of["n_gradients"] == 4000 * 2
    assert cost_of["curve"] == "QuadraticBezier"


def test_other_warnings_are_no_blow_up_and_are_passed_on(monkeypatch):
    whole = connectivity_ways.train_bezier

    def warning(*arguments, **options):
        warnings.warn("of something else", UserWarning, stacklevel=2)
        return whole(*arguments, **options)

    monkeypatch.setattr(connectivity_ways, "train_bezier", warning)
    with pytest.warns(UserWarning, match="of something else"):
        cost_of = one_run(small_run(horizon=40.0), run_rng(0, 0))["cost"].set_index("way").loc["bezier"]
    assert cost_of["n_gradients"] == 4000


def test_a_pair_without_a_bend_is_named_and_has_no_plane(monkeypatch, tmp_path):
    def failing(*_, **__):
        raise DivergenceError("too large", SimpleNamespace(n_gradients=7))

    monkeypatch.setattr(connectivity_ways, "train_bezier", failing)
    runs = [run for run in grid(**SMALL | {"widths": [4]}) if run.scaling == "mean-field"]
    report = run_study(STUDY, runs, tmp_path, n_workers=1, progress=False).report
    assert "loss-on-plane" not in report.figures
    named = [line for line in report.words if "training the bend diverged at every step size" in line]
    assert [line.split(":")[0] for line in named] == [f"digits, mean-field, N = 4, pair {seed}" for seed in (0, 1)]
    assert all(line.endswith("is the straight line") for line in named)


def test_a_bend_on_the_line_of_the_ends_costs_the_plane_alone(monkeypatch, tmp_path):
    def straight(first, second, *_, **__):
        bend = connectivity_ways.StraightLine(first, second).at(0.5)
        return SimpleNamespace(curve=connectivity_ways.QuadraticBezier(first, second, bend), n_gradients=7)

    monkeypatch.setattr(connectivity_ways, "train_bezier", straight)
    runs = [run for run in grid(**SMALL | {"widths": [4]}) if run.scaling == "mean-field"]
    result = run_study(STUDY, runs, tmp_path, n_workers=1, progress=False)
    assert result.summary.n_finished_now == 2
    assert "loss-on-plane" not in result.report.figures
    assert {"barriers", "means"} <= set(result.report.tables)
    (named,) = [line for line in result.report.words if "no plane is drawn" in line]
    assert named.startswith("digits, mean-field, N = 4, pair 0: both ends and the bend are on one line")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("connectivity")
    return run_study(STUDY, grid(**SMALL), folder, n_workers=1, progress=False), folder


def test_the_report_holds_tables_figures_and_a_verdict(results):
    result, folder = results
    words = "\n".join(result.report.words)
    for expected in (
        "dropout path, same half (certified)",
        "Bezier curve (a lower bound)",
        "above the line between both losses",
        "control, 1/sqrt(N) scaling",
        "at N = 64, D = 75 and K = 1 the terms are",
        "a better half is a lower barrier",
        "cost at the largest width: networks evaluated on the training rows along the way, gradients",
        "seconds, which alone hold the searches for halves",
        "its second term does not fall with N",
    ):
        assert expected in words
    assert "neurons drawn" not in words
    assert set(result.report.figures) == {
        "barrier-against-width",
        "loss-along-ways",
        "better-halves",
        "loss-on-plane",
    }
    assert (folder / "figures" / "loss-on-plane.png").is_file()
    assert {"barriers", "exponents", "slopes", "costs", "means", "ladder", "plane"} <= set(result.report.tables)
    assert result.report.table["N"].tolist() == [4, 16, 64]


def test_a_second_run_runs_nothing_and_says_the_same(results):
    first, folder = results
    second = run_study(STUDY, grid(**SMALL), folder, n_workers=1, progress=False)
    assert (second.summary.n_finished_before, second.summary.n_finished_now) == (12, 0)
    assert second.report.words == first.report.words


def test_an_unfinished_study_reports_what_there_is(results):
    some = [run for run in grid(**SMALL) if run.scaling == "mean-field" and not run.plane_points]
    report = STUDY.report(Store(results[1]), some)
    assert "loss-on-plane" not in report.figures
    assert "control, 1/sqrt(N) scaling: not measured" in "\n".join(report.words)


def test_a_pair_of_which_one_diverged_is_named_and_left_out(tmp_path):
    options = {"widths": [4], "step_size": 50.0, "horizon": 5000.0, "activation": "quadratic"}
    runs = [run for run in grid(**SMALL | options) if run.scaling == "mean-field"]
    words = run_study(STUDY, runs, tmp_path, n_workers=1, progress=False).report.words
    assert words[0] == "no pair in mean-field scaling is finished yet"
    assert words[1].startswith("digits, mean-field, N = 4, pair 0: diverged")
    assert words[1].endswith("try a step size below 50")


def test_a_single_pair_is_drawn_but_not_judged(results):
    runs = [run for run in grid(**SMALL) if run.seed == 0]
    words = "\n".join(STUDY.report(Store(results[1]), runs).words)
    assert "needs at least 2 seeds" in words
    assert "90% interval " not in words


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"widths": [2, 64]}, ValueError, "widths must be at least 4, two neurons in each half, got 2"),
        ({"data": "digit"}, ValueError, "unknown data set 'digit': did you mean 'digits'"),
        ({"n_pairs": 0}, ValueError, "pairs must be at least 1, got 0"),
        ({"horizon": 1e-9}, ValueError, "horizon must be at least one step"),
        ({"n_samples": 5}, ValueError, "samples must be at least 100, got 5"),
        ({"n_hidden": 0}, ValueError, "hidden layers must be at least 1, got 0"),
        ({"n_hidden": 2, "data": "gaussians"}, ValueError, "hidden layers of gaussians must be 1, .* got 2: choose a"),
    ],
)
def test_bad_options_are_refused_before_any_work(change, error, message):
    with pytest.raises(error, match=message):
        grid(**SMALL | change)


def test_cost_grows_with_width_steps_and_the_plane():
    run = small_run()
    assert cost(run) > cost(small_run(scaling="control")) > 0
    assert cost(small_run(n_neurons=64)) > cost(run)
    assert cost(small_run(horizon=100.0)) > cost(run)
    assert cost(small_run(plane_points=23)) > cost(run)


@pytest.fixture(scope="module")
def deep_frames():
    return one_run(small_run(n_hidden=2, n_samples=1400, plane_points=5), run_rng(0, 0))


@pytest.fixture(scope="module")
def deep_ends(digits):
    """Both networks of the pair of ``deep_frames``."""
    run, trained = small_run(n_hidden=2), []
    for stream in run_rng(0, 0).spawn(5)[:2]:
        for_weights, for_training = stream.spawn(2)
        start = initial_network(run, digits, for_weights)
        options = {"step_size": run.step_size, "n_steps": run.n_steps, "rng": for_training}
        trained.append(run_sgd(start, digits, **options).final)
    return trained


@pytest.mark.parametrize(("way", "second_keeps"), [("dropout", "same"), ("complement", "complement")])
def test_with_two_hidden_layers_the_barrier_is_that_of_dropping_the_upper_and_both(
    deep_frames, deep_ends, digits, way, second_keeps
):
    whole, halves = np.arange(16), [np.arange(8), np.arange(8) if second_keeps == "same" else np.arange(8, 16)]
    risks = [risk(end, digits).value for end in deep_ends]
    dropped = [
        risk(end.keep(kept), digits).value
        for end, half in zip(deep_ends, halves, strict=True)
        for kept in ([whole, half], [half, half])
    ]
    expected = max(*risks, *dropped) - max(risks)
    assert row(deep_frames, way)["barrier"] == pytest.approx(expected, rel=1e-9)


def test_with_two_hidden_layers_every_way_is_gone(deep_frames, deep_ends, digits):
    assert set(deep_frames["barriers"]["way"]) == {*WAYS, UNTRAINED}
    assert {"plane", "projection"} <= set(deep_frames)
    assert "ladder" not in deep_frames
    segments = deep_frames["profile"].groupby("way")["segment"].nunique()
    assert segments[list(CERTIFIED)].to_dict() == {way: 9 if way == "complement" else 11 for way in CERTIFIED}
    rng = run_rng(0, 0).spawn(5)[3]
    kept = [choose_kept(end, digits, method="best-of", n_subsets=100, rng=rng) for end in deep_ends]
    path = connect(*deep_ends, kept=kept)
    best = row(deep_frames, "best-of")["barrier"]
    assert best == pytest.approx(path_risk(path, digits).attrs["barrier"], rel=1e-9)
    kept = [choose_kept(end, digits, method="greedy", n_candidates=8, rng=rng) for end in deep_ends]
    greedy = row(deep_frames, "greedy")["barrier"]
    assert greedy == pytest.approx(path_risk(connect(*deep_ends, kept=kept), digits).attrs["barrier"], rel=1e-9)
    alignment = align(*deep_ends, rng=rng)
    aligned = curve_risk(StraightLine(deep_ends[0], alignment.network), digits, n_grid=21)
    assert row(deep_frames, "aligned")["barrier"] == pytest.approx(aligned.attrs["barrier"], rel=1e-9)
    assert greedy < best < row(deep_frames, "dropout")["barrier"]
    cost_of = deep_frames["cost"].set_index("way")
    assert cost_of.loc["aligned", "n_assignments"] == alignment.n_assignments > 11 * 2
    assert cost_of.loc["dropout", "n_passes"] == 12 + 6


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 65 + 10), ({"n_hidden": 3}, 65), ({"data": "gaussians", "activation": "truncated-relu", "digest": None}, 32)],
)
def test_the_theorem_counts_trained_parameters_of_a_neuron_or_the_dimension(changes, expected):
    run = small_run(scaling="control", n_neurons=4, step_size=1e-3, horizon=0.01, **changes)
    assert one_run(run, run_rng(0, 0))["summary"]["n_parameters"].item() == expected


def test_deep_starts_have_internal_weights_around_one_and_the_control_around_zero(digits):
    run = small_run(n_hidden=3, n_neurons=64)
    start = initial_network(run, digits, np.random.default_rng(0))
    assert (start.widths, start.scaling) == ((65, 64, 64, 64, 10), "mean-field")
    means, stds = ([getattr(w, name)() for w in start.weights] for name in ("mean", "std"))
    assert means == pytest.approx([0, 1, 1, 0], abs=0.2)
    assert stds == pytest.approx([1, 1, 1, 1], rel=0.1)
    control = initial_network(replace(run, scaling="control"), digits, np.random.default_rng(0))
    assert control.scaling == "standard"
    assert [w.std() for w in control.weights] == pytest.approx([1, 32**-0.5, 32**-0.5, 1 / 8], rel=0.1)


def test_deep_runs_cost_and_take_more():
    run = small_run()
    for estimate in (cost, memory):
        assert estimate(replace(run, n_hidden=3)) > estimate(replace(run, n_hidden=2)) > estimate(run) > 0


def test_the_deep_study_reports_without_a_ladder_and_with_its_own_form(tmp_path):
    small = SMALL | {"widths": [4, 16], "horizon": 0.2, "n_hidden": 2}
    report = run_study(STUDY, grid(**small), tmp_path, n_workers=1, progress=False).report
    words = "\n".join(report.words)
    for expected in (
        "digits: 2 hidden layers, relu",
        "keeps the same half of both ends, 11 segments",
        "a random half of the last hidden layer",
        "K (sqrt(d)/sqrt(N) + sqrt(alpha (d + log N))) at z = 0",
        "at N = 16, d = 65 and K = 1 the terms are 2.02 and 1.16,",
        "the first term, of exponent -0.50 here",
        "greedy halves: below the last hidden layer each step tries 8 neurons drawn of those left",
    ):
        assert expected in words
    assert "a better half is a lower barrier" not in words
    assert set(report.figures) == {"barrier-against-width", "loss-along-ways", "loss-on-plane"}
    labels = report.figures["barrier-against-width"].axes[0].get_legend_handles_labels()[1]
    assert r"slope of $1/\sqrt{N}$" in labels


def test_deep_grids_have_widths_of_their_own():
    runs = grid(n_hidden=2)
    assert {run.n_hidden for run in runs} == {2}
    widths = [run.n_neurons for run in runs]
    assert max(widths) == 16 * min(widths) == 512
    assert {run.n_neurons for run in grid(n_hidden=2, widths=[8])} == {8}


@pytest.mark.long
def test_on_digits_the_barrier_falls_and_the_control_does_not(tmp_path):
    runs = grid(widths=[16, 64, 256], n_pairs=4, horizon=50.0)
    words = "\n".join(run_study(STUDY, runs, tmp_path).report.words)
    assert "dropout path, same half (certified): falls, exponent -" in words
    assert "does not fall, as it must not" in words
