"""What other programs read in our files: pycocotools, OpenCV, shapely, supervision, zip, XML."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from export_strategies import CLASSES, picture_of, random_labels, with_image

from dynamite_widget.export import AnnotatedPicture, AnnotationSet, export, to_coco
from dynamite_widget.export.polygons import centre_parts
from dynamite_widget.session import ClickSession


@pytest.fixture
def three_pictures():
    return AnnotationSet(
        [picture_of(random_labels(k, 40, 60, 6, "boxes"), 6, f"bild {k}.png") for k in range(3)]
    )


def load_coco(path):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def read_png(path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def coco_mask(coco, annotation):
    with warnings.catch_warnings():  # pycocotools with numpy 2
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return coco.annToMask(annotation).astype(bool)


@pytest.mark.parametrize("polygons", [False, True])
def test_pycocotools_reads_the_masks(three_pictures, tmp_path, polygons):
    export(three_pictures, tmp_path / "coco.json", polygons=polygons)
    coco = load_coco(tmp_path / "coco.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert coco.getCatIds() == [1, 2, 3]
    kinds = set()
    for image in coco.loadImgs(coco.getImgIds()):
        picture = three_pictures[image["file_name"]]
        assert (image["height"], image["width"]) == (picture.height, picture.width)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            kinds.add(type(annotation["segmentation"]))
            mask = picture.mask(annotation["dynamite"]["instance"])
            np.testing.assert_array_equal(coco_mask(coco, annotation), mask)
            assert annotation["area"] == mask.sum()
            ys, xs = np.nonzero(mask)
            assert annotation["bbox"] == [
                xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1
            ]  # fmt: skip
            assert annotation["iscrowd"] == 0
            assert annotation["id"] > 0
    # Holes are no polygons, whatever is asked for.
    assert kinds == ({dict, list} if polygons else {dict})


def test_the_export_evaluated_against_itself_is_perfect(three_pictures, tmp_path):
    from pycocotools.cocoeval import COCOeval

    export(three_pictures, tmp_path / "coco.json")
    coco = load_coco(tmp_path / "coco.json")
    for kind in ("segm", "bbox"):
        with contextlib.redirect_stdout(io.StringIO()):
            found = coco.loadRes([dict(a) for a in coco.dataset["annotations"]])
            evaluation = COCOeval(coco, found, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)


def test_coco_tells_what_was_spent(tmp_path):
    session = ClickSession(20, 30, ["cat"], image_name="a.png", checkpoint_hash="abc")
    mask = np.zeros((20, 30), bool)
    mask[2:9, 3:8] = True
    session.click(4, 4)
    session.click_background(20, 15)
    session.paint(1, "add", 2, [(5, 5)])
    session.remove_click(0)
    session.click(5, 6, 1)
    session.seconds_spent[1] = 12.5
    from dynamite_widget.segmentation import Segmentation

    labels = Segmentation.from_label_map(mask.astype(int), scores={1: 0.75})
    picture = AnnotatedPicture.from_session(session, labels)
    content = to_coco(AnnotationSet([picture]))
    (annotation,) = content["annotations"]
    assert annotation["score"] == 0.75
    effort = annotation["dynamite"]
    assert [(c["x"], c["y"]) for c in effort["clicks"]] == [(5, 6)]
    assert (effort["seconds"], effort["edits"]) == (12.5, 4)
    assert content["dynamite"]["checkpoints"] == ["abc"]
    assert content["dynamite"]["version"]
    background = content["images"][0]["dynamite"]["background_clicks"]
    assert [(c["x"], c["y"]) for c in background] == [(20, 15)]
    json.dumps(content, allow_nan=False)


def test_the_trainer_reads_it(three_pictures, tmp_path):
    """The user's path: what the widget exports is what ``dynamite train`` takes."""
    from dynamite_widget.training.data import InstanceDataset, read_annotations
    from dynamite_widget.training.pictures import PictureStore

    export(three_pictures, tmp_path / "coco.json")
    for picture in three_pictures:
        with_image(picture, tmp_path / "pictures")
    read = read_annotations(tmp_path / "coco.json", on_problem="refuse")
    dataset = InstanceDataset(read, PictureStore([tmp_path / "pictures"]), on_problem="refuse")
    for index, record in enumerate(dataset.pictures):
        label_map = three_pictures[record.file_name].label_map
        np.testing.assert_array_equal(dataset.label_map(index) > 0, label_map > 0)


