"""Results of a picture that is being annotated: saved masks, export, tables, plots, refine, CLI."""

from __future__ import annotations

import importlib.util
import json
import warnings

import numpy as np
import pytest
from kernel_fakes import FakePredictor, nearest_click
from PIL import Image

from dynamite_widget import cli
from dynamite_widget.controller import AnnotationController
from dynamite_widget.errors import DynaMITeError, ExportError, SessionError
from dynamite_widget.export import AnnotatedPicture, AnnotationSet
from dynamite_widget.importing import refine
from dynamite_widget.results import ResultsAPI
from dynamite_widget.segmentation import Segmentation
from dynamite_widget.session import ClickSession


class Headless(ResultsAPI):
    """What the widget inherits, without a widget."""

    def __init__(self, image, predictor=None, **options):
        self._controller = AnnotationController(
            image, predictor=predictor or FakePredictor(), **options
        )

    @property
    def controller(self):
        return self._controller


def keeps_masks(session: ClickSession) -> bool:
    return session.saved_masks is not None


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 36, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a b.png")
    return tmp_path / "a b.png"


@pytest.fixture
def widget(image):
    made = Headless(image, classes=["cat", "mug"])
    made.click(5, 5)
    made.click(20, 12, "new", class_name="mug")
    made.click_background(33, 20)
    yield made
    made.controller.close()


def test_saved_sessions_carry_their_masks(widget, tmp_path):
    widget.save(tmp_path / "s.json")
    session = ClickSession.load(tmp_path / "s.json")
    assert session.saved_masks is not None
    np.testing.assert_array_equal(session.saved_masks.label_map, widget.label_map)
    picture = AnnotatedPicture.from_session(session)
    np.testing.assert_array_equal(picture.label_map, widget.label_map)
    assert picture.checkpoint_hash == "fake"
    assert picture == AnnotatedPicture.from_session(session.copy())
    session.set_class(1, "dog")  # does not concern masks
    assert session.saved_masks is not None
    session.click(30, 3, 1)
    assert not keeps_masks(session)
    session.undo()
    assert keeps_masks(session)
    widget.save(tmp_path / "small.json", masks=False)
    assert "masks" not in json.loads((tmp_path / "small.json").read_text())
    with pytest.raises(ExportError, match="save it again"):
        AnnotationSet.from_sessions([tmp_path / "small.json"])


def test_clicks_are_saved_when_the_network_fails(image, tmp_path, caplog):
    predictor = FakePredictor()
    widget = Headless(image, predictor)
    widget.wait()
    predictor.failures = [RuntimeError("broken")]
    widget.click(3, 3)
    widget.save(tmp_path / "s.json")
    assert "without masks" in caplog.text
    assert len(ClickSession.load(tmp_path / "s.json").clicks) == 1
    widget.controller.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "reads up to"),
        ({"size": [1, 1]}, "of size"),
        ({"lengths": [3]}, "runs of"),
        ({"lengths": "x"}, "no list"),
        ({"ids": [1.5]}, "no list"),
        ({"scores": {}}, "score for each"),
        ({"scores": {"1": 2, "2": 0}}, r"0\.\.1"),
    ],
)
def test_damaged_masks_are_refused(widget, change, message):
    session = widget.session
    session.keep_masks(widget.segmentation)
    content = session.to_dict()
    content["masks"] = {**content["masks"], **change}
    with pytest.raises(SessionError, match=message):
        ClickSession.from_dict(content)
    with pytest.raises(SessionError, match="do not fit"):
        session.keep_masks(Segmentation.empty(3, 3))
    with pytest.raises(SessionError, match="are of instances"):
        session.keep_masks(Segmentation.empty(24, 36, [7]))


def test_export_from_the_widget(widget, image, tmp_path):
    (written,) = widget.export(tmp_path / "out.json")
    content = json.loads(written.read_text())
    assert content == widget.to_coco()
    assert content["images"][0]["file_name"] == "a b.png"
    assert [len(a["dynamite"]["clicks"]) for a in content["annotations"]] == [1, 1]
    widget.click(7, 18, 1)
    widget.export(tmp_path / "out.json", merge=True)
    assert json.loads(written.read_text()) == widget.to_coco()
    assert len(widget.export(tmp_path / "crops", "cutouts")) == 2
    widget.export(tmp_path / "yolo", "yolo-seg", copy_images=True)
    assert (tmp_path / "yolo" / "images" / "a b.png").read_bytes() == image.read_bytes()


