"""The training loop: Accelerate, moving average, atomic checkpoints, exact resume, time budget."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch

from dynamite_widget.errors import CheckpointError, DataError
from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.training.augment import sample_rng
from dynamite_widget.training.batches import Batch, batches
from dynamite_widget.training.config import TrainConfig
from dynamite_widget.training.data import InstanceDataset
from dynamite_widget.training.initialise import freeze, parameter_groups, training_mode
from dynamite_widget.training.interrupt import StopRequest
from dynamite_widget.training.log import Log
from dynamite_widget.training.options import LoopOptions, rate_factor
from dynamite_widget.training.speed import freeze_depthwise, quicken_depthwise
from dynamite_widget.training.state import (
    FORMAT,
    MovingAverage,
    random_states,
    read_checkpoint,
    restore_random_states,
    write_atomically,
)
from dynamite_widget.training.step import StepResult, TrainingStep, draw_rounds
from dynamite_widget.training.validate import Example, validate

logger = logging.getLogger(__name__)

# So many unusable steps in a row, or dead workers in a run, are not bad luck any more.
_MAX_SKIPPED = 50
_MAX_RESTARTS = 5


class Trainer:
    """One run, from its start or its checkpoint to its end or the end of the sitting.

    Parameters
    ----------
    model : DynaMITe
        Network with its start weights.
    data : InstanceDataset
        Training pictures.
    config : TrainConfig
        What is learned, and how.
    options : LoopOptions
        Where results go, and how often.
    examples : sequence of Example
        Validation examples; none switches validation off.
    """

    def __init__(
        self,
        model: DynaMITe,
        data: InstanceDataset,
        config: TrainConfig,
        options: LoopOptions,
        examples: list[Example] | None = None,
    ) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        self.config, self.options, self.data = config, options, data
        self.examples = examples or []
        self.accelerator = Accelerator(
            mixed_precision=config.precision,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
            cpu=not torch.cuda.is_available(),
        )
        self.model = model
        freeze(model, config.optimiser)
        if config.optimiser.frozen_depthwise:
            freeze_depthwise(model.backbone)
        quicken_depthwise(model.backbone)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: MovingAverage | None = None
        groups = parameter_groups(model, config.optimiser)
        if not groups:
            raise ValueError("every parameter is frozen; nothing to train")
        optimiser = torch.optim.AdamW(
            groups, lr=config.optimiser.learning_rate, betas=config.optimiser.betas
        )
        self.factors = [group["factor"] for group in optimiser.param_groups]
        step = TrainingStep(model, config)
        self.step_module: Any
        self.optimiser: Any
        self.step_module, self.optimiser = self.accelerator.prepare(step, optimiser)
        if config.optimiser.ema_decay:
            self.average = MovingAverage(model, config.optimiser.ema_decay)
        self.step, self.skipped, self.minutes = 0, 0, 0.0
        self.best = -math.inf
        if options.resume:
            self._restore()

    # ---- checkpoints --------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        """The run's checkpoint file."""
        return self.options.folder / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint, atomically, by the main process."""
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        content = {
            "format": FORMAT,
            "config": self.config.to_json(),
            "model_config": self.model.config.to_dict(),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.pack() if self.average else None,
            "scaler": scaler.state_dict() if scaler else None,
            "random": random_states(),
            "step": self.step,
            "skipped": self.skipped,
            "minutes": self.minutes,
            "best": self.best,
        }
        try:
            write_atomically(content, self.checkpoint)
        except OSError as error:
            # A full disk should not end the run; the previous checkpoint is still there.
            logger.error("no checkpoint written: %s", error)

    def _restore(self) -> None:
        content = read_checkpoint(self.checkpoint)
        if content["config"] != self.config.to_json():
            # a longer or differently tuned run from here on is allowed, but said
            logger.warning("the configuration differs from the one the run was started with")
        try:
            self.model.load_state_dict(content["model"])
            self.optimiser.load_state_dict(content["optimiser"])
            if self.average and content["average"]:
                self.average.unpack(content["average"])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{self.checkpoint} does not fit this run: {error}") from error
        if self.accelerator.scaler and content["scaler"]:
            self.accelerator.scaler.load_state_dict(content["scaler"])
        restore_random_states(content["random"])
        self.step, self.skipped = int(content["step"]), int(content["skipped"])
        self.minutes, self.best = float(content["minutes"]), float(content["best"])

    def weights(self) -> dict[str, torch.Tensor]:
        """State dict to use and to publish: the moving average where there is one."""
        if self.average:
            return self.average.state_dict(self.model)
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    # ---- the loop -----------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Train; return a summary (steps, samples, minutes, skipped, best, finished).

        When a worker dies (killed for memory, say), torch raises wherever the step happens to be;
        the run then goes back to its last checkpoint and on from there.
        """
        started, goal = time.monotonic(), self.config.steps
        if self.options.stop_after is not None:
            goal = min(goal, self.step + self.options.stop_after)
        if not self.options.resume:
            self.save()
        for restart in range(_MAX_RESTARTS + 1):
            try:
                return self._sitting(started, goal)
            except RuntimeError as error:
                alone = self.accelerator.num_processes == 1
                if "DataLoader worker" not in str(error) or not alone or restart == _MAX_RESTARTS:
                    raise
                logger.warning("back to the last checkpoint: %s", error)
                self._restore()
        raise AssertionError("unreachable")

    def _sitting(self, started: float, last: int) -> dict[str, Any]:
        config, options, accelerator = self.config, self.options, self.accelerator
        main = accelerator.is_main_process
        if main:
            options.folder.mkdir(parents=True, exist_ok=True)
            (options.folder / "config.json").write_text(config.to_json(), encoding="utf-8")
        log = Log(options.folder, self.step, tensorboard=options.tensorboard) if main else None
        began, minutes_before = time.monotonic(), self.minutes
        clock = {"checkpoint": began, "validate": began, "report": began}
        waiting, since, row = 0.0, self.step, dict[str, Any]()
        stream = batches(
            self.data,
            config,
            first=self.step,
            last=last,
            workers=options.workers,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        bar = self._bar(last) if main and options.progress else None
        training_mode(self.model, config.optimiser)
        stop_request = StopRequest()
        try:
            while self.step < last:
                waited_from = time.monotonic()
                batch = next(stream)
                waiting += time.monotonic() - waited_from
                report = (self.step + 1) % options.report_steps == 0 or self.step + 1 == last
                result, norm = self._one(batch, measure=report)
                self.step += 1
                now = time.monotonic()
                self.minutes = minutes_before + (now - began) / 60
                over = options.minutes is not None and (now - started) / 60 >= options.minutes
                stop = self._agree(over or stop_request.asked)
                row = {}
                if report or stop:
                    spent = max(now - clock["report"], 1e-9)
                    row = self._row(result, norm)
                    row["samples_per_s"] = (self.step - since) * config.batch_size / spent
                    row["data_share"] = waiting / spent
                    clock["report"], waiting, since = now, 0.0, self.step
                ended = stop or self.step == last
                due = (now - clock["validate"]) / 60 >= options.validate_minutes
                if self.examples and (ended or self._agree(due)):
                    clock["validate"] = now
                    row = {**(row or self._row(result, norm)), **self._validate()}
                    training_mode(self.model, config.optimiser)
                    clock["report"] = time.monotonic()
                if row and log is not None:
                    log.add(row)
                    self._show(bar, row)
                every = options.checkpoint_steps
                due = (now - clock["checkpoint"]) / 60 >= options.checkpoint_minutes
                if ended or due or (every and self.step % every == 0):
                    clock["checkpoint"] = now
                    self.save()
                if bar is not None:
                    bar.update(1)
                if stop:
                    break
        finally:
            stop_request.close()
            stream.close()  # type: ignore[attr-defined]
            if bar is not None:
                bar.close()
            if log is not None:
                log.close()
        accelerator.wait_for_everyone()
        return {
            "step": self.step,
            "samples": self.step * config.batch_size,
            "minutes": self.minutes,
            "skipped": self.skipped,
            "best": self.best,
            "finished": self.step >= config.steps,
        }

    def _one(self, batch: Batch, measure: bool) -> tuple[StepResult | None, float]:
        """One optimiser step; a step without a finite loss or gradient changes nothing."""
        config, accelerator = self.config, self.accelerator
        seed = sample_rng(config.seed, self.step, accelerator.process_index, 4000)
        torch.manual_seed(int(seed.integers(2**62)))
        factor = rate_factor(config.optimiser, self.step * config.batch_size, config.samples)
        for group, share in zip(self.optimiser.param_groups, self.factors, strict=True):
            group["lr"] = config.optimiser.learning_rate * share * factor
        maps = torch.tensor(float(sum(batch.counts) + len(batch.clicks)))
        normaliser = float(self._mean(maps))
        result: StepResult = self.step_module(
            batch, draw_rounds(config, self.step), normaliser, measure
        )
        self.optimiser.zero_grad(set_to_none=True)
        if not self._all(bool(torch.isfinite(result.loss.detach()))):
            self._skip("loss")
            return None, math.nan
        accelerator.backward(result.loss)
        norm = math.nan
        limit = config.optimiser.clip_norm or math.inf
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        norm = float(accelerator.clip_grad_norm_(parameters, limit))
        if not math.isfinite(norm) and accelerator.scaler is None:
            self.optimiser.zero_grad(set_to_none=True)
            self._skip("gradient")
            return None, norm
        self.optimiser.step()
        if self.average:
            self.average.update(self.model)
        self._in_a_row = 0
        return result, norm

    _in_a_row = 0

    def _skip(self, what: str) -> None:
        self.skipped += 1
        self._in_a_row += 1
        logger.warning("step %d skipped: its %s is not finite", self.step, what)
        if self._in_a_row > _MAX_SKIPPED:
            raise DataError(
                f"{_MAX_SKIPPED} steps in a row without a finite {what}; lower the learning rate "
                "or check the data"
            )

    # ---- several processes --------------------------------------------------------------------

    def _mean(self, value: torch.Tensor) -> torch.Tensor:
        if self.accelerator.num_processes == 1:
            return value
        reduced: torch.Tensor = self.accelerator.reduce(
            value.to(self.accelerator.device), reduction="mean"
        )
        return reduced

    def _all(self, value: bool) -> bool:
        return bool(self._mean(torch.tensor(float(value))) > 1.0 - 1e-6)

    def _agree(self, value: bool) -> bool:
        """Whether any process wants it: all must stop and validate at the same step."""
        if self.accelerator.num_processes == 1:
            return value
        return bool(self._mean(torch.tensor(float(value))) > 0)

    # ---- reports ------------------------------------------------------------------------------

    def _row(self, result: StepResult | None, norm: float) -> dict[str, Any]:
        row: dict[str, Any] = {
            "step": self.step,
            "samples": self.step * self.config.batch_size,
            "minutes": self.minutes,
            "learning_rate": self.optimiser.param_groups[-1]["lr"] / self.factors[-1],
            "gradient_norm": norm,
            "skipped": self.skipped,
        }
        if result is not None:
            row["loss"] = float(self._mean(result.loss.detach()))
            for name in ("mask", "dice", "softmax"):
                if name in result.terms:
                    row[name] = float(result.terms[name])
            row["iou_first"], row["iou_last"] = result.first_iou, result.last_iou
        return row

    def _validate(self) -> dict[str, Any]:
        """Validate the weights that would be published; keep them if they are the best."""
        from dynamite_widget.model.weights_file import save_checkpoint

        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
            return {}
        folder = self.options.folder
        current = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.weights())
        try:
            found = validate(self.model, self.examples)
            samples = self.step * self.config.batch_size
            facts = {
                "samples": samples,
                "recipe": dataclasses.asdict(self.config),
                "validation": found,
            }
            save_checkpoint(self.model, folder / "last.safetensors", facts)
            if found["score"] > self.best:
                self.best = found["score"]
                save_checkpoint(self.model, folder / "best.safetensors", facts)
            with (folder / "validation.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"samples": samples, **found}) + "\n")
            if self.options.pictures:
                from dynamite_widget.training.report import save_pictures

                save_pictures(self.model, self.examples, folder, self.step)
        except OSError as error:
            logger.error("validation results are not written: %s", error)
            return {}
        finally:
            self.model.load_state_dict(current)
            self.accelerator.wait_for_everyone()
        return {
            "val_iou_1": found["iou"][0],
            "val_iou_3": found["iou"][2],
            "val_iou_5": found["iou"][4],
            "val_source_mean": found["source_mean"],
            "val_score": found["score"],
        }

    def _bar(self, last: int) -> Any:
        from tqdm.auto import tqdm

        return tqdm(total=last, initial=self.step, unit="step", smoothing=0.05, mininterval=2.0)

    def _show(self, bar: Any, row: dict[str, Any]) -> None:
        wanted = ("loss", "iou_last", "samples_per_s", "data_share", "val_iou_1", "val_iou_3")
        shown = {k: f"{row[k]:.3g}" for k in wanted if isinstance(row.get(k), float)}
        if bar is not None:
            bar.set_postfix(shown)
        logger.info("step %d: %s", row["step"], ", ".join(f"{k} {v}" for k, v in shown.items()))
