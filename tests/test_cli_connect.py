"""The command that joins two saved networks: what it prints and writes, and one line for what the user can mend."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import run_command
from random_networks import random_network as make_network
from random_networks import random_samples

import meanfield.cli
from meanfield import Empirical, Network, WeightPath, align, choose_kept, connect, path_risk
from meanfield.studies import connect as study

WIDTHS = (3, 8, 6, 2)
FILES = ["path.npz", "risk.csv", "manifest.json", "loss-along-path.pdf", "loss-along-path.png"]
BASELINES = ["straight line", "aligned line", "Bezier curve"]


def save_samples(loss="square", n_samples=50, **arrays):
    x, y = random_samples(loss, n_samples, WIDTHS[0])
    np.savez("mine.npz", **{"x": x, "y": y, **arrays})
    return Empirical(x, y)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Two networks and samples in an empty folder, and the command that joins them."""
    monkeypatch.chdir(tmp_path)
    # Drawing takes most of the time; a test in a process of its own sees the figure.
    figures = []
    monkeypatch.setattr(study, "save_figure", lambda figure, *place: figures.append(figure))
    # Between these two there is a barrier.
    for seed, name in ((3, "a.npz"), (4, "b.npz")):
        make_network(WIDTHS, seed=seed).save(name)
    save_samples()

    def joined(*options, first="a.npz", second="b.npz", data="mine.npz"):
        arguments = [first, second, "--data", data, "--output", "out", *options]
        return run_command(monkeypatch, capsys, "connect", *arguments)

    joined.figures = figures
    return joined


def plain(kept=None, law=None, loss="square", **options):
    """The path that the library gives, and the loss along it."""
    path = connect(Network.load("a.npz"), Network.load("b.npz"), kept=kept, **options)
    return path, path_risk(path, law or save_samples(), loss=loss)


def test_in_a_process_of_its_own(command, tmp_path):
    arguments = ["connect", "a.npz", "b.npz", "--data", "mine.npz", "--output", "out"]
    done = subprocess.run([sys.executable, "-m", "meanfield", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"results: {(tmp_path / 'out').resolve()}\n")
    assert sorted(file.name for file in Path("out").iterdir()) == sorted(FILES)


def test_path_loss_and_words_are_those_of_the_library(command):
    done = command()
    path, table = plain()
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(path.summary())
    facts = table.attrs
    for expected in (
        f"square loss on all 50 samples: {facts['vertex_risks'][0]:.6g} and {facts['vertex_risks'][-1]:.6g} at the",
        f"at most {facts['vertex_maximum']:.6g} along the path",
        f"barrier {facts['barrier']:.4g}: the loss rises by this much above that of the worse end, at vertex "
        f"{facts['maximum_vertex']}, and nowhere on the path by more",
        f"certificate: {facts['certificate']}",
    ):
        assert expected in done.out
    assert facts["barrier"] > 0
    assert "classification error" not in done.out
    assert WeightPath.load("out/path.npz") == path
    pd.testing.assert_frame_equal(pd.read_csv("out/risk.csv"), table, check_exact=True)


def test_the_manifest_says_what_was_joined_how_and_what_was_found(command):
    command("--kept", "random", "--n-kept", "3,2", "--seed", "4")
    manifest = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))
    asked = {"first": "a.npz", "data": "mine.npz", "kept": "random", "n_kept": [3, 2], "seed": 4, "loss": "square"}
    assert asked.items() <= manifest["request"].items()
    path = WeightPath.load("out/path.npz")
    assert manifest["found"]["barrier"] == path_risk(path, save_samples()).attrs["barrier"]
    assert {"package_version", "commit", "source_hash", "time_utc"} <= manifest.keys()


