"""The loop: exact resume, kill -9, two processes, time budget, bad steps, the command line."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_pictures import open_data, write_data

from dynamite_widget.errors import CheckpointError, DataError
from dynamite_widget.model.config import ModelConfig
from dynamite_widget.model.dynamite import build_model
from dynamite_widget.training import loop as loop_module
from dynamite_widget.training.augment import AugmentConfig
from dynamite_widget.training.batches import batches
from dynamite_widget.training.cli import main
from dynamite_widget.training.config import OptimiserConfig, TrainConfig
from dynamite_widget.training.log import read_rows
from dynamite_widget.training.loop import Trainer
from dynamite_widget.training.losses import segmentation_loss
from dynamite_widget.training.options import LoopOptions, rate_factor
from dynamite_widget.training.recipes import LITE_RECIPE, RECIPES, finetuning, get_recipe
from dynamite_widget.training.report import write_report
from dynamite_widget.training.state import MovingAverage, read_checkpoint
from dynamite_widget.training.validate import choose_examples

NETWORK = ModelConfig(
    "segformer-b0",
    "mit_b0",
    hidden_dim=32,
    heads=2,
    pixel_decoder="fpn",
    encoder_layers=3,
    encoder_ffn=32,
    decoder_layers=1,
    decoder_ffn=32,
    short_side=None,
    max_long_side=96,
)
RECIPE = replace(
    LITE_RECIPE,
    preset="segformer-b0",
    samples=16,
    batch_size=2,
    crops=((0.0, 64),),
    rounds=(1.0, 1.0),
    precision="no",
    source_weights=(),
    augment=AugmentConfig(min_area_px=10, min_visible_px=10),
    loss=replace(LITE_RECIPE.loss, points=64, boundary_points=32, click_points=16),
    optimiser=replace(LITE_RECIPE.optimiser, warmup_samples=4, frozen=()),
)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums come in the same order, and tiny layers are not held up by waiting threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def _train(data, output, config=RECIPE, examples=None, **options):
    torch.manual_seed(0)
    model = build_model(NETWORK)
    settings = LoopOptions(output, **{"workers": 0, "progress": False, "report_steps": 1} | options)
    trainer = Trainer(model, data, config, settings, examples)
    return trainer, trainer.run()


def _same(one, two):
    return all(torch.equal(one[key], two[key]) for key in one)


def test_resuming_gives_identical_weights(folder, tmp_path):
    data = open_data(folder)
    whole, _ = _train(data, tmp_path / "whole")
    _, first = _train(data, tmp_path / "parts", stop_after=3)
    assert not first["finished"]
    parts, second = _train(open_data(folder), tmp_path / "parts", resume=True)
    assert second["finished"]
    assert second["samples"] == 16
    assert _same(whole.model.state_dict(), parts.model.state_dict())
    assert _same(whole.weights(), parts.weights())
    rows = [read_rows(tmp_path / name / "log.csv") for name in ("whole", "parts")]
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]
    assert [int(r["step"]) for r in rows[1]] == list(range(1, 9))


def test_validation_pictures_and_report(folder, tmp_path):
    data = open_data(folder)
    examples = choose_examples(data, NETWORK, pictures=3)
    assert {e.source for e in examples} == {"even", "odd"}
    config = replace(RECIPE, samples=4)
    trainer, summary = _train(data, tmp_path, config, examples, validate_minutes=0.0)
    assert (tmp_path / "pictures" / "step_00000001.png").is_file()
    from dynamite_widget.model.weights_file import read_checkpoint as read_weights

    weights = read_weights(tmp_path / "last.safetensors")
    assert weights.config == NETWORK
    assert _same(trainer.weights(), weights.state)
    found = weights.metadata["validation"]
    assert set(found["iou_by_source"]) == {"even", "odd"}
    assert len(found["iou"]) == 5
    best = read_weights(tmp_path / "best.safetensors").metadata["validation"]["score"]
    assert best == summary["best"]
    content = json.loads(write_report(tmp_path, summary).read_text())
    assert content["finished"]
    assert content["last_validation"]["step"] == "2"
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_a_time_budget_ends_the_sitting(folder, tmp_path):
    _, summary = _train(open_data(folder), tmp_path, minutes=0.0)
    assert summary["step"] == 1
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 1


def test_steps_without_a_finite_loss_change_nothing(folder, tmp_path, monkeypatch, caplog):
    data = open_data(folder)
    calls: list[None] = []

    def spoiled(*args, **kwargs):
        calls.append(None)
        loss, terms = real(*args, **kwargs)
        return (loss * math.nan if len(calls) == 2 else loss), terms

    from dynamite_widget.training import step as step_module

    real = segmentation_loss
    monkeypatch.setattr(step_module, "segmentation_loss", spoiled)
    trainer, summary = _train(data, tmp_path, replace(RECIPE, samples=8))
    assert summary["skipped"] == 1
    assert "step 1 skipped" in caplog.text
    assert all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters())

    monkeypatch.setattr(loop_module, "_MAX_SKIPPED", 2)
    monkeypatch.setattr(
        step_module, "segmentation_loss", lambda *a, **k: (real(*a, **k)[0] * math.nan, {})
    )
    with pytest.raises(DataError, match="2 steps in a row"):
        _train(data, tmp_path / "bad", RECIPE)


def test_a_dead_worker_sends_the_run_back_to_its_checkpoint(folder, tmp_path, monkeypatch, caplog):
    data = open_data(folder)
    whole, _ = _train(data, tmp_path / "whole")
    fetched: list[int] = []

    def dying(*args, **kwargs):
        for batch in batches(*args, **kwargs):
            fetched.append(batch.numbers[0])
            if len(fetched) == 6:
                raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
            yield batch

    monkeypatch.setattr(loop_module, "batches", dying)
    other, summary = _train(data, tmp_path / "hurt", checkpoint_steps=2)
    assert fetched == [0, 2, 4, 6, 8, 10, 8, 10, 12, 14]
    assert "back to the last checkpoint" in caplog.text
    assert summary["finished"]
    assert _same(whole.model.state_dict(), other.model.state_dict())
    rows = read_rows(tmp_path / "hurt" / "log.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 9))


def test_frozen_parts_do_not_move(folder, tmp_path):
    config = replace(RECIPE, samples=4)
    config = replace(
        config,
        optimiser=replace(
            config.optimiser, frozen=finetuning(LITE_RECIPE).optimiser.frozen, ema_decay=0.0
        ),
    )
    torch.manual_seed(0)
    before = build_model(NETWORK).state_dict()
    trainer, _ = _train(open_data(folder), tmp_path, config)
    after = trainer.weights()
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"transformer"}
    frozen = replace(config, optimiser=replace(config.optimiser, frozen=(".*",)))
    with pytest.raises(ValueError, match="every parameter is frozen"):
        _train(open_data(folder), tmp_path, frozen)


def test_checkpoints_that_do_not_fit(folder, tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        _train(open_data(folder), tmp_path, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        _train(open_data(folder), tmp_path, resume=True)
    torch.save({"format": 99}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of a training run"):
        _train(open_data(folder), tmp_path, resume=True)


# ---- in processes of their own ------------------------------------------------------------------

SETTINGS = [
    "crops=[[0.0, 64]]",
    "batch_size=2",
    "source_weights=[]",
    "precision=no",
    "rounds=[1, 1]",
    "augment.min_area_px=10",
    "augment.min_visible_px=10",
    "augment.paste=0.5",
    "loss.points=128",
    "optimiser.ema_decay=0.9",
    "optimiser.learning_rate=0.001",
    "optimiser.clip_norm=1.0",
]
# Without stochastic depth and random identities, which are drawn per process.
SMALL = [
    "hidden_dim=32",
    "heads=2",
    "pixel_decoder_ffn=32",
    "encoder_layers=3",
    "encoder_ffn=32",
    "decoder_layers=1",
    "decoder_ffn=32",
    "identity_codes=0",
    "refine_width=8",
    "max_long_side=96",
]


def _command(folder: Path, output: Path, steps: int, *more: str) -> list[str]:
    texts = ["-m", "dynamite_widget.training", "--data", str(folder), "--output", str(output)]
    texts += ["--preset", "lite", "--no-pretrained", "--samples", str(2 * steps)]
    texts += ["--keep-malloc", "--threads", "1", "--report-steps", "1", "--val-pictures", "0"]
    texts += [part for setting in SETTINGS for part in ("--set", setting)]
    texts += [part for setting in SMALL for part in ("--set-model", setting)]
    return [*texts, *more]


ENVIRONMENT = {
    **os.environ,
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def _weights(output: Path):
    return read_checkpoint(output / "checkpoint.pt")["model"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_kill_and_resume(folder, tmp_path):
    steps = 12
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    subprocess.run([sys.executable, *_command(folder, whole, steps)], check=True, env=ENVIRONMENT)
    arguments = _command(folder, torn, steps, "--checkpoint-minutes", "0")
    process = subprocess.Popen([sys.executable, *arguments], env=ENVIRONMENT)
    deadline = time.monotonic() + 240
    while len(read_rows(torn / "log.csv")) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    at = read_checkpoint(torn / "checkpoint.pt")["step"]
    assert 0 < at < steps, "killed before its end"
    subprocess.run([sys.executable, *arguments, "--resume"], check=True, env=ENVIRONMENT)
    assert _same(_weights(whole), _weights(torn))
    rows = [read_rows(output / "log.csv") for output in (whole, torn)]
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]


@pytest.mark.slow
def test_two_processes_walk_the_path_of_one(folder, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, *_command(folder, one, 6)], check=True, env=ENVIRONMENT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2", *_command(folder, two, 6)]
    subprocess.run(launcher, check=True, env=ENVIRONMENT)
    losses = [
        [float(row["loss"]) for row in read_rows(output / "log.csv")] for output in (one, two)
    ]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    first, second = _weights(one), _weights(two)
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-2, atol=2e-3, msg=key)


def test_command_line_trains_and_resumes(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    output = tmp_path / "run"
    arguments = _command(folder, output, 4)[2:]
    assert main([*arguments, "--workers", "0", "--minutes", "0"]) == 0
    assert main([*arguments, "--workers", "0", "--resume"]) == 0
    # fine-tuning goes on from weights and moves the transformer only
    from dynamite_widget.model.weights_file import save_checkpoint

    stored = read_checkpoint(output / "checkpoint.pt")
    model = build_model(ModelConfig.from_dict(stored["model_config"]))
    model.load_state_dict(stored["model"])
    start = save_checkpoint(model, tmp_path / "start.safetensors")
    tuned = tmp_path / "tuned"
    arguments = _command(folder, tuned, 2)[4:]
    arguments += ["--finetune", str(folder / "train.json"), "--init", str(start)]
    assert main([*arguments, "--workers", "0"]) == 0
    report = json.loads((output / "report.json").read_text())
    assert report["finished"]
    assert report["step"] == 4
    before, after = _weights(output), _weights(tuned)
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"transformer"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --data DIR"),
        (["--data", "nowhere"], "is no folder"),
        (["--preset", "huge", "--data", "."], "no recipe for 'huge'"),
        (["--annotations", "a.json", "--set", "nothing=1"], "cannot set 'nothing=1'"),
        (["--annotations", "a.json", "--set-model", "x=1", "--no-pretrained"], "no field 'x'"),
        (["--annotations", "a.json", "--no-pretrained"], "cannot read annotation file"),
    ],
)
def test_command_line_errors_are_one_line(arguments, words, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert words in caplog.records[-1].getMessage()


# ---- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", sorted(RECIPES))
def test_recipes_survive_json(preset):
    recipe = get_recipe(preset)
    assert recipe.preset == preset
    assert TrainConfig.from_json(recipe.to_json()) == recipe
    assert finetuning(recipe).samples == 2000


def test_published_schedule():
    recipe = get_recipe("swin-tiny")
    assert recipe.steps == 184_375
    assert recipe.optimiser.learning_rate == 1e-4
    factors = [
        rate_factor(recipe.optimiser, step * 32, recipe.samples)
        for step in (0, 163_888, 163_889, 177_545, 177_546)
    ]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert get_recipe("swin-large").steps == 368_750


def test_cosine_schedule_and_crop_sizes():
    config = OptimiserConfig(schedule="cosine", warmup_samples=100, final_factor=0.1)
    factors = [rate_factor(config, n, 1100) for n in (0, 100, 600, 1100, 2000)]
    assert factors == pytest.approx([1 / 101, 1.0, 0.55, 0.1, 0.1])
    sides = replace(RECIPE, samples=100, batch_size=1, crops=((0.0, 64), (0.5, 96)))
    assert [sides.crop_side(step) for step in (0, 49, 50, 99)] == [64, 64, 96, 96]


def test_overrides_are_checked():
    assert RECIPE.override(["optimiser.learning_rate=3e-4"]).optimiser.learning_rate == 3e-4
    assert RECIPE.override(["augment.colour=null"]).augment.colour is None
    assert RECIPE.override(["precision=bf16"]).precision == "bf16"
    for bad in ("precision=fp4", "batch_size=0", "crops=[[0, 50]]", "loss.sampling=all"):
        with pytest.raises(ValueError, match=r"must be|need batch_size"):
            RECIPE.override([bad])
    with pytest.raises(ValueError, match="no field"):
        TrainConfig.from_json(json.dumps({"preset": "lite", "samples": 8, "wrong": 1}))


def test_the_average_forgets_the_start():
    model = torch.nn.Linear(2, 1, bias=False)
    average = MovingAverage(model, 0.999)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(60):
        average.update(model)
    assert float((average.state_dict(model)["weight"] - 1).abs().max()) < 0.01
