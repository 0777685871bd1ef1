"""Fetching image data sets: from mirrors on this machine that work, fail, lie and break off."""

import fcntl
import gzip
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import platformdirs
import pytest
from image_files import IDX, arrays_of, cifar_source, idx_source

from meanfield import load_dataset
from meanfield.model import downloads
from meanfield.model.downloads import read_images
from meanfield.model.npz import read_npz
from meanfield.model.published import KEYS

ARRAYS = arrays_of((28, 28))
NOBODY_LISTENS = "http://127.0.0.1:9"


@pytest.fixture
def mirror(monkeypatch):
    """A server of ``files`` (content by path, or a status, or a function of the connection) that notes requests."""
    state = SimpleNamespace(files={}, requests=[])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(self.path)
            answer = state.files.get(self.path, 404)
            if callable(answer):
                answer(self)
                return
            content = b"" if isinstance(answer, int) else answer
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The platform's cache folder, empty, and no $MEANFIELD_DATA."""
    monkeypatch.delenv("MEANFIELD_DATA", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    return tmp_path / "cache" / "meanfield" / "data"


def publish(monkeypatch, mirror, *mirrors, name="mnist"):
    """Say that a made-up data set is published on ``mirrors``, "/good" by default, and let "/good" have it."""
    source, files = idx_source(ARRAYS, [m if m.startswith("http") else mirror.url + m for m in mirrors or ["/good"]])
    monkeypatch.setitem(downloads.PUBLISHED, name, source)
    mirror.files |= {f"/good/{file}.gz": gzip.compress(content) for file, content in files.items()}
    return source, files


def assert_right(arrays):
    assert set(arrays) == set(KEYS)
    assert all(np.array_equal(arrays[key], ARRAYS[key]) for key in KEYS)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- what works -------------------------------------------------------------------------------------------


def test_a_data_set_is_fetched_once_and_kept_whole(monkeypatch, mirror, cache):
    publish(monkeypatch, mirror)
    assert_right(read_images("mnist"))
    assert mirror.requests == [f"/good/{name}.gz" for name in IDX]
    assert names_in(cache) == [".mnist.npz.lock", "mnist.npz"]
    assert_right(read_npz(cache / "mnist.npz"))
    assert_right(read_images("mnist"))
    assert len(mirror.requests) == 4
    law = load_dataset("mnist", split="test")
    assert (law.n_samples, law.dim) == (6, 785)
    assert np.array_equal(law.y.argmax(axis=1), ARRAYS["y_test"])


def test_an_archive_is_fetched_and_converted(monkeypatch, mirror, cache):
    arrays = arrays_of((32, 32, 3))
    source, _, archive = cifar_source(arrays, [mirror.url])
    monkeypatch.setitem(downloads.PUBLISHED, "cifar10", source)
    mirror.files[f"/{source.archive}"] = archive
    read = read_images("cifar10")
    kept = read_npz(cache / "cifar10.npz")
    assert all(np.array_equal(read[key], arrays[key]) and np.array_equal(kept[key], arrays[key]) for key in KEYS)


@pytest.mark.parametrize(
    "bad",
    [
        404,
        503,
        b"<html>Log in to this network</html>",
        gzip.compress(b"something else"),
        gzip.compress(bytes(10**5))[:40],
        gzip.compress(bytes(range(256)))[:-30] + bytes(30),
        b"",
    ],
    ids=["missing", "down", "portal", "wrong", "truncated", "damaged", "empty"],
)
def test_the_next_mirror_is_asked_for_each_file_that_one_has_not(monkeypatch, mirror, cache, bad):
    publish(monkeypatch, mirror, "/bad", "/good")
    mirror.files |= {f"/bad/{IDX[0]}.gz": bad, f"/bad/{IDX[3]}.gz": mirror.files[f"/good/{IDX[3]}.gz"]}
    assert_right(read_images("mnist"))
    asked = [(where, name) for name in IDX for where in ("bad", "good")][:-1]
    assert mirror.requests == [f"/{where}/{name}.gz" for where, name in asked]


def test_a_mirror_that_does_not_answer_is_passed_over(monkeypatch, mirror, cache):
    publish(monkeypatch, mirror, NOBODY_LISTENS, "/good")
    assert_right(read_images("mnist"))


def break_off(connection):
    connection.send_response(200)
    connection.send_header("Content-Length", "100000")
    connection.end_headers()
    connection.wfile.write(b"\x1f\x8b")


def test_a_broken_transfer_is_passed_over(monkeypatch, mirror, cache):
    publish(monkeypatch, mirror, "/bad", "/good")
    mirror.files |= {f"/bad/{name}.gz": break_off for name in IDX}
    assert_right(read_images("mnist"))


# --- what fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_without_a_network_the_error_names_mirrors_variable_and_file(monkeypatch, cache, name):
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, NOBODY_LISTENS)
    for variable in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset(name)
    message, source, file = str(caught.value), downloads.PUBLISHED[name], f"{name.replace('-', '_')}.npz"
    reasons = "; ".join(f"{m}/{source.downloads[0]}: connection failed (ProxyError)" for m in source.mirrors)
    assert message == (
        f"data set {name!r} could not be fetched ({reasons}): check the network, or set MEANFIELD_DATA to a folder "
        f"with {file}, which holds x_train, y_train, x_test, y_test: uint8 images and their classes 0..9"
    )
    assert "\n" not in message
    assert names_in(cache) == [f".{file}.lock"]


