"""Files: nothing half-written, nothing overwritten unasked, any name, merging, stable ids."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from export_strategies import picture_of, random_labels

from dynamite_widget.errors import ExportError
from dynamite_widget.export import FORMATS, AnnotatedPicture, AnnotationSet, export, to_coco
from dynamite_widget.export.files import clean, file_stem, unique_stems
from dynamite_widget.importing import read_annotations

LABELS = random_labels(3, 20, 30, 4, "boxes")


@pytest.fixture
def picture():
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    names = dict.fromkeys(range(1, 5), "cat")
    return AnnotatedPicture.from_label_map(LABELS, names, "a.png", image=pixels)


def target_of(folder: Path, name: str) -> Path:
    return folder / f"out{FORMATS[name].suffix}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", FORMATS)
def test_existing_files_are_protected(picture, tmp_path, name):
    target = target_of(tmp_path, name)
    written = export(picture, target, name)
    assert written
    assert all(path.is_file() for path in written)
    before = contents(tmp_path)
    with pytest.raises(ExportError, match="exists; overwrite=True"):
        export(picture, target, name)
    assert contents(tmp_path) == before
    export(picture, target, name, overwrite=True)
    assert contents(tmp_path) == before  # the same set gives the same bytes


@pytest.mark.parametrize("name", ["coco", "yolo-seg", "voc", "coco-panoptic", "cvat"])
@pytest.mark.parametrize("where", ["write", "fsync", "replace", "mkstemp"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_failure_leaves_the_old_files(picture, tmp_path, monkeypatch, name, where, number):
    target = target_of(tmp_path, name)
    export(picture, target, name)
    before = contents(tmp_path)

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    class FullFile:
        def __init__(self, handle, mode):
            self.handle = handle

        def __enter__(self):
            return self

        def __exit__(self, *error):
            os.close(self.handle)

        write = fail

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(os, "fdopen", FullFile)
        elif where == "mkstemp":
            patch.setattr("tempfile.mkstemp", fail)
        else:
            patch.setattr(os, where, fail)
        with pytest.raises(ExportError, match=r"cannot write .*(full|permission|read-only)"):
            export(AnnotatedPicture.from_label_map(LABELS.T), target, name, overwrite=True)
    assert contents(tmp_path) == before


def test_a_failure_in_a_new_folder_leaves_nothing(picture, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ExportError, match="disk is full"):
            export(picture, tmp_path / "a" / "b", "yolo-seg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(picture, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ExportError, match="no permission"):
            export(picture, tmp_path / "a.json")
    finally:
        tmp_path.chmod(0o700)


def test_the_format_is_found(picture, tmp_path):
    for suffix, name in ((".json", "coco"), (".png", "label-png"), (".npz", "npz"), (".xml", None)):
        export(picture, tmp_path / f"a{suffix}")
        assert name is None or len(read_annotations(tmp_path / f"a{suffix}", name)) == 1
    export(picture, tmp_path / "d", "YOLO")
    with pytest.raises(ExportError, match="does not name a format"):
        export(picture, tmp_path / "x.txt")
    with pytest.raises(ExportError, match="did you mean 'label-png'"):
        export(picture, tmp_path / "x", "label-pgn")
    with pytest.raises(TypeError, match="did you mean 'tolerance'"):
        export(picture, tmp_path / "x.json", tolerence=3)
    for wrong in ({"tolerance": -1}, {"transform": (1, 2)}, {"transform": (1, 1, 0, 1, 1, 0)}):
        with pytest.raises(ExportError):
            export(picture, tmp_path / "x.json", **wrong)
    with pytest.raises(ExportError, match="one picture"):
        export(AnnotationSet([picture, picture_of(LABELS, 4, "b.png")]), tmp_path / "x.png")


def test_names_from_users_are_only_text(tmp_path):
    evil = '..\\../x"/&<a>\x00\u2028"\ud800 ü.jpg'
    picture = AnnotatedPicture.from_label_map(
        LABELS, dict.fromkeys(range(1, 5), "]]><x a='1'>&amp; \"quoted\": [yaml], {x} %s"), evil
    )
    folder = tmp_path / "space ü"
    for name, entry in FORMATS.items():
        if name != "cutouts":
            for path in export(picture, folder / name / f"out{entry.suffix}", name):
                assert folder / name in path.resolve().parents
    for name in ("coco", "cvat", "label-png", "labelme", "npz"):
        target = folder / name / f"out{FORMATS[name].suffix}"
        (again,) = read_annotations(target, name)
        assert again.instances[0].class_name == picture.instances[0].class_name
        np.testing.assert_array_equal(again.label_map, LABELS)
    assert json.loads((folder / "coco" / "out.json").read_text())["images"][0]["file_name"] == evil


def test_file_names():
    assert file_stem("a/b.c.jpg") == "b.c"
    assert file_stem(".hidden") == "hidden"
    assert file_stem("") == file_stem("/") == "picture"
    assert file_stem("con.png") == "con_"
    assert clean("x" * 500) == "x" * 120
    assert list(unique_stems(["a.jpg", "A.png", "b/a.gif"])) == ["a", "A_2", "a_3"]


def test_two_pictures_of_one_name(picture, tmp_path):
    with pytest.raises(ExportError, match="two pictures are called"):
        AnnotationSet([picture, picture])
    unnamed = AnnotationSet([picture_of(LABELS, 4, "picture")] * 2)
    assert [p.name for p in unnamed] == ["picture", "picture-2"]
    twins = AnnotationSet([picture_of(LABELS, 4, "a.jpg"), picture_of(LABELS, 4, "a.png")])
    with pytest.raises(ExportError, match="would share the file name"):
        export(twins, tmp_path / "yolo", "yolo-seg")
    assert len(export(twins, tmp_path / "labels", "label-png")) == 2


def test_ids_are_stable_and_merging_replaces_by_picture_and_instance(tmp_path):
    first = AnnotationSet([picture_of(LABELS, 4, f"{k}.png") for k in "abc"])
    assert to_coco(first) == to_coco(first)
    path = tmp_path / "coco.json"
    export(first, path)
    before = json.loads(path.read_text())
    before["licenses"] = [{"id": 7, "name": "mine"}]
    before["annotations"][0]["note"] = "kept"
    before["extra"] = {"also": "kept"}
    foreign = {
        "id": 5, "image_id": 1, "category_id": 2, "segmentation": [[1, 1, 5, 1, 5, 5]],
        "area": 8, "bbox": [1, 1, 4, 4], "iscrowd": 0,
    }  # fmt: skip
    before["annotations"].append(foreign)
    path.write_text(json.dumps(before))
    changed = np.where(LABELS == 1, 9, 0)
    names = {9: "dog", 2: "cat"}
    second = AnnotationSet(
        [
            AnnotatedPicture.from_label_map(changed, names, "b.png"),
            picture_of(LABELS, 4, "new.png"),
        ]
    )
    export(second, path, merge=True)
    export(second, path, merge=True)  # twice is once
    after = json.loads(path.read_text())
    assert after["licenses"] == before["licenses"]
    assert after["extra"] == before["extra"]
    assert [i["id"] for i in after["images"]] == [1, 2, 3, 4]
    assert [after["images"][k] for k in (0, 2)] == [before["images"][k] for k in (0, 2)]
    assert [e["instance"] for e in after["images"][1]["dynamite"]["empty"]] == [2]
    assert [c["name"] for c in after["categories"]] == [
        *(c["name"] for c in before["categories"]), "dog"
    ]  # fmt: skip
    assert [c["id"] for c in after["categories"]] == [1, 2, 3, 4]
    kept = {a["id"]: a for a in after["annotations"]}
    assert kept[before["annotations"][0]["id"]]["note"] == "kept"
    assert kept[5] == foreign
    instances = {a["dynamite"]["instance"] for a in kept.values() if a["image_id"] == 2}
    old = {int(i) for i in np.unique(LABELS) if i}
    # 2 has lost its pixels, 9 is new, the others are not part of the second set.
    assert instances == (old | {9}) - {2}
    assert len({a["id"] for a in after["annotations"]}) == len(after["annotations"])
    for damage in ("[]", "{}", '{"images": [{"id": 1}, {"id": 1}]}'):
        path.write_text(damage)
        with pytest.raises(ExportError):
            export(second, path, merge=True)
        assert path.read_text() == damage


@pytest.mark.parametrize("name", ["label-png", "npz", "labelme", "geojson"])
def test_merging_instances_into_a_picture(tmp_path, name):
    target = tmp_path / f"x{FORMATS[name].suffix}"
    export(picture_of(np.repeat([[1, 1, 2, 2, 0, 0]], 6, 0), 2, "a.png"), target, name)
    new = AnnotatedPicture.from_label_map(
        np.repeat([[0, 3, 3, 2, 2, 0]], 6, 0), {2: "cat", 3: "dog"}, "a.png"
    )
    export(new, target, name, merge=True)
    (again,) = read_annotations(target, name)
    np.testing.assert_array_equal(again.label_map[0], [1, 3, 3, 2, 2, 0])


@pytest.mark.parametrize(
    "name", ["coco-panoptic", "yolo-seg", "voc", "label-studio", "cvat", "mask-png"]
)
def test_merging_pictures(tmp_path, name):
    target = target_of(tmp_path, name)
    one, two = picture_of(LABELS, 4, "a.png"), picture_of(LABELS * 2, 8, "b.png")
    export(AnnotationSet([one, two]), target, name)
    changed = AnnotatedPicture.from_label_map(np.where(LABELS > 0, 5, 0), "zebra", "a.png")
    export(AnnotationSet([changed, picture_of(LABELS, 4, "c.png")]), target, name, merge=True)
    if name == "yolo-seg":
        from dynamite_widget.export.yolo import read_names

        assert read_names(target / "data.yaml") == ["cat", "Bär & <Söhne>", "杯子", "zebra"]
        assert (target / "labels" / "a.txt").read_text().startswith("3 ")
        return
    again = read_annotations(target, name)
    assert sorted(p.name for p in again) == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(again["b.png"].label_map, two.label_map)
    assert "zebra" in {i.class_name for i in again["a.png"].instances}


def test_pictures_copied_along(tmp_path):
    from PIL import Image

    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    names = dict.fromkeys(range(1, 5), "cat")
    known = AnnotatedPicture.from_label_map(LABELS, names, "a.jpg", image=tmp_path / "a.jpg")
    export(known, tmp_path / "yolo", "yolo-seg", copy_images=True)
    assert (tmp_path / "yolo/images/a.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()
    (again,) = read_annotations(tmp_path / "yolo")  # finds them there
    assert again.name == "a.jpg"
    with pytest.raises(ExportError, match="is not known"):
        export(picture_of(LABELS, 4), tmp_path / "x", "yolo-seg", copy_images=True)
    with pytest.raises(ExportError, match="cut-outs need the picture"):
        export(picture_of(LABELS, 4), tmp_path / "x", "cutouts")


def test_cutouts_hold_the_pixels(picture, tmp_path):
    from PIL import Image

    written = export(picture, tmp_path / "crops", "cutouts")
    cutouts = list(picture.cutouts())
    assert len(written) == len(cutouts)
    for path, cutout in zip(written, cutouts, strict=True):
        with Image.open(path) as crop:
            rgba = np.asarray(crop)
        np.testing.assert_array_equal(rgba[:, :, 3] > 0, cutout.mask)
        part = picture.image[cutout.y0 : cutout.y1, cutout.x0 : cutout.x1]
        np.testing.assert_array_equal(rgba[cutout.mask][:, :3], part[cutout.mask])
        assert not rgba[~cutout.mask].any()
