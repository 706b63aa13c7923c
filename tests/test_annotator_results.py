"""What comes out: merged COCO, exports, statistics, agreement, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotator_sets import HEIGHT, WIDTH, annotate, make_pictures

from dynamite_widget.annotator import agreement, statistics
from dynamite_widget.errors import DataError
from dynamite_widget.export import AnnotatedPicture, AnnotationSet


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def images(content: Any) -> list[str]:
    return [image["file_name"] for image in content["images"]]


def test_merging_follows_every_change(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        item = annotator.open("b.png")
        item.click(2, 2, "new", "cat")
        item.click(25, 2, "new", "dog")
        item.wait()
        annotator.mark("c.png", status="done")  # nothing on it, and that is a result
        annotator.open("c.png").done()
        path = annotator.merge()
        content = load(path)
        assert images(content) == ["b.png", "c.png"]
        assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
        ids = {r["dynamite"]["instance"]: r["id"] for r in content["annotations"]}
        assert len(ids) == 2
        assert annotator.store.unmerged == ()
        # One instance goes, one picture comes; ids stay.
        annotator.open("b.png").remove_instance(1)
        annotator.current.wait()
        annotator.open("a.png").click(3, 3)
        annotator.current.wait()
        content = load(annotator.merge())
        assert images(content) == ["b.png", "c.png", "a.png"]
        assert [r["id"] for r in content["annotations"] if r["image_id"] == 1] == [ids[2]]
        annotator.mark("b.png", status="skipped")
    assert images(load(path)) == ["c.png", "a.png"]  # closing merges, too


def test_masks_that_were_not_there_yet_are_computed(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        item = annotator.open("a.png")
        item.wait()
        item.click(2, 2)
        item.wait()
        annotator.flush()
        path = annotator.store.session_path("a.png")
        annotator.open("b.png")
        annotator.flush()
        fields = json.loads(path.read_text())
        del fields["masks"]
        path.write_text(json.dumps(fields))
        assert len(annotator.annotations(predict=False)) == 0
        (picture,) = annotator.annotations()
        assert picture.label_map.all()


def test_damaged_merged_file_is_kept_aside(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        annotator.open("a.png").click(2, 2)
        annotator.current.wait()
        path = annotator.merge()
        path.write_text("{")
        assert images(load(annotator.merge())) == ["a.png"]
        assert path.with_suffix(".json.unusable").read_text() == "{"


def test_refining_a_coco_file_keeps_what_is_not_touched(tmp_path: Path) -> None:
    make_pictures(tmp_path / "pictures", "a.png b.png")
    square = [2, 2, 8, 2, 8, 8, 2, 8]
    source = tmp_path / "old.json"
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH, "licence": 3},
            {"id": 9, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": [
            {"id": 30, "image_id": 7, "category_id": 5, "segmentation": [square], "iscrowd": 0},
            {"id": 31, "image_id": 7, "category_id": 5, "keypoints": [1, 2, 2]},
            {"id": 32, "image_id": 9, "category_id": 5, "segmentation": [square], "area": 36},
        ],
        "categories": [{"id": 5, "name": "box", "supercategory": "shape"}],
    }
    source.write_text(json.dumps(content))
    with annotate(tmp_path, source=source, images=tmp_path / "pictures", classes=None) as annotator:
        assert annotator.classes == ("box",)
        item = annotator.current
        assert [i.class_name for i in item.controller.state.instances] == ["box"]
        assert item.session.state.instances[0].fixed_mask is not None
        item.click(20, 10, "new", "ring")
        item.wait()
        item.done()
        path = annotator.merge()
    merged = load(path)
    by_id = {r["id"]: r for r in merged["annotations"]}
    assert by_id[32] == content["annotations"][2]  # type: ignore[index]
    assert by_id[31]["keypoints"] == [1, 2, 2]
    assert by_id[30]["image_id"] == 7
    assert len(by_id) == 4
    assert {c["name"]: c["id"] for c in merged["categories"]} == {"box": 5, "ring": 6}
    assert merged["images"][0]["licence"] == 3


def test_export_in_other_formats(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        annotator.open("a.png").click(2, 2)
        annotator.current.wait()
        annotator.current.done()
        annotator.open("b.png").click(2, 2)
        annotator.current.wait()
        assert len(annotator.export(tmp_path / "labels", "label-png", only="done")) == 1
        assert len(annotator.export(tmp_path / "voc", "voc", copy_images=True)) > 2
        with pytest.raises(ValueError, match="only is one of"):
            annotator.annotations("odd")


def test_statistics_per_instance_class_and_time(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        for item in annotator:
            item.click(2, 2, "new", "cat")
            item.click(9, 9)
            if item.name == "b.png":
                item.click(20, 2, "new", "dog")
                item.undo()
                item.click(21, 2, "new", "dog")
            item.wait()
            item.done()
        found = annotator.statistics()
        found.to_csv(tmp_path / "rows.csv")
    assert len(found.instances) == 5
    assert [(c.class_name, c.instances, c.clicks) for c in found.classes] == [
        *(("cat", 4, 2.0), ("dog", 1, 1.0))
    ]
    assert found.summary["clicks per instance"] == 1.8
    assert all(row.seconds >= 0 and row.edits >= row.clicks for row in found.instances)
    times = [row.at for row in found.pictures]
    assert times == sorted(times)
    assert (tmp_path / "rows.csv").read_text().count("\n") == 6
    assert statistics(tmp_path / "out").instances == found.instances
    with pytest.raises(DataError):
        statistics(tmp_path / "nowhere")


def picture(name: str, class_names: dict[int, str], *boxes: tuple[int, int, int, int]) -> Any:
    labels = np.zeros((20, 30), np.int32)
    for number, (x0, y0, x1, y1) in enumerate(boxes, 1):
        labels[y0:y1, x0:x1] = number
    return AnnotatedPicture.from_label_map(labels, class_names, name)


def test_agreement_matches_each_instance_once() -> None:
    first = AnnotationSet(
        [
            picture(
                "a", {1: "cat", 2: "dog", 3: "cat"}, (0, 0, 8, 8), (10, 0, 18, 8), (20, 0, 24, 4)
            ),
            picture("only", {}),
        ]
    )
    second = AnnotationSet(
        [picture("a", {1: "dog", 2: "dog"}, (0, 0, 8, 7), (10, 0, 18, 5)), picture("new", {})]
    )
    found = agreement(first, second)
    assert [(m.first, m.second, round(m.iou, 3)) for m in found.matches] == [
        *((1, 1, 0.875), (2, 2, 0.625))
    ]
    assert [(c.kind, c.first, c.second) for c in found.conflicts] == [
        *(("only first", 3, None), ("class", 1, 1), ("outline", 2, 2))
    ]
    assert found.summary["F1"] == pytest.approx(2 * 2 / 5)
    assert found.summary["same class"] == 0.5
    assert (found.only_first, found.only_second) == (("only",), ("new",))
    strict = agreement(first, second, threshold=0.9)
    assert strict.summary["matched"] == 0
    assert len(strict.conflicts) == 5
    with pytest.raises(ValueError, match="threshold"):
        agreement(first, second, threshold=0)
    with pytest.raises(DataError):
        agreement(first, 5)


def test_pictures_of_other_size_are_a_conflict() -> None:
    other = AnnotatedPicture.from_label_map(np.ones((5, 5), np.int32), "cat", "a")
    found = agreement(AnnotationSet([picture("a", {1: "x"}, (0, 0, 2, 2))]), AnnotationSet([other]))
    assert [c.kind for c in found.conflicts] == ["size"]
    assert "30 x 20 and 5 x 5" in found.conflicts[0].detail


def test_report_is_one_page_in_which_text_is_text(tmp_path: Path) -> None:
    with annotate(tmp_path, names="a.png b.png c.png <i>x.png") as annotator:
        for item in annotator:
            item.click(2, 2, "new", "<b>cat</b>")
            item.wait()
            item.flag("<script>alert(1)</script>")
            item.done()
        path = annotator.report(compare=annotator.annotations())
    text = path.read_text()
    assert text.count("<img alt=") == 2
    assert 'src="data:image/png;base64,' in text
    assert "http" not in text
    assert "<b>cat" not in text
    assert "<script" not in text
    assert "<i>x" not in text
    assert "&lt;b&gt;cat&lt;/b&gt;" in text
    assert "No conflicts" in text


def test_report_of_nothing(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        path = annotator.report(tmp_path / "r.html")
    assert "0 of 4 done" in path.read_text()