def test_opencv_reads_the_pngs(three_pictures, tmp_path):
    picture = three_pictures[0]
    export(picture, tmp_path / "l.png")
    with_palette = read_png(tmp_path / "l.png")
    assert with_palette.shape[:2] == (picture.height, picture.width)
    deep = picture_of(picture.label_map * 100, 600)
    export(deep, tmp_path / "deep.png")
    read = read_png(tmp_path / "deep.png")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, deep.label_map)
    for path in export(picture, tmp_path / "masks", "mask-png"):
        mask = read_png(path)
        assert set(np.unique(mask)) <= {0, 255}
        np.testing.assert_array_equal(mask > 0, picture.mask(int(path.name[:4])))
    export(picture, tmp_path / "panoptic.json", "coco-panoptic")
    (png,) = (tmp_path / "panoptic").iterdir()
    blue, green, red = np.moveaxis(read_png(png).astype(int), 2, 0)
    np.testing.assert_array_equal(red + 256 * green + 65536 * blue, picture.label_map)


def test_voc_files_and_their_palette(three_pictures, tmp_path):
    from PIL import Image

    export(three_pictures, tmp_path, "voc")
    lines = (tmp_path / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["background", *CLASSES]
    for picture in three_pictures:
        stem = picture.name[:-4]
        with Image.open(tmp_path / "SegmentationClass" / f"{stem}.png") as png:
            assert png.mode == "P"
            assert png.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
            kinds = np.asarray(png)
        for instance in picture.instances:
            values = np.unique(kinds[picture.label_map == instance.id])
            assert [lines[v] for v in values] in ([], [instance.class_name])


def test_supervision_reads_coco_and_yolo(three_pictures, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        supervision = pytest.importorskip("supervision")
    for picture in three_pictures:
        with_image(picture, tmp_path / "pictures")
    export(three_pictures, tmp_path / "coco.json")
    export(three_pictures, tmp_path / "yolo", "yolo-seg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coco = supervision.DetectionDataset.from_coco(
            str(tmp_path / "pictures"), str(tmp_path / "coco.json"), force_masks=True
        )
        yolo = supervision.DetectionDataset.from_yolo(
            str(tmp_path / "pictures"),
            str(tmp_path / "yolo" / "labels"),
            str(tmp_path / "yolo" / "data.yaml"),
            force_masks=True,
        )
    assert yolo.classes == list(CLASSES)
    for dataset in (coco, yolo):
        for path, detections in dataset.annotations.items():
            picture = three_pictures[path.rsplit("/", 1)[-1]]
            cutouts = list(picture.cutouts())
            assert len(detections) == len(cutouts)
            for cutout, mask, kind in zip(
                cutouts, detections.mask, detections.class_id, strict=True
            ):
                full = cutout.full(picture.height, picture.width)
                assert dataset.classes[kind] == cutout.instance.class_name
                # In YOLO files lines of one pixel between separate parts are added; nothing else.
                if dataset is coco or len(centre_parts(cutout.mask)) == 1:
                    np.testing.assert_array_equal(mask, full)
                else:
                    assert not (full & ~mask).any()


def test_datumaro_reads_coco(three_pictures, tmp_path):
    """Datumaro wants older pandas and OpenCV than ours: skipped where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datumaro = pytest.importorskip("datumaro", exc_type=ImportError)
        for picture in three_pictures:
            with_image(picture, tmp_path / "images" / "default")
        export(three_pictures, tmp_path / "annotations" / "instances_default.json")
        dataset = datumaro.Dataset.import_from(str(tmp_path), "coco_instances")
        labels = dataset.categories()[datumaro.AnnotationType.label]
        assert [label.name for label in labels] == list(CLASSES)
        assert len(dataset) == len(three_pictures)
        for item in dataset:
            picture = three_pictures[f"{item.id}.png"]
            masks = [a for a in item.annotations if a.type == datumaro.AnnotationType.mask]
            found = {(labels[m.label].name, m.image.astype(bool).tobytes()) for m in masks}
            expected = {
                (c.instance.class_name, c.full(picture.height, picture.width).tobytes())
                for c in picture.cutouts()
            }
            assert found == expected


def test_geojson_is_valid_and_turns_the_right_way(three_pictures, tmp_path):
    shapely = pytest.importorskip("shapely")
    picture = three_pictures[1]
    for transform in (None, (2.0, 0.0, 10.0, 0.0, -2.0, 90.0)):
        export(picture, tmp_path / "a.geojson", overwrite=True, transform=transform)
        content = json.loads((tmp_path / "a.geojson").read_text())
        for feature in content["features"]:
            if feature["geometry"] is None:
                continue
            shape = shapely.from_geojson(json.dumps(feature["geometry"]))
            assert shape.is_valid
            area = picture.mask(feature["id"]).sum() * (1 if transform is None else 4)
            assert shape.area == area
            for polygon in getattr(shape, "geoms", [shape]):
                assert polygon.exterior.is_ccw
                assert not any(ring.is_ccw for ring in polygon.interiors)


def test_npz_needs_no_pickle(three_pictures, tmp_path):
    picture = three_pictures[0]
    export(picture, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        np.testing.assert_array_equal(content["label_map"], picture.label_map)
        assert content["ids"].tolist() == list(picture.ids)
        assert content["class_names"].tolist() == [i.class_name for i in picture.instances]


def test_labelme_polygons_as_labelme_fills_them(three_pictures, tmp_path):
    """LabelMe fills polygons with Pillow, border included, and joins shapes of a group."""
    from PIL import Image, ImageDraw

    picture = three_pictures[0]
    export(picture, tmp_path / "a.json", "labelme", polygons=True)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["imagePath"] == picture.name
    assert content["imageData"] is None
    filled = np.zeros((picture.height, picture.width), bool)
    for shape in content["shapes"]:
        if shape["shape_type"] == "polygon":
            canvas = Image.new("1", (picture.width, picture.height))
            points = [tuple(point) for point in shape["points"]]
            ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
            filled |= np.asarray(canvas)
            assert not (np.asarray(canvas) & (picture.label_map != shape["group_id"])).any()
    assert filled.any()


def test_label_studio_brush_data_by_the_book():
    """Decoded bit by bit as the format is described, independent of our reader."""
    from dynamite_widget.export.label_studio import encode_brush

    mask = random_labels(5, 37, 53, 3, "boxes") > 0
    bits = iter("".join(f"{byte:08b}" for byte in encode_brush(mask)))

    def take(count):
        return int("".join(next(bits) for _ in range(count)), 2)

    total = take(32)
    assert total == mask.size * 4
    assert take(5) + 1 == 8
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        assert take(1) == 1
        length = take(sizes[take(2)]) + 1
        values += [take(8)] * length
    rgba = np.asarray(values).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(rgba[:, :, 3] > 0, mask)


def test_cvat_masks_by_the_book(three_pictures, tmp_path):
    export(three_pictures, tmp_path / "a.xml")
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [e.text for e in root.findall("meta/task/labels/label/name")] == list(CLASSES)
    for image in root.findall("image"):
        picture = three_pictures[image.attrib["name"]]
        assert image.get("width") == str(picture.width)
        for mask in image.findall("mask"):
            counts = [int(v) for v in mask.attrib["rle"].split(",")]
            pixels: list[bool] = []
            for k, count in enumerate(counts):
                pixels += [k % 2 == 1] * count
            crop = np.asarray(pixels).reshape(int(mask.attrib["height"]), int(mask.attrib["width"]))
            expected = picture.mask(int(mask.attrib["group_id"]))
            top, left = int(mask.attrib["top"]), int(mask.attrib["left"])
            np.testing.assert_array_equal(
                expected[top : top + crop.shape[0], left : left + crop.shape[1]], crop
            )
            assert expected.sum() == crop.sum()