def test_baselines_are_between_the_ends_and_labelled_as_lower_bounds(command):
    done = command("--baselines", "--bezier-steps", "20", "--seed", "1")
    assert done.code == 0, done.err
    table = pd.read_csv("out/comparison.csv")
    assert table["way"].tolist() == ["path", *BASELINES]
    assert table["values"].tolist() == ["certified", *["lower bound"] * 3]
    path, losses = plain()
    assert table["evaluations"][0] == len(path.vertices) + path.kinds.count("idle")
    assert (table["evaluations"][1:] >= 51).all()
    assert table["gradients"].tolist() == [0, 0, 0, 20 * 100]
    alignment = align(path.vertices[0], path.vertices[-1], rng=np.random.default_rng(1).spawn(3)[1])
    assert table["assignments"].tolist() == [0, 0, alignment.n_assignments, 0]
    assert (table["seconds"] > 0).all()
    ends = losses["risk"].iloc[[0, -1]]
    np.testing.assert_allclose(table["maximum"] - ends.max(), table["barrier"], atol=1e-12)
    assert table["barrier"][0] == pytest.approx(losses.attrs["barrier"], rel=1e-12)
    at_vertices = losses.attrs["vertex_risks"]
    t = np.linspace(0, 1, len(at_vertices))
    above = np.max(at_vertices - (1 - t) * at_vertices[0] - t * at_vertices[-1])
    assert table["above_chord"][0] == pytest.approx(above, rel=1e-9)
    curves = pd.read_csv("out/baselines.csv").groupby("way")
    assert sorted(curves.groups) == sorted(BASELINES)
    for way, curve in curves:
        np.testing.assert_allclose(curve["risk"].iloc[[0, -1]], ends, rtol=1e-9)
        assert curve["risk"].max() == table.set_index("way")["maximum"][way]
    for line in table.to_string(index=False).splitlines():
        assert line.split()[0] in done.out
    assert "lower bound" in done.out
    names = [set(figure.axes[0].get_legend_handles_labels()[1]) & set(BASELINES) for figure in command.figures]
    assert names == [set(), set(BASELINES)]


def test_the_seed_gives_the_same_results_again(command):
    options = ["--kept", "best-of", "--baselines", "--bezier-steps", "5"]
    tables = []
    for seed in ("3", "3", "4"):
        assert command(*options, "--seed", seed).code == 0
        tables.append([Path("out", name).read_bytes() for name in ("risk.csv", "baselines.csv")])
    assert tables[0] == tables[1]
    assert all(one != other for one, other in zip(tables[1], tables[2], strict=True))


def test_baselines_do_not_change_the_path(command):
    command("--kept", "random")
    alone = WeightPath.load("out/path.npz")
    command("--kept", "random", "--baselines", "--bezier-steps", "2")
    assert WeightPath.load("out/path.npz") == alone


@pytest.mark.parametrize("second_keeps", ["own", "same", "complement"])
@pytest.mark.parametrize("n_kept", [None, "2", "3,2"])
def test_first_neurons_are_kept_as_asked(command, second_keeps, n_kept):
    done = command("--second-keeps", second_keeps, *(["--n-kept", n_kept] if n_kept else []))
    sizes = {"2": (2, 2), "3,2": (3, 2)}.get(n_kept)
    kept = None if sizes is None else [np.arange(m) for m in sizes]
    expected, _ = plain(kept, second_keeps=second_keeps)
    assert done.code == 0, done.err
    assert WeightPath.load("out/path.npz") == expected


def test_chosen_neurons_are_each_ends_own_by_the_loss_asked_for(command):
    for seed, name in enumerate(("a.npz", "b.npz")):
        make_network((3, 8, 1), seed=seed).save(name)
    law = save_samples("logistic")
    done = command("--loss", "logistic", "--kept", "best-of", "--n-kept", "4", "--seed", "2")
    assert done.code == 0, done.err
    rng = np.random.default_rng(2).spawn(3)[0]
    options = {"method": "best-of", "loss": "logistic", "rng": rng}
    kept = [choose_kept(Network.load(name), law, 4, **options) for name in ("a.npz", "b.npz")]
    expected, table = plain(kept, law, "logistic")
    assert WeightPath.load("out/path.npz") == expected
    errors = table["classification_error"]
    assert f"classification error: {errors.iloc[0]:.4g} and {errors.iloc[-1]:.4g} at the ends" in done.out
    assert f"{errors.max():.4g} or more along the path" in done.out


