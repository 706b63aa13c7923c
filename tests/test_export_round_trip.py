"""Every format, there and back: equal for the lossless ones, a stated bound for the others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from export_strategies import picture_of, pictures, random_labels, with_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamite_widget.export import FORMATS, AnnotatedPicture, AnnotationSet, export
from dynamite_widget.export.polygons import (
    centre_parts,
    edge_parts,
    fill_centres,
    fill_edges,
    iou,
    one_ring,
)
from dynamite_widget.importing import read_annotations

KEEPS_EMPTY = {"coco", "voc", "label-png", "mask-png", "npz", "geojson"}
LOSSLESS = [name for name, entry in FORMATS.items() if entry.reader and name != "yolo-seg"]
quick = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def there_and_back(picture: AnnotatedPicture, name: str, **options) -> AnnotatedPicture | None:
    with tempfile.TemporaryDirectory(prefix="dynamite ü ") as folder:
        target = Path(folder) / "a b" / f"out{'' if name == 'yolo-seg' else FORMATS[name].suffix}"
        images = with_image(picture, Path(folder) / "pictures") if name == "yolo-seg" else None
        export(picture, target, name, **options)
        annotations = read_annotations(target, name, images)
        return annotations[0] if len(annotations) else None


def check_equal(picture: AnnotatedPicture, again: AnnotatedPicture | None, name: str) -> None:
    if again is None:
        # Files of some formats know the size of a picture only from its regions.
        assert not picture.label_map.any()
        return
    np.testing.assert_array_equal(again.label_map, picture.label_map)
    assert again.name == picture.name
    expected = {i.id: i.class_name for i in picture.instances}
    if name not in KEEPS_EMPTY:
        present = set(np.unique(picture.label_map).tolist())
        expected = {i: class_name for i, class_name in expected.items() if i in present}
    assert {i.id: i.class_name for i in again.instances} == expected


@pytest.mark.parametrize("name", LOSSLESS)
@quick
@given(picture=pictures)
def test_masks_and_classes_come_back(name, picture):
    if name == "mask-png" and not picture.instances:
        return  # nothing is written
    check_equal(picture, there_and_back(picture, name), name)


@pytest.mark.parametrize("name", ["coco", "labelme", "label-studio", "cvat"])
@quick
@given(picture=pictures)
def test_polygons_without_tolerance_are_exact(name, picture):
    check_equal(picture, there_and_back(picture, name, polygons=True), name)


@quick
@given(picture=pictures)
def test_yolo_keeps_every_pixel_and_adds_bridges_only(picture):
    again = there_and_back(picture, "yolo-seg")
    assert again is not None
    cutouts = list(picture.cutouts())
    assert sorted(i.class_name for i in again.instances) == sorted(
        c.instance.class_name for c in cutouts
    )
    found = [again.mask(i.id) for i in again.instances]
    assert len(found) == len(cutouts)
    for cutout in cutouts:
        mask = cutout.full(picture.height, picture.width)
        best = max(found, key=lambda other: iou(other, mask))
        assert not (mask & ~best).any()
        if len(centre_parts(cutout.mask)) == 1:
            np.testing.assert_array_equal(best, mask)


@pytest.mark.parametrize("name", ["coco", "geojson", "label-studio", "cvat"])
@quick
@given(seed=st.integers(0, 10**6), tolerance=st.floats(0.5, 8))
def test_simplified_polygons_agree(name, seed, tolerance):
    picture = picture_of(random_labels(seed, 30, 40, 4, "boxes"), 4)
    again = there_and_back(picture, name, polygons=True, tolerance=tolerance)
    for cutout in picture.cutouts():
        mask = cutout.full(picture.height, picture.width)
        assert again is not None
        # The stated bound is 0.9 per instance; a neighbour on top may take a few pixels more.
        assert iou(again.mask(cutout.instance.id), mask) >= 0.9


@pytest.mark.parametrize("name", [n for n in FORMATS if FORMATS[n].reader])
def test_three_hundred_instances(name):
    labels = np.zeros((90, 160), np.int32)
    for k in range(300):
        y, x = divmod(k, 25)
        labels[7 * y : 7 * y + 6, 6 * x : 6 * x + 5] = k + 1
    picture = picture_of(labels, 300)
    again = there_and_back(picture, name)
    assert again is not None
    if name == "yolo-seg":
        assert len(again.instances) == 300
        np.testing.assert_array_equal(again.label_map > 0, labels > 0)
    else:
        check_equal(picture, again, name)


@quick
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    density=st.floats(0.05, 0.95),
)
def test_polygons_fill_to_the_same_mask(seed, height, width, density):
    shapely = pytest.importorskip("shapely")
    mask = np.random.default_rng(seed).random((height, width)) < density
    parts = edge_parts(mask)
    np.testing.assert_array_equal(fill_edges(parts, height, width), mask)
    polygons = [shapely.Polygon(part.outer, part.holes) for part in parts]
    assert all(polygon.is_valid for polygon in polygons)
    assert sum(polygon.area for polygon in polygons) == mask.sum()
    filled = np.zeros_like(mask)
    for part in centre_parts(mask):
        rings = [part.outer, *part.holes]
        alone = fill_centres(rings, height, width)
        np.testing.assert_array_equal(fill_centres([one_ring(rings)], height, width), alone)
        filled |= alone
    np.testing.assert_array_equal(filled, mask)


@quick
@given(picture=pictures)
def test_geojson_through_an_affine_transform(picture):
    transform = (0.5, 0.1, 400_000.0, -0.2, -0.5, 5_000_000.0)
    again = there_and_back(picture, "geojson", transform=transform)
    check_equal(picture, again, "geojson")


def test_overlapping_masks_stay_whole_through_a_session():
    from dynamite_widget.export import AnnotatedInstance
    from dynamite_widget.rle import RLE

    big, small = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    big[2:18, 2:25], small[5:9, 5:9] = True, True
    picture = AnnotatedPicture.from_masks(
        [AnnotatedInstance(1, "cat"), AnnotatedInstance(2, "mug")],
        {1: RLE.from_mask(small), 2: RLE.from_mask(big)},
        20,
        30,
        "a.png",
    )
    session = picture.to_session()
    again = AnnotatedPicture.from_session(session)
    assert again.label_map[6, 6] == 1
    np.testing.assert_array_equal(again.mask(2), big)
    coco = there_and_back(again, "coco")
    assert coco is not None
    np.testing.assert_array_equal(coco.mask(2), big)
    # Painting gives pixels to somebody else: these are gone from the whole mask, too.
    session.paint(1, "add", 2, [(15, 10)])
    painted = AnnotatedPicture.from_session(session)
    assert not painted.mask(2)[10, 15]
    assert painted.mask(2)[6, 6]


def test_sets_of_several_pictures(tmp_path):
    several = [
        picture_of(random_labels(k, 12 + k, 17, 4, "boxes"), 4, f"{k}.png") for k in range(3)
    ]
    annotations = AnnotationSet(several)
    for name in LOSSLESS:
        suffix = "" if FORMATS[name].per_picture else FORMATS[name].suffix
        target = tmp_path / f"{name}{suffix}"
        export(annotations, target, name)
        again = read_annotations(target, None if name != "mask-png" else name)
        assert sorted(p.name for p in again) == ["0.png", "1.png", "2.png"]
        for picture in annotations:
            check_equal(picture, again[picture.name], name)
