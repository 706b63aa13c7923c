"""What is a source of pictures, and in which order they come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotator_sets import make_pictures

from dynamite_widget.annotator.listing import expand, scan
from dynamite_widget.annotator.sources import open_source
from dynamite_widget.errors import DataError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_scan_finds_pictures_in_natural_order_without_opening_them(tmp_path: Path) -> None:
    touch(tmp_path, "img10.jpg", "img2.JPG", "img1.jpg", "notes.txt", ".hidden/x.jpg")
    touch(tmp_path, "b/1.png", "a/c/2.tiff", "out/thumb.png", ".jpg")
    names = scan(tmp_path, without=[tmp_path / "out"])
    assert names == ["a/c/2.tiff", "b/1.png", "img1.jpg", "img2.JPG", "img10.jpg"]
    assert scan(tmp_path, recursive=False) == ["img1.jpg", "img2.JPG", "img10.jpg"]
    assert scan(tmp_path, pattern="b/*") == ["b/1.png"]
    assert scan(tmp_path, pattern="*.txt") == ["notes.txt"]


def test_scan_follows_links_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/a/1.png")
    (tmp_path / "real" / "a" / "loop").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "other").mkdir()
    touch(tmp_path, "other/2.png")
    (tmp_path / "real" / "link").symlink_to(tmp_path / "other", target_is_directory=True)
    assert scan(tmp_path / "real") == ["a/1.png", "link/2.png"]


def test_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "x/a1.jpg", "x/y/a2.jpg", "x/y/b.png")
    root, names = expand(f"{tmp_path}/x/**/a*.jpg")
    assert Path(root) == tmp_path / "x"
    assert names == ["a1.jpg", "y/a2.jpg"]
    assert list(open_source(f"{tmp_path}/x/*.jpg").keys) == ["a1.jpg"]


def test_lists_mappings_arrays_and_single_files(tmp_path: Path) -> None:
    make_pictures(tmp_path, "p/1.png q/1.png")
    source = open_source(
        [tmp_path / "p" / "1.png", str(tmp_path / "q" / "1.png"), np.zeros((3, 3))]
    )
    assert list(source.keys) == ["p/1.png", "q/1.png", "picture-00003"]
    assert Path(source.image("q/1.png")) == tmp_path / "q" / "1.png"
    assert list(open_source({"x": np.zeros((2, 2))}).keys) == ["x"]
    assert list(open_source(tmp_path / "p" / "1.png").keys) == ["1.png"]
    assert open_source(source) is source


@pytest.mark.parametrize("wrong", ["no/such/folder", 5, np.zeros((3, 3)), ["a.png", "a.png"]])
def test_no_source(wrong: Any) -> None:
    with pytest.raises(DataError):
        open_source(wrong)


def test_coco_source_decodes_masks_when_asked(tmp_path: Path) -> None:
    make_pictures(tmp_path, "a.png b.png")
    square = [2, 2, 8, 2, 8, 8, 2, 8]
    content = {
        "images": [
            {"id": 7, "file_name": "sub/a.png", "height": 20, "width": 30},
            {"id": 8, "file_name": "b.png", "height": 20, "width": 30},
        ],
        "annotations": [{"id": 3, "image_id": 7, "category_id": 1, "segmentation": [square]}],
        "categories": [{"id": 1, "name": "box"}],
    }
    path = tmp_path / "old.json"
    path.write_text(json.dumps(content))
    source = open_source(path)
    assert list(source.keys) == ["sub/a.png", "b.png"]
    assert Path(source.image("sub/a.png")) == tmp_path / "a.png"  # a flat copy of the folder
    session = source.session("sub/a.png")
    assert session is not None
    (instance,) = session.state.instances
    assert instance.class_name == "box"
    assert instance.fixed_mask is not None
    assert instance.fixed_mask.area == 36
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(DataError, match="no COCO file"):
        open_source(tmp_path / "bad.json")