def test_tables(widget):
    pytest.importorskip("pandas")
    frame = widget.to_dataframe()
    assert frame["class_name"].tolist() == ["cat", "mug"]
    assert frame["area"].tolist() == widget.segmentation.areas.tolist()
    assert frame["clicks"].tolist() == [1, 1]
    assert list(frame.columns) == [
        "picture", "id", "class_name", "area", "bbox", "score", "clicks", "seconds", "edits"
    ]  # fmt: skip


def test_supervision(widget):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("supervision")
        detections = widget.to_supervision()
    np.testing.assert_array_equal(detections.mask, widget.masks)
    assert detections.data["class_name"].tolist() == ["cat", "mug"]
    assert detections.area.tolist() == widget.segmentation.areas.tolist()


def test_missing_optional_packages_are_named(widget, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExportError, match="pip install pandas"):
        widget.to_dataframe()


def test_plots(widget):
    assert widget.plot().axes
    assert len(widget.plot_instances().axes) == 2
    with pytest.raises(ValueError, match="columns"):
        widget.plot_instances(columns=0)
    assert widget.annotations._repr_png_()[:4] == b"\x89PNG"


def test_import_masks(widget, tmp_path):
    mask = np.zeros((24, 36), bool)
    mask[10:20, 25:30] = True
    (first,) = widget.import_masks(mask, "dog")
    np.testing.assert_array_equal(widget.mask_of(first), mask)
    assert widget.annotations.instances[-1].class_name == "dog"
    widget.undo()
    labels = np.zeros((24, 36), np.int32)
    labels[:3], labels[5:7] = 4, 9
    ids = widget.import_masks(labels, {4: "a", 9: "b"})
    assert [widget.mask_of(i).sum() for i in ids] == [108, 72]
    assert len(widget.import_masks(np.stack([mask, ~mask]), ["a", "b"])) == 2
    AnnotationSet(
        [
            AnnotatedPicture.from_label_map(labels, "sky", "a b.png"),
            AnnotatedPicture.from_label_map(labels * 2, "sea", "other.png"),
        ]
    ).export(tmp_path / "c.json")
    widget.reset()
    ids = widget.import_masks(tmp_path / "c.json")
    np.testing.assert_array_equal(widget.label_map > 0, labels > 0)
    assert {i.class_name for i in widget.annotations.instances} == {"sky"}
    for wrong in (np.zeros((2, 2), bool), np.zeros(3), np.zeros((24, 36, 3, 3))):
        with pytest.raises((ExportError, SessionError)):
            widget.import_masks(wrong)
    with pytest.raises(ExportError, match="2 class names for 1 masks"):
        widget.import_masks(mask, ["a", "b"])


def halves():
    labels = np.zeros((24, 36), np.int32)
    labels[2:20, 2:14], labels[4:22, 18:34] = 1, 2
    return labels


def test_refine_takes_over_what_the_network_can(image):
    widget = Headless(image)
    widget.import_masks(halves(), ["cat", "mug"])
    report = widget.refine(target_iou=0.6, max_clicks=12)
    assert [r.instance for r in report] == [1, 2]
    for entry in report:
        assert entry.taken_over == (entry.clicks > 0)
        mask, truth = widget.mask_of(entry.instance), halves() == entry.instance
        union = (mask | truth).sum()
        assert (mask & truth).sum() / union == pytest.approx(entry.iou, abs=1e-3)
    assert any(r.taken_over for r in report)
    assert len(widget.session.clicks) >= 2
    while widget.undo():
        pass
    assert widget.session.clicks == ()
    widget.controller.close()


def test_refine_keeps_what_the_network_cannot(image):
    widget = Headless(image)
    widget.import_masks(halves())
    report = widget.refine(target_iou=1.0, max_clicks=2)
    assert not any(r.taken_over for r in report)
    assert widget.session.clicks == ()
    np.testing.assert_array_equal(widget.label_map, halves())
    assert [r.iou for r in report] == [1.0, 1.0]
    assert all(0 < r.network_iou < 1 for r in report)
    widget.controller.close()


def test_refine_counts_predictions_and_leaves_others_alone():
    session = AnnotatedPicture.from_label_map(halves(), "x", "a.png").to_session()
    session.lock(2)
    calls = []

    def predict(clicks, instances):
        calls.append(len(clicks))
        labels = np.where(halves() == 1, 1, 0) if clicks else np.zeros((24, 36), int)
        return Segmentation.from_label_map(labels, instances)

    (report,) = refine(session, predict, target_iou=0.99)
    assert (report.instance, report.clicks, report.iou) == (1, 1, 1.0)
    assert len(calls) == 2  # the search, and the final check
    assert session.state.instance(2).locked
    assert session.clicks[0].instance == 1
    assert halves()[session.clicks[0].y, session.clicks[0].x] == 1
    with pytest.raises(SessionError, match="locked"):
        refine(session, predict, instances=[2])
    with pytest.raises(SessionError, match="no imported mask"):
        refine(session, predict, instances=[1])
    with pytest.raises(SessionError, match="target_iou"):
        refine(session, predict, target_iou=0)
    with pytest.raises(SessionError, match="max_clicks"):
        refine(session, predict, max_clicks=0)
    empty = ClickSession(5, 5)
    assert refine(empty, predict) == ()


