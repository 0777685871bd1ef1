"""Published image data sets: their files, rebuilt from arrays, against the formats' definitions and checksums."""

import gzip
import os
import re

import numpy as np
import pytest
from image_files import BATCHES, IDX, arrays_of, cifar_source, idx_source, md5, tar_of

from meanfield.model import published
from meanfield.model.datasets import DATASETS
from meanfield.model.published import KEYS, PUBLISHED, CifarArchive, published_files, verify

GREY, COLOUR = arrays_of((28, 28)), arrays_of((32, 32, 3))
SOURCES = {"idx": (idx_source(GREY)[0], GREY), "cifar": (cifar_source(COLOUR)[0], COLOUR)}


# --- formats ----------------------------------------------------------------------------------------------


def test_idx_files_are_rebuilt_byte_for_byte_and_read_back():
    source, files = idx_source(GREY)
    assert dict(source.files(GREY)) == files
    back = source.arrays(files)
    assert all(np.array_equal(back[key], GREY[key]) and back[key].dtype == np.uint8 for key in KEYS)
    assert source.downloads == tuple(f"{name}.gz" for name in IDX)


def test_cifar_records_are_rebuilt_byte_for_byte_and_read_back():
    source, files, _ = cifar_source(COLOUR)
    assert dict(source.files(COLOUR)) == files
    back = source.arrays(files)
    assert all(np.array_equal(back[key], COLOUR[key]) and back[key].dtype == np.uint8 for key in KEYS)
    assert back["x_train"].flags.c_contiguous


def test_downloads_hold_the_published_files(tmp_path):
    source, files = idx_source(GREY)
    for name, content in files.items():
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(content))
        assert published_files(source, path) == {name: content}
    source, files, archive = cifar_source(COLOUR)
    (tmp_path / source.archive).write_bytes(archive)
    assert published_files(source, tmp_path / source.archive) == files


def test_a_download_of_another_content_is_refused_with_both_checksums(tmp_path):
    source, files = idx_source(GREY)
    other = files[IDX[1]][:-1] + b"\xff"
    path = tmp_path / f"{IDX[1]}.gz"
    path.write_bytes(gzip.compress(other))
    with pytest.raises(ValueError, match=f"md5 of {IDX[1]} must be {source.md5[IDX[1]]}, got {md5(other)}"):
        published_files(source, path)
    source, _, archive = cifar_source(COLOUR)
    (tmp_path / source.archive).write_bytes(archive + b"\0")
    with pytest.raises(
        ValueError, match=f"{source.archive} must be {source.archive_md5}, got {md5(archive + bytes(1))}"
    ):
        published_files(source, tmp_path / source.archive)


def test_an_archive_of_other_batches_is_refused(tmp_path):
    source, files, _ = cifar_source(COLOUR)
    other = tar_of({**files, "data_batch_2.bin": files["data_batch_3.bin"]})
    source = CifarArchive((), source.archive, md5(other), source.md5)
    (tmp_path / source.archive).write_bytes(other)
    with pytest.raises(ValueError, match=r"md5 of data_batch_2\.bin must be"):
        published_files(source, tmp_path / source.archive)


def test_a_download_is_unpacked_no_further_than_published_files_are_long(tmp_path, monkeypatch):
    source, _ = idx_source(GREY)
    path = tmp_path / f"{IDX[0]}.gz"
    path.write_bytes(gzip.compress(bytes(10**6)))
    monkeypatch.setattr(published, "LARGEST_FILE", 1000)
    assert source.unpack(path) == {IDX[0]: bytes(1000)}


# --- verification -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOURCES)
def test_arrays_are_verified_in_any_layout(kind):
    source, arrays = SOURCES[kind]
    verify(source, arrays)
    flat = {key: array.reshape(len(array), -1) if key.startswith("x") else array for key, array in arrays.items()}
    verify(source, flat)
    verify(source, {key: array.astype(np.int64) if key.startswith("y") else array for key, array in arrays.items()})
    strided = {**arrays, "x_train": np.asfortranarray(arrays["x_train"])}
    assert not strided["x_train"].flags.c_contiguous
    verify(source, strided)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("row", [0, -1])
def test_one_changed_byte_is_noticed(kind, key, row):
    source, arrays = SOURCES[kind]
    changed = arrays[key].copy()
    changed[(row,) * changed.ndim] ^= 1
    with pytest.raises(ValueError, match=r"the md5 of \S+ must be [0-9a-f]{32}, got [0-9a-f]{32}"):
        verify(source, {**arrays, key: changed})


@pytest.mark.parametrize("kind", SOURCES)
def test_other_orders_parts_and_shapes_are_noticed(kind):
    source, arrays = SOURCES[kind]
    for change in (lambda a: a[::-1], lambda a: a[:-1]):
        with pytest.raises(ValueError, match="the md5 of"):
            verify(source, {**arrays, **{f"{c}_train": change(arrays[f"{c}_train"]) for c in "xy"}})
    with pytest.raises(ValueError, match=r"images must have shape \(\d\d, .*\), got \(4, 3\)"):
        verify(source, {**arrays, "x_test": np.zeros((6, 4, 3), np.uint8)})


def test_planes_of_colour_are_not_images_of_colours():
    source, arrays = SOURCES["cifar"]
    with pytest.raises(ValueError, match=r"the md5 of data_batch_1\.bin"):
        verify(source, {**arrays, "x_train": np.moveaxis(arrays["x_train"], -1, 1)})


def test_every_published_data_set_has_mirrors_and_checksums():
    assert set(PUBLISHED) == set(DATASETS) - {"digits", "cifar10-subset"}
    for source in PUBLISHED.values():
        assert len(source.mirrors) >= 2
        assert all(re.fullmatch(r"https?://\S+[^/]", mirror) for mirror in source.mirrors)
        assert all(re.fullmatch("[0-9a-f]{32}", checksum) for checksum in source.md5.values())
    assert tuple(PUBLISHED["mnist"].md5) == tuple(PUBLISHED["fashion-mnist"].md5) == IDX
    assert tuple(PUBLISHED["cifar10"].md5) == BATCHES


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_published_files_have_the_published_checksums(name):
    file = f"{os.environ.get('MEANFIELD_DATA', '')}/{name.replace('-', '_')}.npz"
    if not os.path.isfile(file):
        pytest.skip("needs MEANFIELD_DATA with the published files")
    with np.load(file) as archive:
        arrays = {key: archive[key] for key in KEYS}
    verify(PUBLISHED[name], arrays)
    arrays["y_test"][17] = (arrays["y_test"][17] + 1) % 10
    with pytest.raises(ValueError, match=f"md5 of {IDX[3]} must be {PUBLISHED[name].md5[IDX[3]]}"):
        verify(PUBLISHED[name], arrays)
