"""Reading and writing .npz files: damage and malice end in one clear ValueError."""

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest

from meanfield.model import npz
from meanfield.model.npz import read_npz, write_npz

ARRAYS = {
    "matrix": np.arange(600.0).reshape(20, 30),
    "single": np.linspace(0, 1, 7, dtype=np.float32),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "scalar": np.array(2.5),
    "text": np.array("relu"),
    "none": np.zeros((0, 3)),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "arrays.npz"


def _npy(header: str, content: bytes, version=(1, 0)) -> bytes:
    """Bytes of an .npy file with a header of our own."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text + content


def _write_zip(path, content: bytes, name="a.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


@pytest.mark.parametrize("write", [write_npz, lambda p, arrays: np.savez_compressed(p, **arrays)])
def test_arrays_come_back_bit_for_bit(path, write):
    write(path, ARRAYS)
    arrays = read_npz(str(path))
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes("A") == array.tobytes("A")


def test_only_the_arrays_given_are_written(path):
    write_npz(path, {"a": np.zeros(2)})
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a.npy"]


def test_objects_are_not_written(path):
    with pytest.raises(TypeError, match="array 'a' holds Python objects"):
        write_npz(path, {"a": np.array([None])})
    assert list(path.parent.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    write_npz(path, {"a": np.zeros(2)})
    before = path.read_bytes()

    def full_disk(stream, **arrays):
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_npz(path, {"a": np.ones(2)})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_missing_files_and_folders_are_named(path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*arrays\.npz'"):
        read_npz(path)
    with pytest.raises(FileNotFoundError, match=r"no file"):
        read_npz(path.parent)
    with pytest.raises(FileNotFoundError, match=r"cannot write '.*b\.npz': there is no folder '.*a'"):
        write_npz(path.parent / "a" / "b.npz", {})


def test_members_that_are_no_arrays_are_passed_over(path):
    _write_zip(path, b"hello", "README.txt")
    assert read_npz(path) == {}


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"\x93NUMPY\x01\x00"])
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read '.*arrays\.npz': .*as numpy\.savez writes it"):
        read_npz(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(path, part):
    write_npz(path, ARRAYS)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="cannot read"):
        read_npz(path)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_changed_bytes_are_noticed(path, write):
    write(path, a=np.random.default_rng(0).standard_normal(100))
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot read array 'a' of") as caught:
        read_npz(path)
    assert isinstance(caught.value.__cause__, zipfile.BadZipFile | zlib.error)


def test_random_damage_is_refused_or_harmless(path):
    rng = np.random.default_rng(1)
    np.savez_compressed(path, **ARRAYS)
    whole = path.read_bytes()
    refused = 0
    for _ in range(400):
        content = bytearray(whole)
        content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content)
        try:
            arrays = read_npz(path)
        except ValueError:
            refused += 1
            continue
        for name in arrays.keys() & ARRAYS.keys():
            assert np.array_equal(arrays[name], ARRAYS[name])
    assert 200 < refused < 400


@pytest.mark.parametrize(
    ("header", "held"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000000000)}", 80),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (11,)}", 80),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (9,)}", 80),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-10,)}", 80),
        ("{'descr': '<U100000000', 'fortran_order': False, 'shape': ()}", 80),
    ],
)
def test_headers_that_lie_about_the_size_are_refused(path, header, held):
    _write_zip(path, _npy(header, bytes(held)))
    with pytest.raises(ValueError, match=rf"array 'a' .*its header declares shape .*but {held} bytes follow"):
        read_npz(path)


@pytest.mark.parametrize(
    "content",
    [
        _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,", bytes(8)),
        _npy("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        _npy("{'descr': '<f8', 'fortran_order': False, 'shape': ('a',)}", bytes(8)),
        _npy("__import__('os').getpid()", bytes(8)),
        _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}" + " " * 20_000, bytes(8)),
        b"\x93NUMPY",
        b"",
    ],
)
def test_headers_that_are_none_are_refused(path, content):
    _write_zip(path, content)
    with pytest.raises(ValueError, match="cannot read array 'a' of"):
        read_npz(path)


def test_unknown_format_versions_are_refused(path):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}"
    _write_zip(path, _npy(header, bytes(8), version=(9, 0)))
    with pytest.raises(ValueError, match=r"npy format version \(9, 0\) is not known"):
        read_npz(path)


TRACES = []


def _leave_trace():
    TRACES.append("executed")


class _Executed:
    """Unpickling an instance leaves a trace."""

    def __reduce__(self):
        return _leave_trace, ()


def test_pickled_objects_are_refused_and_not_executed(path):
    np.savez(path, a=np.array([_Executed()], dtype=object))
    with np.load(path, allow_pickle=True) as archive:
        archive["a"]
    assert TRACES == ["executed"]  # the file is as dangerous as meant
    TRACES.clear()
    with pytest.raises(ValueError, match=r"array 'a' of .*it holds Python objects, which are never loaded"):
        read_npz(path)
    assert TRACES == []


def test_a_bare_pickle_is_refused(path):
    path.write_bytes(pickle.dumps(_Executed()))
    with pytest.raises(ValueError, match="cannot read"):
        read_npz(path)
    assert TRACES == []


def test_zip_bombs_are_refused_before_they_unpack(path, monkeypatch):
    np.savez_compressed(path, a=np.zeros(100_000), b=np.zeros(100_000))
    assert read_npz(path)["a"].size == 100_000
    monkeypatch.setattr(npz, "UNPACKED_AT_LEAST", 1_000_000)
    monkeypatch.setattr(np.lib.format, "read_array", None)
    with pytest.raises(ValueError, match=r"its \d+ bytes unpack to 1600\d+, more than the 1000000 allowed"):
        read_npz(path)


def test_large_honest_files_are_read(path, monkeypatch):
    monkeypatch.setattr(npz, "UNPACKED_AT_LEAST", 1_000)
    array = np.random.default_rng(0).standard_normal(10_000)
    write_npz(path, {"a": array})
    assert np.array_equal(read_npz(path)["a"], array)


def test_members_longer_than_announced_are_not_unpacked_further(path):
    stream = io.BytesIO()
    np.save(stream, np.zeros(1_000_000))
    _write_zip(path, stream.getvalue())
    content, real = bytearray(path.read_bytes()), struct.pack("<L", len(stream.getvalue()))
    central = content.rindex(real)
    content[central : central + 4] = struct.pack("<L", 1_128)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        read_npz(path)


def test_encrypted_members_are_refused(path):
    write_npz(path, {"a": np.zeros(2)})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        read_npz(path)
