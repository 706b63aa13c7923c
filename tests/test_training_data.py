"""Annotation files, picture stores, sampling by source: what is read, and what is refused."""

from __future__ import annotations

import gzip
import json
import logging
import pickle
import tarfile

import numpy as np
import pytest
from training_pictures import encoded_mask, open_data, write_data

from dynamite_widget.coco_format import decode_segment
from dynamite_widget.errors import DataError
from dynamite_widget.training.data import (
    InstanceDataset,
    combine,
    open_dataset,
    read_annotations,
)
from dynamite_widget.training.pictures import PictureStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def _write(path, annotations, images=None):
    images = images or [{"id": 1, "file_name": "a.png", "height": 8, "width": 10}]
    path.write_text(json.dumps({"images": images, "annotations": annotations}), encoding="utf-8")
    return path


def _mask():
    mask = np.zeros((8, 10), bool)
    mask[2:6, 3:8] = True
    return mask


POLYGON = [[3, 2, 8, 2, 8, 6, 3, 6]]


@pytest.mark.parametrize(
    "shape",
    [
        POLYGON,
        encoded_mask(_mask()),
        {"size": [8, 10], "counts": [26, 4, 4, 4, 4, 4, 4, 4, 4, 4, 18]},
    ],
    ids=["polygon", "compressed", "raw"],
)
def test_all_kinds_of_segmentation(tmp_path, shape):
    (record,) = read_annotations(
        _write(tmp_path / "a.json", [{"id": 7, "image_id": 1, "segmentation": shape}])
    )
    assert record.areas == (20,)
    assert record.boxes[0] == (3, 2, 5, 4)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({"id": 5, "image_id": 9, "segmentation": POLYGON}, "unknown picture 9"),
        ({"id": 5, "image_id": 1, "segmentation": [[1, 1, 2, 2]]}, "fewer than 3 points"),
        ({"id": 5, "image_id": 1, "segmentation": "x"}, "neither polygons nor RLE"),
        ({"id": 5, "image_id": 1}, "segmentation"),
        (
            {"id": 5, "image_id": 1, "segmentation": encoded_mask(np.zeros((8, 10)))},
            "empty mask",
        ),
        (
            {"id": 5, "image_id": 1, "segmentation": encoded_mask(np.ones((9, 10)))},
            r"RLE of size \[9, 10\]",
        ),
        (
            {"id": 5, "image_id": 1, "segmentation": {"size": [8, 10], "counts": [3, 4]}},
            "do not add up",
        ),
    ],
)
def test_bad_annotations_are_named_and_skipped_or_refused(tmp_path, caplog, annotation, words):
    good = {"id": 1, "image_id": 1, "segmentation": POLYGON}
    path = _write(tmp_path / "a.json", [good, annotation])
    with caplog.at_level(logging.WARNING):
        assert len(read_annotations(path)[0].segments) == 1
    assert "annotation 5" in caplog.text
    with pytest.raises(DataError, match=words):
        read_annotations(path, on_problem="refuse")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot read annotation file"),
        (b"[]", "JSON object"),
        (b'{"images": []}', "no list 'annotations'"),
        (b'{"images": [], "annotations": []}', "no picture with a usable instance"),
        (b"\x1f\x8bxx", "cannot read annotation file"),
    ],
)
def test_files_that_are_no_annotations(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_annotations(path)
    with pytest.raises(DataError, match="cannot read"):
        read_annotations(tmp_path / "missing.json")


def test_crowds_are_left_out_and_lvis_names_come_from_the_url(tmp_path):
    crowd = {"id": 1, "image_id": 1, "segmentation": POLYGON, "iscrowd": 1}
    one = {"id": 2, "image_id": 1, "segmentation": POLYGON}
    images = [{"id": 1, "coco_url": "http://pictures/train2017/09.jpg", "height": 8, "width": 10}]
    (record,) = read_annotations(_write(tmp_path / "a.json", [crowd, one], images))
    assert record.file_name == "train2017/09.jpg"
    assert len(record.segments) == 1


def test_combining_keeps_the_second_and_adds_what_is_new(tmp_path):
    small = [[1, 1, 3, 1, 3, 3, 1, 3]]
    images = [{"id": 1, "file_name": "x/a.png", "height": 8, "width": 10}]
    first = read_annotations(
        _write(
            tmp_path / "1.json",
            [
                {"id": 1, "image_id": 1, "segmentation": POLYGON},
                {"id": 2, "image_id": 1, "segmentation": small},
            ],
            images,
        )
    )
    second = read_annotations(
        _write(tmp_path / "2.json", [{"id": 1, "image_id": 1, "segmentation": POLYGON}])
    )
    (record,) = combine(first, second)
    assert record.file_name == "a.png"
    assert record.areas == (20, 4)


def test_pictures_from_folders_and_tar_files_are_the_same(folder, tmp_path):
    archive = tmp_path / "pictures.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.glob("*.png")):
            tar.add(path, f"some/{path.name}")
    loose, packed = PictureStore([folder]), PictureStore([tmp_path])
    assert len(loose) == len(packed) == 6
    for name in ("picture_01.png", "elsewhere/picture_04.png"):
        assert name in packed
        assert loose.read(name) == packed.read(name)
    assert pickle.loads(pickle.dumps(packed)).read("picture_02.png") == packed.read(
        "picture_02.png"
    )
    with pytest.raises(DataError, match="none of the folders"):
        packed.read("picture_99.png")
    with pytest.raises(DataError, match="no folder or tar file"):
        PictureStore([tmp_path / "nowhere"])
    (tmp_path / "broken.tar").write_bytes(b"nothing" * 400)
    with pytest.raises(DataError, match="cannot read tar"):
        PictureStore([tmp_path])


def test_gzipped_annotations(folder, tmp_path):
    path = tmp_path / "train.json.gz"
    path.write_bytes(gzip.compress((folder / "train.json").read_bytes()))
    assert read_annotations(path) == read_annotations(folder / "train.json")


def test_label_maps_have_the_smaller_on_top(folder):
    data = open_data(folder)
    for index, record in enumerate(data.pictures):
        assert list(record.areas) == sorted(record.areas, reverse=True)
        label_map = data.label_map(index)
        np.testing.assert_array_equal(label_map, data.label_map(index))  # from the cache
        smallest = decode_segment(record.segments[-1]) > 0
        assert (label_map[smallest] == len(record.segments)).all()
        assert data.picture(index).shape == (72, 96, 3)
        assert data.picture(index, 2).shape == (36, 48, 3)


def test_missing_and_damaged_pictures(folder, tmp_path, caplog):
    write_data(tmp_path, 3)
    (tmp_path / "picture_01.png").unlink()
    (tmp_path / "picture_02.png").write_bytes(b"no picture")
    pictures = read_annotations(tmp_path / "train.json")
    store = PictureStore([tmp_path])
    data = InstanceDataset(pictures, store)
    assert len(data) == 2
    assert "picture_01.png" in caplog.text
    with pytest.raises(DataError, match="cannot be decoded"):
        data.picture(0)
    with pytest.raises(DataError, match="1 pictures of the annotation file are missing"):
        InstanceDataset(pictures, store, on_problem="refuse")
    with pytest.raises(DataError, match="none of the"):
        InstanceDataset(pictures[:1], store)


def test_a_picture_of_another_size_is_named(folder, tmp_path):
    write_data(tmp_path, 1, (64, 96))
    pictures = read_annotations(folder / "train.json")[:1]
    with pytest.raises(DataError, match=r"96x64 .* its annotations say 96x72"):
        InstanceDataset(pictures, PictureStore([tmp_path])).picture(0)


def test_sampling_goes_by_source(folder):
    data = open_dataset(
        annotations=[folder / "train.json"],
        images=[folder],
        source_weights=[("EVEN", 3.0), ("*", 1.0)],
    )
    share = sum(data.probabilities[i] for i in data.by_source["even"])
    assert share == pytest.approx(0.75)
    rng = np.random.default_rng(0)
    picked = [data.pictures[data.pick(rng)].source for _ in range(400)]
    assert 0.65 < picked.count("even") / 400 < 0.85
    with pytest.raises(DataError, match="source weights"):
        open_dataset(
            annotations=[folder / "train.json"], images=[folder], source_weights=[("*", 0.0)]
        )