@pytest.mark.parametrize("method", ["greedy", "swaps", "exhaustive", "adversarial-norm", "adversarial-greedy"])
def test_every_method_chooses_in_several_hidden_layers(command, method):
    law = save_samples()
    assert command("--kept", method, "--n-kept", "2", "--seed", "2").code == 0
    rng = np.random.default_rng(2).spawn(3)[0]
    kept = [choose_kept(Network.load(name), law, 2, method=method, rng=rng) for name in ("a.npz", "b.npz")]
    assert WeightPath.load("out/path.npz") == plain(kept, law)[0]


def test_ends_of_other_widths_are_embedded_and_that_is_said(command):
    make_network((3, 5, 7, 2), seed=1).save("b.npz")
    done = command("--baselines", "--bezier-steps", "2")
    assert done.code == 0, done.err
    assert "the ends of the path have widths (3, 8, 7, 2): narrower layers are embedded, the same functions" in done.out
    ends = [WeightPath.load("out/path.npz").vertices[k].predict(np.eye(3)) for k in (0, -1)]
    expected = [Network.load(name).predict(np.eye(3)) for name in ("a.npz", "b.npz")]
    np.testing.assert_allclose(ends, expected, rtol=1e-12)


def test_the_split_and_target_asked_for(command):
    for seed, name in enumerate(("a.npz", "b.npz")):
        make_network((3, 4, 3), seed=seed).save(name)
    rng = np.random.default_rng(0)
    labels = {split: rng.permutation(np.arange(30) % 3) for split in ("train", "test")}
    inputs = {split: rng.standard_normal((30, 3)) for split in ("train", "test")}
    arrays = {f"x_{split}": x for split, x in inputs.items()} | {f"y_{split}": y for split, y in labels.items()}
    np.savez("mine.npz", **arrays)
    for split in ("train", "test"):
        done = command("--split", split, "--target", "one-hot", "--loss", "cross-entropy")
        law = Empirical(inputs[split], np.eye(3)[labels[split]])
        _, expected = plain(law=law, loss="cross-entropy")
        assert done.code == 0, done.err
        pd.testing.assert_frame_equal(pd.read_csv("out/risk.csv"), expected, check_exact=True)


def test_a_csv_file_and_a_data_set_by_name(command):
    table = np.random.default_rng(0).standard_normal((20, 4))
    pd.DataFrame(table, columns=list("abcd")).to_csv("mine.csv", index=False)
    for seed, name in enumerate(("a.npz", "b.npz")):
        make_network((3, 4, 1), seed=seed).save(name)
    done = command(data="mine.csv")
    assert done.code == 0, done.err
    assert "square loss on all 20 samples" in done.out
    for seed, name in enumerate(("a.npz", "b.npz")):
        make_network((65, 4, 1), seed=seed).save(name)
    done = command("--target", "sign", data="digits")
    assert done.code == 0, done.err
    assert "square loss on all 1400 samples" in done.out


def permuted(network):
    weights, biases = list(network.weights), list(network.biases)
    order = np.roll(np.arange(network.widths[1]), 1)
    weights[0], biases[0], weights[1] = weights[0][order], biases[0][order], weights[1][:, order]
    return Network(weights, biases, activation=network.activation, scaling=network.scaling)


def test_ends_that_are_the_same_function_are_said_to_be(command):
    done = command(second="a.npz")
    assert done.code == 0
    assert done.err == "warning: both ends are the same network: the path is valid, but joins a function to itself\n"
    permuted(Network.load("a.npz")).save("b.npz")
    done = command()
    assert done.code == 0
    assert done.err.startswith("warning: both ends are the same network but for the order of its neurons")