def test_every_mirror_is_named_with_its_reason(monkeypatch, mirror, cache):
    source, _ = publish(monkeypatch, mirror, "/bad", "/down", "/none", NOBODY_LISTENS)
    wrong = gzip.compress(b"something else")
    mirror.files |= {f"/bad/{IDX[0]}.gz": wrong, f"/down/{IDX[0]}.gz": 503}
    with pytest.raises(FileNotFoundError) as caught:
        read_images("mnist")
    sums = f"the md5 of {IDX[0]} must be {source.md5[IDX[0]]}, got {hashlib.md5(b'something else').hexdigest()}"
    reasons = (sums, "HTTP status 503", "HTTP status 404", "connection failed (ConnectionError)")
    for url, reason in zip(source.mirrors, reasons, strict=True):
        assert f"{url}/{IDX[0]}.gz: {reason}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names_in(cache) == [".mnist.npz.lock"]


def test_an_archive_of_another_checksum_is_refused(monkeypatch, mirror, cache):
    source, _, archive = cifar_source(arrays_of((32, 32, 3)), [mirror.url])
    monkeypatch.setitem(downloads.PUBLISHED, "cifar10", source)
    mirror.files[f"/{source.archive}"] = archive[:-1]
    got = hashlib.md5(archive[:-1]).hexdigest()
    with pytest.raises(FileNotFoundError, match=f"{source.archive} must be {source.archive_md5}, got {got}"):
        read_images("cifar10")


def test_the_subset_is_never_fetched(monkeypatch, mirror, cache):
    with pytest.raises(FileNotFoundError, match=r"'cifar10-subset' is read from .* but MEANFIELD_DATA is not set"):
        read_images("cifar10-subset")
    assert "cifar10-subset" not in downloads.PUBLISHED


@pytest.mark.parametrize("kind", ["cache", "variable"])
def test_a_folder_that_cannot_be_written_is_named_before_anything_is_fetched(
    monkeypatch, mirror, cache, tmp_path, kind
):
    publish(monkeypatch, mirror)
    (tmp_path / "cache").write_text("a file where a folder should be")
    if kind == "variable":
        monkeypatch.setenv("MEANFIELD_DATA", str(tmp_path / "mistyped"))
    with pytest.raises(
        OSError, match=r"'mnist' cannot be kept in '.*' \(.*\): set MEANFIELD_DATA to a folder that can"
    ):
        read_images("mnist")
    assert mirror.requests == []
    assert names_in(tmp_path) == ["cache"]


# --- files that are there ---------------------------------------------------------------------------------


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_pixels(path):
    np.savez(path, **{**ARRAYS, "x_train": ARRAYS["x_train"] ^ 1})


def leave_out(path):
    np.savez(path, x_train=ARRAYS["x_train"], y_train=ARRAYS["y_train"])


