"""Evaluation data sets: every layout on a tiny fixture, and errors that say what is missing."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynamite_widget.errors import DataError
from dynamite_widget.evaluation import open_evaluation_dataset
from dynamite_widget.evaluation.datasets import DATASETS

HEIGHT, WIDTH = 20, 30


def _picture(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[:, width // 2 :] = (200, 30, 30)
    Image.fromarray(pixels).save(path)


def _mask(path: Path, values: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values.astype(np.uint8))
    if palette:
        picture = picture.convert("P")
        picture.putpalette([channel for i in range(256) for channel in (i, 255 - i, i // 2)])
    picture.save(path)


def _objects() -> np.ndarray:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[2:8, 2:8] = 1
    values[4:18, 12:28] = 2
    return values


def _coco(path: Path, folder: Path, **image: Any) -> None:
    _picture(folder / "a.jpg")
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH, "source": "me"}
            | image
        ],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 3,
                "iscrowd": 0,
                "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]],
            },
            {
                "id": 2,
                "image_id": 7,
                "category_id": 3,
                "class_name": "dot",
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": [45, 2, 18, 2, 533]},
            },
            {
                "id": 3,
                "image_id": 7,
                "category_id": 3,
                "iscrowd": 1,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 600]},
            },
        ],
    }
    data = json.dumps(content).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_coco_with_overlap_crowd_and_small_objects(tmp_path: Path) -> None:
    _coco(tmp_path / "instances.json", tmp_path / "images")
    specification = f"coco:{tmp_path / 'instances.json'}:{tmp_path / 'images'}"
    (sample,) = list(open_evaluation_dataset(specification))
    assert sample.source == "me"
    assert [o.class_name for o in sample.objects] == ["cat", "dot"]
    assert [o.source_id for o in sample.objects] == [1, 2]
    assert (sample.label_map == 1).sum() == 96
    assert sorted(map(tuple, np.argwhere(sample.label_map == 2))) == [
        (5, 2),
        (5, 3),
        (6, 2),
        (6, 3),
    ]
    assert sample.target(1).sum() == 100
    (large,) = list(open_evaluation_dataset(specification, min_area_fraction=0.01))
    assert [o.class_name for o in large.objects] == ["cat"]
    assert (large.label_map > 0).sum() == 96


def test_coco_gzip_and_tar_beside_it(tmp_path: Path) -> None:
    _coco(tmp_path / "pack" / "val.json.gz", tmp_path / "elsewhere")
    with tarfile.open(tmp_path / "pack" / "val.tar", "w") as tar:
        tar.add(tmp_path / "elsewhere" / "a.jpg", "images/a.jpg")
    dataset = open_evaluation_dataset(str(tmp_path / "pack" / "val.json.gz"))
    assert (len(dataset), dataset.keys) == (1, ["a.jpg"])
    assert dataset[0].image.shape == (HEIGHT, WIDTH, 3)


def test_coco_val2017_and_lvis(tmp_path: Path) -> None:
    _coco(tmp_path / "annotations" / "instances_val2017.json", tmp_path / "val2017")
    dataset = open_evaluation_dataset(f"coco-val2017:{tmp_path}")
    assert (dataset.name, len(dataset[0].objects)) == ("COCO val2017", 2)
    _coco(
        tmp_path / "lvis_v1_val.json",
        tmp_path / "val2017",
        file_name=None,
        coco_url="http://images.cocodataset.org/val2017/a.jpg",
    )
    dataset = open_evaluation_dataset(f"lvis:{tmp_path / 'lvis_v1_val.json'}:{tmp_path}")
    assert (dataset.name, dataset.keys) == ("LVIS", ["val2017/a.jpg"])


@pytest.mark.parametrize(
    ("kind", "pictures", "masks", "suffix"),
    [("grabcut", "data_GT", "boundary_GT", "bmp"), ("berkeley", "images", "masks", "png")],
)
def test_grabcut_and_berkeley(
    tmp_path: Path, kind: str, pictures: str, masks: str, suffix: str
) -> None:
    values = np.where(_objects() == 2, 255, 0)
    values[3, 12:28] = 128
    _picture(tmp_path / pictures / "x.jpg")
    _mask(tmp_path / masks / f"x.{suffix}", values)
    (sample,) = list(open_evaluation_dataset(f"{kind}:{tmp_path}"))
    assert (sample.label_map == 1).sum() == 14 * 16
    assert sample.ignore is not None
    assert sample.ignore.sum() == 16


@pytest.mark.parametrize("kind", ["davis", "coco-mval"])
def test_davis_and_coco_mval(tmp_path: Path, kind: str) -> None:
    _picture(tmp_path / "img" / "x_00.jpg")
    values = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    values[..., 1] = np.where(_objects() > 0, 40, 0)
    _mask(tmp_path / "gt" / "x_00.png", values)
    (sample,) = list(open_evaluation_dataset(f"{kind}:{tmp_path}"))
    assert (sample.label_map == 1).sum() == 36 + 14 * 16
    assert sample.ignore is None


def test_sbd(tmp_path: Path) -> None:
    from scipy.io import savemat

    _picture(tmp_path / "img" / "2008_1.jpg")
    (tmp_path / "inst").mkdir()
    content = {"Segmentation": _objects(), "Categories": np.array([[15], [8]], np.uint8)}
    savemat(tmp_path / "inst" / "2008_1.mat", {"GTinst": content})
    (tmp_path / "val.txt").write_text("2008_1\n")
    (sample,) = list(open_evaluation_dataset(f"sbd:{tmp_path}"))
    assert [o.class_name for o in sample.objects] == ["cat", "person"]  # the larger one first
    assert (sample.label_map == 1).sum() == 14 * 16


def test_voc(tmp_path: Path) -> None:
    values = _objects()
    values[1, 2:8] = 255
    classes = np.where(_objects() == 1, 15, np.where(_objects() == 2, 8, 0))
    _picture(tmp_path / "JPEGImages" / "v.jpg")
    _mask(tmp_path / "SegmentationObject" / "v.png", values, palette=True)
    _mask(tmp_path / "SegmentationClass" / "v.png", classes, palette=True)
    listing = tmp_path / "ImageSets" / "Segmentation" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("v\n")
    (sample,) = list(open_evaluation_dataset(f"voc:{tmp_path}"))
    assert [o.class_name for o in sample.objects] == ["cat", "person"]
    assert sample.ignore is not None
    assert sample.ignore.sum() == 6


def test_davis_frames(tmp_path: Path) -> None:
    for frame in ("00000", "00001"):
        _picture(tmp_path / "JPEGImages" / "480p" / "bear" / f"{frame}.jpg")
        _mask(tmp_path / "Annotations" / "480p" / "bear" / f"{frame}.png", _objects(), palette=True)
    for year in ("2016", "2017"):
        (tmp_path / "ImageSets" / year).mkdir(parents=True)
        (tmp_path / "ImageSets" / year / "val.txt").write_text("bear\n")
    dataset = open_evaluation_dataset(f"davis2017:{tmp_path}")
    assert dataset.keys == ["bear/00000", "bear/00001"]
    assert [len(sample.objects) for sample in dataset] == [2, 2]
    assert dataset[0].source == "bear"
    merged = open_evaluation_dataset(f"davis2016:{tmp_path}")
    assert [len(sample.objects) for sample in merged] == [1, 1]


def test_limit_is_spread_and_checked(tmp_path: Path) -> None:
    for number in range(10):
        _picture(tmp_path / "img" / f"{number}.png")
        _mask(tmp_path / "gt" / f"{number}.png", _objects())
    dataset = open_evaluation_dataset(f"davis:{tmp_path}")
    assert dataset.take(5).keys == ["0", "2", "4", "6", "8"]
    assert dataset.take(None) is dataset
    with pytest.raises(ValueError, match="at least 1"):
        dataset.take(0)


@pytest.mark.parametrize("kind", sorted(DATASETS))
def test_missing_files_say_what_was_expected_and_how_to_get_it(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=r"expected at .*does not exist\. .*(download|README)"):
        open_evaluation_dataset(f"{kind}:{tmp_path / 'nowhere'}")


def test_other_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown data set 'imagenet:x'"):
        open_evaluation_dataset("imagenet:x")
    with pytest.raises(DataError, match="does not fit"):
        open_evaluation_dataset("voc:a:b:c")
    _coco(tmp_path / "a.json", tmp_path / "images", file_name="b.jpg")
    with pytest.raises(DataError, match=r"1 of 1 annotated pictures .* first 'b.jpg'"):
        open_evaluation_dataset(f"coco:{tmp_path / 'a.json'}:{tmp_path / 'images'}")
    _coco(tmp_path / "c.json", tmp_path / "images", width=31)
    with pytest.raises(DataError, match="30x20, its annotations say 31x20"):
        open_evaluation_dataset(f"coco:{tmp_path / 'c.json'}:{tmp_path / 'images'}")[0]
    _picture(tmp_path / "img" / "x.png")
    _mask(tmp_path / "gt" / "y.png", _objects())
    with pytest.raises(DataError, match="no mask in"):
        open_evaluation_dataset(f"davis:{tmp_path}")
    _mask(tmp_path / "gt" / "x.png", _objects()[:5])
    with pytest.raises(DataError, match="mask of 'x' is 30x5"):
        open_evaluation_dataset(f"davis:{tmp_path}")[0]


def test_windows_drives_are_no_separators() -> None:
    with pytest.raises(DataError, match="expected at"):
        open_evaluation_dataset("coco:C:/data/a.json:D:/pictures")