def test_a_path_without_barrier_says_so(command):
    a = Network.load("a.npz")
    zero = [np.zeros_like(array) for array in a.weights[:2]]
    # Neurons that say nothing but zero cannot be missed; the bias alone is left, which both ends share.
    for name, factor in (("a.npz", 1.0), ("b.npz", 2.0)):
        weights = [*zero, factor * a.weights[2]]
        Network(weights, [np.zeros_like(b) for b in a.biases], activation="relu", scaling="mean-field").save(name)
    done = command()
    assert "barrier 0: the loss is nowhere on the path above that of the worse end" in done.out


def test_a_bezier_curve_that_blows_up_is_said(command):
    for seed, name in ((3, "a.npz"), (4, "b.npz")):
        make_network((3, 8, 2), activation="tanh", scaling="standard", seed=seed).save(name)
    done = command("--baselines", "--bezier-steps", "50", "--bezier-step-size", "1e3")
    assert done.code == 0, done.err
    assert "warning: the loss at the end, " in done.err
    assert "reduce step_size, now 1000" in done.err


def test_a_bezier_curve_that_diverges_is_said_and_does_not_lose_the_rest(command):
    done = command("--baselines", "--bezier-steps", "50", "--bezier-step-size", "1e6")
    assert done.code == 0
    assert "warning: the bend diverged at step" in done.err
    assert "the curve before that is taken" in done.err
    assert "Bezier curve" in done.out


def test_progress_is_shown_on_a_terminal(command, monkeypatch):
    assert command("--baselines", "--bezier-steps", "2").err == ""
    monkeypatch.setattr(meanfield.cli.sys.stderr, "isatty", lambda: True)
    done = command("--baselines", "--bezier-steps", "2")
    assert done.err.count("100%") == 5
    for unit in ("chunk", "network", "step"):
        assert f"{unit}/s" in done.err


def network_arrays(**changes):
    arrays = dict(make_network(WIDTHS).arrays()) | changes
    return {name: array for name, array in arrays.items() if array is not None}


def network_file(**changes):
    np.savez("b.npz", **network_arrays(**changes))


def other(**options):
    options = {"widths": WIDTHS, **options}
    return lambda: make_network(options["widths"], **{k: v for k, v in options.items() if k != "widths"}).save("b.npz")


def truncated():
    Path("b.npz").write_bytes(Path("a.npz").read_bytes()[:-100])


def foreign_archive():
    with zipfile.ZipFile("b.npz", "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")


