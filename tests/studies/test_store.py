"""The store keeps records whole, tells harm and foreign code from a finished run, and never loses bits."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meanfield.checks import MeanfieldWarning
from meanfield.studies import provenance as provenance_module
from meanfield.studies import store as store_module
from meanfield.studies.provenance import source_hash
from meanfield.studies.store import Store, canonical_json, config_hash


@dataclass(frozen=True)
class Run:
    n_neurons: int = 400
    step_size: float = 0.1
    loss: str = "square"
    biases: bool = False
    delta: float | None = None
    n_kept: tuple = (1, (2, 4))
    seed: int = 0


FRAMES = {
    "curve": pd.DataFrame({"step": [0, 1], "risk": [0.1 + 0.2, np.nan], "method": ["exact", "sample"]}),
    "final": pd.DataFrame({"barrier": np.array([np.pi], dtype=np.float32)}),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results" / "toy")


def write(store: Store, config: object, frames: dict = FRAMES, root_seed: int = 7) -> None:
    store.write(config, frames, root_seed=root_seed, study="toy", wall_seconds=0.5)


def record(store: Store, config: object) -> Path:
    return store.folder / "records" / config_hash(config)


# --- configurations and their names ---------------------------------------------------------------------


def test_canonical_json_is_compact_sorted_and_names_the_class():
    assert canonical_json(Run(delta=0.8)) == (
        '{"biases":false,"class":"Run","delta":0.8,"loss":"square","n_kept":[1,[2,4]],'
        '"n_neurons":400,"seed":0,"step_size":0.1}'
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_round_trip_to_the_same_bits(value: float):
    read = json.loads(canonical_json(Run(step_size=value)))["step_size"]
    assert np.float64(read).tobytes() == np.float64(value).tobytes()


def test_hash_does_not_depend_on_the_order_of_fields():
    one = make_dataclass("Toy", [("a", int), ("b", str)], frozen=True)
    other = make_dataclass("Toy", [("b", str), ("a", int)], frozen=True)
    assert config_hash(one(a=1, b="x")) == config_hash(other(a=1, b="x"))


@pytest.mark.parametrize(
    "change",
    [
        {"n_neurons": 401},
        {"step_size": math.nextafter(0.1, 1)},
        {"loss": "logistic"},
        {"biases": True},
        {"delta": 0.0},
        {"n_kept": (1, 2, 4)},
        {"seed": 1},
    ],
)
def test_hash_changes_with_each_field(change: dict):
    assert config_hash(replace(Run(), **change)) != config_hash(Run())


def test_hash_changes_with_the_class_name():
    one, other = (make_dataclass(name, [("a", int)], frozen=True) for name in ("One", "Other"))
    assert config_hash(one(1)) != config_hash(other(1))


def test_hash_is_the_same_in_another_process():
    command = (
        "from dataclasses import make_dataclass; from meanfield.studies.store import config_hash;"
        "print(config_hash(make_dataclass('Toy', ['a', 'b'], frozen=True)(0.1, ('x', None))))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    here = config_hash(make_dataclass("Toy", ["a", "b"], frozen=True)(0.1, ("x", None)))
    assert answer.stdout.strip() == here
    assert len(here) == 16


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_not_finite_is_refused(value: float):
    with pytest.raises(ValueError, match=r"field step_size must be finite, got .*use None"):
        canonical_json(Run(step_size=value))


@pytest.mark.parametrize("value", [[1], {"a": 1}, np.int64(3), np.zeros(2), object()])
def test_an_unsupported_type_is_refused(value: object):
    with pytest.raises(TypeError, match=r"field n_kept\[1\] must be a str, int, .* convert it first"):
        canonical_json(Run(n_kept=(1, value)))


@pytest.mark.parametrize("config", [Run, {"seed": 0}, make_dataclass("Open", ["seed"])(0)])
def test_only_instances_of_frozen_dataclasses_are_configurations(config: object):
    with pytest.raises(TypeError, match=r"must be an instance of a frozen dataclass"):
        canonical_json(config)


# --- records --------------------------------------------------------------------------------------------


def test_frames_come_back_with_the_same_bits(store: Store):
    write(store, Run())
    read = store.read(Run())
    assert list(read) == list(FRAMES)
    for name, frame in FRAMES.items():
        pd.testing.assert_frame_equal(read[name], frame, check_exact=True)


def test_a_record_says_what_made_it(store: Store):
    write(store, Run(seed=3))
    run = json.loads((record(store, Run(seed=3)) / "run.json").read_text())
    assert run["configuration"] == json.loads(canonical_json(Run(seed=3)))
    assert (run["study"], run["status"], run["root_seed"], run["wall_seconds"]) == ("toy", "finished", 7, 0.5)
    assert run["source_hash"] == source_hash()
    assert run["versions"]["numpy"] == np.__version__
    assert set(run["versions"]) == {"python", "numpy", "numba", "scipy", "pandas", "pyarrow"}
    assert {"package_version", "commit", "cpu", "blas", "time_utc"} <= set(run)
    assert run["time_utc"].endswith("+00:00")


def test_has_tells_finished_runs_from_others(store: Store):
    write(store, Run())
    assert store.has(Run())
    assert store.has(Run(), root_seed=7)
    assert not store.has(Run(seed=1))


def test_an_unfinished_run_cannot_be_read(store: Store):
    with pytest.raises(LookupError, match=r"no finished record of Run\(n_neurons=400.*run it first"):
        store.read(Run())


def test_a_second_store_on_the_folder_sees_the_records(store: Store):
    write(store, Run())
    assert Store(store.folder).has(Run())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = [
    ("curve.parquet", truncate),
    ("curve.parquet", flip_a_bit),
    ("final.parquet", Path.unlink),
    ("run.json", truncate),
    ("run.json", Path.unlink),
    ("run.json", lambda path: path.write_text("[]")),
    ("run.json", lambda path: path.write_text('{"frames": null}')),
    ("run.json", lambda path: path.write_bytes(b"\xff\xfe")),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_record_is_reported_and_can_be_written_again(store: Store, name: str, damage):
    write(store, Run())
    damage(record(store, Run()) / name)
    with pytest.warns(MeanfieldWarning, match=r"damaged record .*counted as unfinished"):
        assert not store.has(Run())
    write(store, Run())
    assert store.has(Run())


def test_records_of_other_sources_do_not_count_and_are_reported_once(store: Store, monkeypatch):
    configs = [Run(seed=seed) for seed in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(provenance_module, "source_hash", lambda: "0" * 16)
        for config in configs:
            write(store, config)
    with pytest.warns(MeanfieldWarning, match=r"made by other sources of the package \(0{16}\)") as said:
        assert not any(store.has(config) for config in configs)
    assert len(said) == 1
    write(store, configs[0])
    assert [store.has(config) for config in configs] == [True, False, False]


def test_records_from_another_root_seed_do_not_count(store: Store):
    write(store, Run(), root_seed=7)
    with pytest.warns(MeanfieldWarning, match=r"made from root seed 7, not 8"):
        assert not store.has(Run(), root_seed=8)
    write(store, Run(), root_seed=8)
    assert store.has(Run(), root_seed=8)


def test_writing_a_finished_run_again_leaves_its_record_alone(store: Store):
    write(store, Run())
    before = record(store, Run()).stat().st_ino
    write(store, Run())
    assert record(store, Run()).stat().st_ino == before
    assert [path.name for path in (store.folder / "records").iterdir()] == [config_hash(Run())]


def test_many_writers_of_the_same_records_do_no_harm(store: Store):
    configs = [Run(seed=seed) for seed in range(10)]
    for config in configs[:5]:
        write(store, config)
        truncate(record(store, config) / "run.json")
    errors = []

    def write_all() -> None:
        try:
            for config in configs:
                write(store, config)
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write_all) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert all(store.has(config) for config in configs)
    assert len(list((store.folder / "records").iterdir())) == len(configs)


def test_a_write_that_fails_leaves_nothing(store: Store, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write(store, Run())
    assert list((store.folder / "records").iterdir()) == []


def test_what_a_killed_process_left_is_ignored_and_removed_and_work_in_progress_is_not(store: Store):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    leftover, working = (
        store.folder / "records" / f".{store_module.platform.node()}.{process}.abc"
        for process in (gone.pid, os.getpid())
    )
    for folder in (leftover, working):
        folder.mkdir()
        (folder / "run.json").write_text('{"half')
    assert not store.has(Run())
    Store(store.folder)
    assert not leftover.exists()
    assert working.exists()


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        ({}, TypeError, "DataFrames in a dict by name, at least one"),
        (FRAMES["curve"].to_numpy(), TypeError, "DataFrames in a dict by name"),
        ({"curve": [1, 2]}, TypeError, "frame 'curve' must be a DataFrame, got type list"),
        ({"../curve": FRAMES["curve"]}, ValueError, "lower-case letters, digits and _, got '../curve'"),
        ({"curve": FRAMES["curve"].set_index("step")}, ValueError, r"has the index \['step'\]: call reset"),
        ({"curve": pd.DataFrame({"seed": [0]})}, ValueError, r"repeats the configuration fields \['seed'\]"),
    ],
)
def test_frames_that_cannot_be_kept_are_refused(store: Store, frames, error, message):
    with pytest.raises(error, match=message):
        write(store, Run(), frames)
    assert not store.has(Run())


def test_an_object_that_only_pickle_could_keep_is_refused(store: Store):
    with pytest.raises(ValueError, match="Could not convert"):
        write(store, Run(), {"curve": pd.DataFrame({"law": [object()]})})


# --- many runs together ---------------------------------------------------------------------------------


def test_frames_puts_the_scalar_fields_first(store: Store):
    configs = [Run(n_neurons=50), Run(n_neurons=400, delta=0.8)]
    write(store, configs[0])
    write(store, configs[1], {"curve": FRAMES["curve"].iloc[:1]})
    table = store.frames("curve", configs)
    fields = ["n_neurons", "step_size", "loss", "biases", "delta", "seed"]
    assert list(table.columns) == [*fields, "step", "risk", "method"]
    assert table["n_neurons"].tolist() == [50, 50, 400]
    assert table["step"].tolist() == [0, 1, 0]
    assert table["delta"].isna().tolist() == [True, True, False]
    assert table["risk"].iloc[2] == 0.1 + 0.2


def test_frames_names_the_nearest_frame(store: Store):
    write(store, Run())
    with pytest.raises(ValueError, match="unknown frame 'curves': did you mean 'curve'"):
        store.frames("curves", [Run()])
    with pytest.raises(ValueError, match="at least one configuration"):
        store.frames("curve", [])


def test_csv_reads_back_to_the_same_floats(store: Store):
    frame = pd.DataFrame({"risk": np.random.default_rng(0).normal(size=50)})
    path = store.export_csv("risks", frame)
    assert path == store.folder / "tables" / "risks.csv"
    header, *lines = path.read_text().splitlines()
    assert header == "risk"
    assert [float(line) for line in lines] == frame["risk"].tolist()


def test_manifest_lists_runs_code_and_details(store: Store):
    path = store.write_manifest([Run(), Run(seed=1)], study="toy", root_seed=7)
    manifest = json.loads(path.read_text())
    assert path == store.folder / "manifest.json"
    assert manifest["runs"] == {config_hash(c): json.loads(canonical_json(c)) for c in (Run(), Run(seed=1))}
    assert (manifest["study"], manifest["root_seed"]) == ("toy", 7)
    assert manifest["source_hash"] == source_hash()


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(store: Store):
    path = store.write_manifest([Run()], study="toy")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_manifest([Run()], verdict=math.nan)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write results to .*file/toy: .*; choose .* with --output"):
        Store(tmp_path / "file" / "toy")


# --- which code -----------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch) -> Path:
    folder = (tmp_path / "project" / "meanfield").resolve()
    (folder / "kernels").mkdir(parents=True)
    (folder / "kernels" / "a.py").write_text("A = 1\n")
    (folder / "b.py").write_text("B = 1\n")
    monkeypatch.setattr(provenance_module, "PACKAGE", folder)
    return folder


def test_source_hash_sees_the_python_files_that_make_records_and_nothing_else(package: Path):
    def present() -> str:
        return source_hash.__wrapped__()

    first = present()
    (package / "notes.txt").write_text("no code")
    (package / "plots").mkdir()
    (package / "plots" / "style.py").write_text("only reads records")
    assert present() == first
    (package / "kernels" / "a.py").write_text("A = 2\n")
    second = present()
    (package / "b.py").rename(package / "c.py")
    assert len({first, second, present()}) == 3


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_is_this_projects_or_none(package: Path, monkeypatch):
    present = provenance_module._commit.__wrapped__
    assert present() is None  # no work tree
    git(package.parent, "init")
    assert present() is None  # no commit yet
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-m", "first")
    assert present() == git(package.parent, "rev-parse", "HEAD")
    monkeypatch.setattr(provenance_module, "PACKAGE", package / "kernels")
    assert present() is None  # a package installed somewhere inside another project's tree


def test_a_machine_without_git_has_no_commit(package: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(package))
    assert provenance_module._commit.__wrapped__() is None
