"""Files of other tools: every way to say a mask, damaged files, sessions that keep masks exact."""

from __future__ import annotations

import base64
import io
import json
import logging

import numpy as np
import pytest
from export_strategies import picture_of, random_labels
from PIL import Image

from dynamite_widget.errors import ExportError
from dynamite_widget.export import AnnotatedPicture, AnnotationSet, export, to_coco
from dynamite_widget.importing import read_annotations
from dynamite_widget.session import ClickSession

SQUARE = np.zeros((10, 12), bool)
SQUARE[2:6, 3:8] = True


def coco_file(path, annotations, **extra):
    content = {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "height": 10, "width": 12}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": annotations,
        **extra,
    }
    path.write_text(json.dumps(content))
    return path


def annotation(number, segmentation, **extra):
    return {"id": number, "image_id": 139, "category_id": 18, "segmentation": segmentation, **extra}


def counts_of(mask):
    from dynamite_widget.rle import RLE

    return RLE.from_mask(mask.T).lengths.tolist()  # column by column


def test_coco_shapes_of_every_kind(tmp_path):
    from pycocotools import mask as coco_rle

    compressed = coco_rle.encode(np.asfortranarray(SQUARE.astype(np.uint8)))
    compressed["counts"] = compressed["counts"].decode()
    raw = {"size": [10, 12], "counts": counts_of(SQUARE)}
    polygon = [[3, 2, 8, 2, 8, 6, 3, 6]]
    two = [[0, 0, 2, 0, 2, 2, 0, 2], [10, 8, 12, 8, 12, 10, 10, 10]]
    shapes = [compressed, raw, polygon, two]
    path = coco_file(tmp_path / "c.json", [annotation(k, s) for k, s in enumerate(shapes, 10)])
    (picture,) = read_annotations(path)
    assert picture.classes == ("person", "dog")
    assert [i.class_name for i in picture.instances] == ["dog"] * 4
    masks = {tuple(np.flatnonzero(picture.mask(i)).tolist()) for i in picture.ids}
    corners = np.zeros_like(SQUARE)
    corners[:2, :2] = corners[8:, 10:] = True
    assert masks == {tuple(np.flatnonzero(m).tolist()) for m in (SQUARE, corners)}


def test_coco_ids_and_crowds_come_back(tmp_path):
    crowd = {"size": [10, 12], "counts": counts_of(~SQUARE)}
    records = [
        annotation(777, [[3, 2, 8, 2, 8, 6, 3, 6]]),
        annotation(900100, crowd, iscrowd=1, category_id=1),
    ]
    annotations = read_annotations(coco_file(tmp_path / "c.json", records))
    session = ClickSession.from_json(annotations.to_sessions()[0].to_json())
    content = to_coco(AnnotationSet.from_sessions([session]))
    assert content["images"][0]["id"] == 139
    assert {c["id"]: c["name"] for c in content["categories"]} == {1: "person", 18: "dog"}
    found = {a["id"]: a for a in content["annotations"]}
    assert set(found) == {777, 900100}
    assert found[900100]["iscrowd"] == 1
    assert found[777]["category_id"] == 18


def test_corrected_annotations_go_back_into_their_file(tmp_path):
    """Annotations are replaced in place by id; those of others stay."""
    records = [annotation(777, [[3, 2, 8, 2, 8, 6, 3, 6]], attributes={"hard": True})]
    path = coco_file(tmp_path / "c.json", records)
    (session,) = read_annotations(path).to_sessions()
    session.paint(1, "add", 1, [(9, 8)])
    AnnotationSet.from_sessions([session]).export(path, merge=True)
    (record,) = json.loads(path.read_text())["annotations"]
    assert record["id"] == 777
    assert record["attributes"] == {"hard": True}
    assert record["area"] > SQUARE.sum()


def test_unusable_coco_entries_are_left_out_with_one_warning(tmp_path, caplog):
    bad = [
        annotation(1, []),
        annotation(2, [[1, 1, 2, 2]]),
        annotation(3, {"size": [9, 9], "counts": [81]}),
        annotation(4, {"size": [10, 12], "counts": [3]}),
        annotation(5, {"size": [10, 12], "counts": "\x01damaged"}),
        annotation(6, {"size": [10, 12], "counts": "ooooooooooooooooo"}),
        annotation(7, None),
        annotation(8, [[float("1e300")] * 6]),
        annotation(9, {"size": [10, 12], "counts": [120]}),
        {"id": 10, "image_id": 4, "segmentation": []},
        {"id": 11},
        5,
    ]
    good = annotation(12, [[3, 2, 8, 2, 8, 6, 3, 6]], category_id=99)
    with caplog.at_level(logging.WARNING):
        (picture,) = read_annotations(coco_file(tmp_path / "c.json", [*bad, good]))
    assert [i.class_name for i in picture.instances] == ["category 99"]
    assert len(caplog.records) == 1
    assert "12 entries left out" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"images": 3, "annotations": []}', "\x00"])