def as_type(dtype):
    return lambda: network_file(**{k: a.astype(dtype) for k, a in network_arrays().items() if a.dtype.kind == "f"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other(widths=(4, 8, 6, 2)), "b.npz takes 4 inputs, but mine.npz has 3: give inputs as the networks were"),
        (other(widths=(3, 8, 6, 5)), "b.npz has 5 outputs, but the target of mine.npz has 2: integer classes take"),
        (other(widths=(3, 8, 2)), "both ends must have the same hidden layers, got 2 and 1"),
        (other(activation="tanh"), "both ends must have the same activation, got relu and tanh"),
        (other(scaling="standard"), "both ends must have the same scaling, got mean-field and standard"),
        (other(biases=False), "both ends must have the same presence of biases, got True and False: give the one"),
        (as_type(np.float32), "both ends must have the same dtype, got float64 and float32: convert the weights"),
        (as_type(np.float16), "'b.npz' is not a saved network: weights[0] must be float32 or float64, got float16"),
        (as_type(np.int64), "'b.npz' is not a saved network: weights[0] must be float32 or float64, got int64"),
        (as_type(object), "cannot read array 'weight_0' of 'b.npz': it holds Python objects, which are never loaded"),
        (lambda: network_file(weight_1=np.full((6, 8), np.nan)), "'b.npz' is not a saved network: weights[1] must be"),
        (lambda: network_file(weight_1=np.ones((6, 7))), "'b.npz' is not a saved network: weights[1] must have 8 col"),
        (lambda: network_file(bias_1=None), "'b.npz' is not a saved network: it lacks bias_1"),
        (lambda: network_file(scaling=None), "'b.npz' is not a saved network: it lacks scaling"),
        (
            lambda: network_file(activation=np.array("gelu")),
            "'b.npz' is not a saved network: unknown activation 'gelu'",
        ),
        (truncated, "cannot read 'b.npz': "),
        (foreign_archive, "'b.npz' is not a saved network: it lacks activation, scaling, weight_0; it holds []"),
        (lambda: Path("b.npz").write_text("1,2\n"), "cannot read 'b.npz': File is not a zip file"),
        (lambda: Path("b.npz").unlink(), "no file 'b.npz'"),
        (lambda: Path("mine.npz").unlink(), "no file 'mine.npz'"),
        (lambda: save_samples(x=np.ones((50, 4))), "a.npz takes 3 inputs, but mine.npz has 4"),
        (lambda: save_samples(y=np.arange(50)), "a.npz has 2 outputs, but the target of mine.npz has 1"),
        (lambda: save_samples(y=np.array([{}] * 50)), "cannot read array 'y' of 'mine.npz': it holds Python objects"),
        (lambda: np.savez("mine.npz", z=np.ones(3)), "'mine.npz' must hold the arrays x and y, or x_train and"),
        (lambda: save_samples(x=np.full((50, 3), np.inf)), "must be finite"),
    ],
)
def test_files_that_cannot_be_joined_are_one_line_without_traceback(command, spoil, message):
    spoil()
    done = command()
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not list(Path("out").iterdir())


def test_a_layer_of_one_neuron_is_refused(command):
    for seed, name in enumerate(("a.npz", "b.npz")):
        make_network((3, 8, 1, 2), seed=seed).save(name)
    done = command()
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: hidden layer 2 has one neuron: a path needs two or more in every hidden layer\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n-kept", "7,6"], "hidden layer 2 of the first end has 6 neurons, 6 in use, and no room for the 6"),
        (["--n-kept", "9"], "n_kept must lie in 1..n_neurons=8, got 9"),
        (["--n-kept", "0"], "n_kept must lie in 1..n_neurons=8, got 0"),
        (
            ["--n-kept", "2,2,2"],
            "n-kept must be one number for every hidden layer, or 2 separated by commas, one a hidden layer of a.npz, "
            "got 2,2,2",
        ),
        (["--n-kept", "half"], "n-kept must be integers separated by commas, got 'half'"),
        (["--kept", "greedi"], "unknown kept 'greedi': did you mean 'greedy'?"),
        (["--second-keeps", "complemnt"], "unknown second-keeps 'complemnt': did you mean 'complement'?"),
        (["--loss", "logistic"], "loss 'logistic' does not suit the targets"),
        (["--loss", "hinge"], "unknown loss 'hinge'"),
        (["--split", "test"], "'mine.npz' has no split 'test'"),
        (["--split", "all"], "unknown split 'all'"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--bezier-steps", "0"], "bezier-steps must be at least 1, got 0"),
        (["--bezier-step-size", "0"], "bezier-step-size must be positive and finite, got 0"),
        (["--output", "/dev/null/results"], "choose another folder with --output"),
    ],
)
def test_bad_options_are_one_line_without_traceback(command, options, message):
    done = command(*options)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_outputs_that_overflow_are_one_line(command):
    a = Network.load("a.npz")
    Network([w * 1e110 for w in a.weights], a.biases, activation="relu", scaling="mean-field").save("b.npz")
    done = command()
    assert done.code == 2
    assert done.err.startswith("error: the risk on segment ")
    assert "outputs overflow there" in done.err
    assert len(done.err.splitlines()) == 1


def test_help_names_every_option(monkeypatch, capsys):
    text = run_command(monkeypatch, capsys, "connect", "--help").out
    for option in ("--data", "--loss", "--kept", "--n-kept", "--second-keeps", "--target", "--output", "--baselines"):
        assert option in text