def test_refine_reports_a_network_that_fails(image):
    predictor = FakePredictor()
    widget = Headless(image, predictor)
    widget.import_masks(halves())
    widget.wait()
    predictor.failures = [RuntimeError("broken")]
    with pytest.raises(DynaMITeError, match="broken"):
        widget.refine()
    widget.controller.close()


def test_three_pictures_from_clicks_to_coco(tmp_path, capsys):
    """The user's path: annotate, save, export on the command line, open with pycocotools."""
    for k in range(3):
        pixels = np.full((20, 30, 3), 60 * k, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        widget = Headless(tmp_path / f"{k}.png", classes=["cat"])
        widget.click(4 + k, 5)
        widget.click(20, 12, "new")
        (tmp_path / "sessions").mkdir(exist_ok=True)
        widget.save(tmp_path / "sessions" / f"{k}.json")
        widget.controller.close()
    out = tmp_path / "coco.json"
    assert cli.main(["export", str(tmp_path / "sessions"), "-o", str(out)]) == 0
    assert "3 pictures, 6 instances" in capsys.readouterr().out
    from pycocotools.coco import COCO

    coco = COCO(str(out))
    assert len(coco.getAnnIds()) == 6
    capsys.readouterr()
    arguments = ["export", str(tmp_path / "sessions"), "--format", "yolo-seg", "-o"]
    arguments += [str(tmp_path / "yolo"), "--images", str(tmp_path), "--copy-images"]
    assert cli.main(arguments) == 0
    assert len(list((tmp_path / "yolo" / "images").iterdir())) == 3
    assert cli.main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite"]) == 0
    # And back: sessions of the exported file, bound to their pictures.
    arguments = ["import", str(out), "-o", str(tmp_path / "back"), "--images", str(tmp_path)]
    assert cli.main(arguments) == 0
    for k in range(3):
        first = ClickSession.load(tmp_path / "sessions" / f"{k}.json")
        again = ClickSession.load(tmp_path / "back" / f"{k}.json")
        assert again.image_hash == first.image_hash
        before, after = (AnnotatedPicture.from_session(s) for s in (first, again))
        np.testing.assert_array_equal(after.label_map, before.label_map)
    assert cli.main([*arguments, "--refine"]) == 2  # the files exist


def test_the_command_line_predicts_and_refines(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dynamite_widget.network.make_predictor", lambda *a: FakePredictor())
    Image.new("RGB", (36, 24)).save(tmp_path / "a.png")
    session = ClickSession(24, 36, image_name="a.png")
    session.click(4, 4)
    session.click(30, 20, "new")
    session.save(tmp_path / "s.json")
    out = tmp_path / "l.png"
    assert cli.main(["export", str(tmp_path / "s.json"), "-o", str(out)]) == 2
    assert "--predict" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / "s.json"), "-o", str(out), "--predict"]) == 2
    assert "--images" in capsys.readouterr().err
    arguments = ["export", str(tmp_path / "s.json"), "-o", str(out), "--predict", "--images"]
    assert cli.main([*arguments, str(tmp_path)]) == 0
    with Image.open(out) as png:
        labels = np.asarray(png)
    np.testing.assert_array_equal(labels, nearest_click(24, 36, session.clicks).label_map)
    AnnotatedPicture.from_label_map(halves(), "x", "a.png")
    AnnotationSet([AnnotatedPicture.from_label_map(halves(), "x", "a.png")]).export(
        tmp_path / "c.json"
    )
    arguments = ["import", str(tmp_path / "c.json"), "-o", str(tmp_path / "back"), "--refine"]
    assert cli.main(arguments) == 2
    capsys.readouterr()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (36, 24)).save(pictures / "a.png")
    assert cli.main([*arguments, "--images", str(pictures), "--iou", "0.6"]) == 0
    assert "IoU" in capsys.readouterr().out
    assert ClickSession.load(tmp_path / "back" / "a.json").saved_masks is not None


@pytest.mark.skipif(importlib.util.find_spec("anywidget") is None, reason="needs anywidget")
def test_the_widget_has_it_all():
    widget = pytest.importorskip(
        "dynamite_widget.widget", reason="the front end is not built", exc_type=ImportError
    )
    assert issubclass(widget.DynaMITeWidget, ResultsAPI)
