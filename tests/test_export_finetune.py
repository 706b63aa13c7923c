"""A real user's path: annotate in the widget, export COCO, open and draw it, fine-tune, use it."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from kernel_fakes import FakePredictor
from PIL import Image

from dynamite_widget import Click, Predictor, cli, load_model
from dynamite_widget.errors import DataError
from dynamite_widget.export import export
from dynamite_widget.export.annotation_set import AnnotationSet
from dynamite_widget.model.weights_file import read_checkpoint

SIZE = (96, 128)
DISCS = ((30, 32, 20), (60, 92, 24))  # row, column, radius


def _picture(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    pixels = rng.integers(60, 100, (height, width, 3)).astype(np.uint8)
    for number, (row, column, radius) in enumerate(DISCS):
        disc = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        pixels[disc] = rng.integers(120 + 60 * number, 200 + 50 * number, 3)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures with two instances each, clicked in the widget, as ``coco.json``."""
    widget_module = pytest.importorskip(
        "dynamite_widget.widget", reason="the front end is not built", exc_type=ImportError
    )
    folder = tmp_path_factory.mktemp("pictures")
    pictures = []
    for number in range(3):
        path = folder / f"scheibe {number}.png"
        _picture(path, number)
        widget = widget_module.DynaMITeWidget(
            path, classes=["disc", "coin"], predictor=FakePredictor()
        )
        for index, (row, column, _) in enumerate(DISCS):
            widget.click(column, row, instance="new", class_name=("disc", "coin")[index])
        widget.click_background(4, 90)
        widget.click_background(124, 4)
        pictures.append(widget.annotations)
        assert widget.plot().axes
        widget.close()
    export(AnnotationSet(pictures), folder / "coco.json")
    return folder


def test_the_export_opens_and_draws_in_pycocotools(annotated: Path) -> None:
    from matplotlib.figure import Figure
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotated / "coco.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["disc", "coin"]
    for entry in coco.loadImgs(coco.getImgIds()):
        with Image.open(annotated / entry["file_name"]) as picture:
            shown = np.asarray(picture)
        axes = Figure().add_subplot()
        axes.imshow(shown)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]]))
        for annotation, (row, column, _) in zip(annotations, DISCS, strict=True):
            with warnings.catch_warnings():  # pycocotools with numpy 2
                warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
                mask = coco.annToMask(annotation)
            assert mask.shape == shown.shape[:2] == SIZE
            assert mask[row, column] == 1
            axes.imshow(np.ma.masked_equal(mask, 0), alpha=0.5)
        assert len(axes.images) == 3


@pytest.mark.slow
def test_fine_tuning_on_the_export_gives_weights_that_predict(
    annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)  # the run goes to runs/lite-finetuned
    arguments = ["train", "--finetune", str(annotated / "coco.json"), "--keep-malloc"]
    arguments += ["--samples", "4", "--batch-size", "2", "--workers", "0", "--threads", "1"]
    arguments += ["--set", "crops=[[0, 96]]", "--set", "precision=no"]
    assert cli.main(arguments) == 0
    weights = Path("runs", "lite-finetuned", "last.safetensors")
    tuned = read_checkpoint(weights)
    assert tuned.config is not None
    assert tuned.config.name == "lite"
    start = load_model().state_dict()
    changed = {k.split(".")[0] for k, v in tuned.state.items() if not v.equal(start[k])}
    assert changed == {"transformer"}
    predictor = Predictor(load_model(checkpoint=weights))
    embedding = predictor.embed(annotated / "scheibe 0.png")
    row, column, _ = DISCS[0]
    segmentation = predictor.predict(embedding, [Click(x=column, y=row, instance=1)])
    assert segmentation.label_map.shape == SIZE
    assert segmentation.label_map[row, column] == 1


@pytest.mark.parametrize(
    ("more", "warmup"), [([], 200), (["--samples", "40"], 4), (["--samples", "9000"], 200)]
)
def test_short_runs_warm_up_shortly(more: list[str], warmup: int) -> None:
    from dynamite_widget.training.cli import _recipe

    arguments = ["train", "--finetune", "coco.json", *more]
    recipe = _recipe(cli.build_parser("train").parse_args(arguments))
    assert recipe.optimiser.warmup_samples == warmup


def test_pictures_elsewhere_are_asked_for(
    annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("accelerate")
    moved = tmp_path / "coco.json"
    moved.write_bytes((annotated / "coco.json").read_bytes())
    assert cli.main(["train", "--finetune", str(moved), "--keep-malloc"]) == 2
    assert "--images" in capsys.readouterr().err


def test_a_missing_annotation_file_is_named(tmp_path: Path) -> None:
    from dynamite_widget.training.data import read_annotations

    with pytest.raises(DataError, match=r"nowhere\.json"):
        read_annotations(tmp_path / "nowhere.json")