def test_files_that_are_no_annotations(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    for name in (None, "coco", "coco-panoptic", "labelme", "geojson", "cvat"):
        if text == "[]" and name is None:
            continue  # an empty list of Label Studio tasks
        with pytest.raises(ExportError):
            read_annotations(tmp_path / "x.json", name)
    (tmp_path / "x.png").write_text(text)
    (tmp_path / "x.npz").write_text(text)
    for file in ("x.png", "x.npz", "missing.json", "."):
        with pytest.raises(ExportError):
            read_annotations(tmp_path / file)
    with pytest.raises(ExportError, match="written only"):
        read_annotations(tmp_path / "x.json", "cutouts")


def test_label_maps_of_other_tools(tmp_path):
    labels = random_labels(1, 15, 20, 5, "boxes")
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "gray.png")
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.repeat(labels[:, :, None], 3, 2).astype(np.uint8)).save(tmp_path / "rgb.png")
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "gray.tif")
    for file in ("gray.png", "deep.png", "rgb.png", "gray.tif"):
        (picture,) = read_annotations(tmp_path / file, "label-png")
        np.testing.assert_array_equal(picture.label_map, labels)
        assert {i.class_name for i in picture.instances} == {"object"}
    Image.fromarray(np.dstack([labels, labels + 1, labels]).astype(np.uint8)).save(
        tmp_path / "colour.png"
    )
    with pytest.raises(ExportError, match="no label map"):
        read_annotations(tmp_path / "colour.png")


def test_binary_masks_of_other_tools(tmp_path):
    other = np.roll(SQUARE, 4, 1)
    for name, mask in (("0007_cat", SQUARE), ("mask", other)):
        Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    (picture,) = read_annotations(tmp_path, "mask-png")
    assert {i.id: i.class_name for i in picture.instances} == {7: "cat", 1: "object"}
    np.testing.assert_array_equal(picture.mask(7), SQUARE)
    np.testing.assert_array_equal(picture.mask(1), other)  # whole, although they overlap
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "z.png")
    with pytest.raises(ExportError, match="3 x 3 pixels"):
        read_annotations(tmp_path, "mask-png")