@pytest.mark.parametrize("damage", [halve, flip, replace_pixels, leave_out, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_in_the_cache_is_fetched_again(monkeypatch, mirror, cache, damage):
    publish(monkeypatch, mirror)
    read_images("mnist")
    damage(cache / "mnist.npz")
    assert_right(read_images("mnist"))
    assert len(mirror.requests) == 8
    assert_right(read_npz(cache / "mnist.npz"))


def test_a_wrong_file_of_the_user_is_an_error_and_stays(monkeypatch, mirror, cache, tmp_path):
    source, _ = publish(monkeypatch, mirror)
    monkeypatch.setenv("MEANFIELD_DATA", str(tmp_path))
    path = tmp_path / "mnist.npz"
    replace_pixels(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(ValueError, match="is not data set 'mnist'") as caught:
            load_dataset("mnist", split="test")
        assert f"{str(path)!r} is not data set 'mnist': the md5 of {IDX[0]} must be {source.md5[IDX[0]]}, got " in str(
            caught.value
        )
        assert str(caught.value).endswith("; replace the file, or delete it so that it is fetched again")
    halve(path)
    with pytest.raises(ValueError, match=r"cannot read '.*mnist\.npz'.*; replace the file, or delete it so"):
        load_dataset("mnist")
    path.write_bytes(before)
    assert mirror.requests == []
    assert not cache.exists()


def test_what_the_users_folder_lacks_is_fetched_into_it(monkeypatch, mirror, cache, tmp_path):
    publish(monkeypatch, mirror)
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("MEANFIELD_DATA", str(folder))
    assert_right(read_images("mnist"))
    assert names_in(folder) == [".mnist.npz.lock", "mnist.npz"]
    assert not cache.exists()


def test_labels_and_images_of_other_layouts_are_the_same_data_set(monkeypatch, mirror, cache, tmp_path):
    publish(monkeypatch, mirror)
    monkeypatch.setenv("MEANFIELD_DATA", str(tmp_path))
    flat = {key: a.reshape(len(a), -1).astype(np.int64 if key[0] == "y" else np.uint8) for key, a in ARRAYS.items()}
    np.savez_compressed(tmp_path / "mnist.npz", **flat)
    law = load_dataset("mnist")
    assert np.array_equal(law.y.argmax(axis=1), ARRAYS["y_train"])
    assert mirror.requests == []


def test_content_is_verified_once_a_process_and_again_after_a_change(monkeypatch, mirror, cache, tmp_path):
    publish(monkeypatch, mirror)
    monkeypatch.setenv("MEANFIELD_DATA", str(tmp_path))
    np.savez(tmp_path / "mnist.npz", **ARRAYS)
    calls, verify = [], downloads.verify
    monkeypatch.setattr(downloads, "verify", lambda *arguments: (calls.append(1), verify(*arguments)))
    for _ in range(3):
        assert_right(read_images("mnist"))
    assert len(calls) == 1
    replace_pixels(tmp_path / "mnist.npz")
    os.utime(tmp_path / "mnist.npz", ns=(1, 1))
    with pytest.raises(ValueError, match="is not data set"):
        read_images("mnist")


# --- several processes, and progress ----------------------------------------------------------------------

FETCH = """
import sys
import platformdirs
platformdirs.user_cache_dir = lambda name: sys.argv[1]
from image_files import arrays_of, idx_source
from meanfield.model import downloads
arrays = arrays_of((28, 28))
downloads.PUBLISHED["mnist"] = idx_source(arrays, [sys.argv[2]])[0]
print("ready", flush=True)
read = downloads.read_images("mnist")
assert all((read[key] == arrays[key]).all() for key in arrays)
"""


def start_fetching(cache, url):
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    command = [sys.executable, "-W", "error", "-c", FETCH, str(cache.parent), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_processes_that_want_the_same_file_fetch_it_once(monkeypatch, mirror, cache):
    publish(monkeypatch, mirror)
    first, all_ready = mirror.files[f"/good/{IDX[0]}.gz"], threading.Event()

    def wait_for_all(connection):
        all_ready.wait(60)
        connection.send_response(200)
        connection.send_header("Content-Length", str(len(first)))
        connection.end_headers()
        connection.wfile.write(first)

    mirror.files[f"/good/{IDX[0]}.gz"] = wait_for_all
    processes = [start_fetching(cache, mirror.url + "/good") for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    all_ready.set()
    assert [process.communicate(timeout=60) for process in processes] == [("", "")] * 3
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(mirror.requests) == sorted(f"/good/{name}.gz" for name in IDX)
    assert names_in(cache) == [".mnist.npz.lock", "mnist.npz"]


def test_what_a_killed_process_leaves_is_not_taken_for_data(monkeypatch, mirror, cache):
    publish(monkeypatch, mirror)
    under_way, done = threading.Event(), threading.Event()

    def stall(connection):
        connection.send_response(200)
        connection.send_header("Content-Length", "100000")
        connection.end_headers()
        connection.wfile.write(mirror.files[f"/good/{IDX[2]}.gz"][:50])
        connection.wfile.flush()
        under_way.set()
        done.wait(60)

    mirror.files |= {f"/slow/{name}.gz": mirror.files[f"/good/{name}.gz"] for name in IDX}
    mirror.files[f"/slow/{IDX[2]}.gz"] = stall
    process = start_fetching(cache, mirror.url + "/slow")
    assert under_way.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    done.set()
    assert "mnist.npz" not in names_in(cache)
    assert_right(read_images("mnist"))


def test_files_that_cannot_be_locked_are_fetched_all_the_same(monkeypatch, mirror, cache):
    def refuse(*_):
        raise OSError("no locks available")

    publish(monkeypatch, mirror)
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert_right(read_images("mnist"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_alone(monkeypatch, mirror, cache, capsys):
    publish(monkeypatch, mirror)
    read_images("mnist")
    assert capsys.readouterr() == ("", "")
    (cache / "mnist.npz").unlink()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    read_images("mnist")
    for name in IDX:
        assert f"mnist: {name}.gz: " in terminal.getvalue()