def test_labelme_shapes_of_every_kind(tmp_path, caplog):
    png = io.BytesIO()
    Image.fromarray((SQUARE[2:6, 3:8] * 255).astype(np.uint8)).save(png, "PNG")
    shapes = [
        {"label": "a", "shape_type": "rectangle", "points": [[7, 5], [3, 2]]},
        {"label": "b", "shape_type": "polygon", "points": [[3, 2], [7, 2], [7, 5], [3, 5]]},
        {"label": "c", "shape_type": "mask", "points": [[3, 2], [7, 5]],
         "mask": base64.b64encode(png.getvalue()).decode()},
        {"label": "d", "shape_type": "circle", "points": [[5, 4], [5, 6]]},
        {"label": "e", "shape_type": "polygon", "points": [[0, 0], [1, 0], [1, 1]], "group_id": 9},
        {"label": "e", "shape_type": "polygon", "points": [[9, 8], [11, 8], [9, 9]], "group_id": 9},
        {"label": "f", "shape_type": "point", "points": [[1, 1]]},
        {"label": "g", "shape_type": "linestrip", "points": [[1, 1], [2, 2]]},
        {"label": "h", "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "%%%"},
    ]  # fmt: skip
    content = {
        "imagePath": "..\\pics\\a.png",
        "imageHeight": 10,
        "imageWidth": 12,
        "shapes": shapes,
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    (picture,) = read_annotations(tmp_path / "a.json")
    assert picture.name == "a.png"
    by_class = {i.class_name: picture.mask(i.id) for i in picture.instances}
    assert sorted(by_class) == list("abcde")
    for name in "abc":
        np.testing.assert_array_equal(by_class[name], SQUARE)
    assert by_class["d"].sum() == 13
    assert by_class["e"][0, 0]
    assert by_class["e"][8, 10]
    assert "3 entries left out" in caplog.text


def test_yolo_files_of_other_tools(tmp_path, caplog):
    Image.new("RGB", (12, 10)).save(tmp_path / "a.jpg")
    rotated = Image.new("RGB", (10, 12))
    exif = rotated.getexif()
    exif[0x0112] = 6
    rotated.save(tmp_path / "b.jpg", exif=exif)
    (tmp_path / "labels").mkdir()
    polygon = "0 0.25 0.2 0.5834 0.2 0.5834 0.5 0.25 0.5\n"
    (tmp_path / "labels" / "a.txt").write_text(
        f"{polygon}\n1 0.5 0.5 0.5 0.4\nx 1\n0 5 5 5 5 5 5\n"
    )
    (tmp_path / "labels" / "b.txt").write_text(polygon)
    (tmp_path / "data.yaml").write_text("nc: 2\nnames: [dog, 'c:at']\n")
    first, second = read_annotations(tmp_path)
    assert first.classes == ("dog", "c:at")
    assert (second.height, second.width) == (10, 12)
    np.testing.assert_array_equal(first.mask(first.ids[0])[2:6, 3:8], True)
    assert {i.class_name for i in first.instances} == {"dog", "c:at"}
    assert "2 entries left out" in caplog.text
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(ExportError, match="do not know the size"):
        read_annotations(tmp_path)
    (tmp_path / "data.yaml").write_text("names: 3")
    with pytest.raises(ExportError, match="no list of class names"):
        read_annotations(tmp_path)


def test_class_names_are_made_usable(tmp_path):
    names = ["  cat\n", "", "x" * 500, "a\x00b", None]
    categories = [{"id": k, "name": n} for k, n in enumerate(names, 1)]
    records = [
        annotation(k, [[k, 1, k + 1, 1, k + 1, 2, k, 2]], category_id=k) for k in range(1, 6)
    ]
    path = coco_file(tmp_path / "c.json", records, categories=categories)
    (session,) = read_annotations(path).to_sessions()
    assert [i.class_name for i in session.instances] == [
        "cat",
        "object",
        "x" * 200,
        "a b",
        "object",
    ]


def test_imported_masks_stay_exact_until_edited():
    labels = random_labels(8, 25, 35, 6, "boxes")
    session = picture_of(labels, 6).to_session()
    again = ClickSession.from_json(session.to_json())
    assert again.state == session.state
    np.testing.assert_array_equal(AnnotatedPicture.from_session(again).label_map, labels)
    present = [int(i) for i in np.unique(labels) if i]
    again.paint(present[0], "erase", 1, [tuple(np.argwhere(labels == present[0])[0][::-1])])
    after = AnnotatedPicture.from_session(again)
    for i in present[1:]:
        np.testing.assert_array_equal(after.mask(i), labels == i)
    assert after.mask(present[0]).sum() < (labels == present[0]).sum()
    again.undo()
    np.testing.assert_array_equal(AnnotatedPicture.from_session(again).label_map, labels)
    assert again.click(0, 0).instance  # sessions of imports can be clicked on
    with pytest.raises(ExportError, match="does not carry the masks"):
        AnnotatedPicture.from_session(again)


def test_small_masks_lie_on_top_of_large_ones(tmp_path):
    whole = {"size": [10, 12], "counts": [0, 120]}
    records = [annotation(1, whole), annotation(2, [[3, 2, 8, 2, 8, 6, 3, 6]])]
    (picture,) = read_annotations(coco_file(tmp_path / "c.json", records))
    np.testing.assert_array_equal(picture.label_map == 1, SQUARE)
    assert picture.mask(2).all()


def test_pictures_are_found_by_name(tmp_path):
    labels = random_labels(1, 15, 20, 3, "boxes")
    export(picture_of(labels, 3, "a b.png"), tmp_path / "c.json")
    (tmp_path / "pics" / "deep").mkdir(parents=True)
    Image.new("RGB", (20, 15)).save(tmp_path / "pics" / "deep" / "a b.jpg")
    (picture,) = read_annotations(tmp_path / "c.json", images=tmp_path / "pics")
    assert picture.image == tmp_path / "pics" / "deep" / "a b.jpg"
    with pytest.raises(ExportError, match="no folder"):
        read_annotations(tmp_path / "c.json", images=tmp_path / "none")
