"""Training log: one CSV row per report, optionally the same in TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

COLUMNS = (
    "step",
    "samples",
    "minutes",
    "loss",
    "mask",
    "dice",
    "softmax",
    "iou_first",
    "iou_last",
    "learning_rate",
    "gradient_norm",
    "skipped",
    "samples_per_s",
    "data_share",
    "val_iou_1",
    "val_iou_3",
    "val_iou_5",
    "val_source_mean",
    "val_score",
)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a log file; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if None not in row.values() and row.get("step", "").isdigit()]


class Log:
    """Appends rows to ``log.csv``; rows at or after `first_step` (of a lost end) are dropped."""

    def __init__(self, folder: Path, first_step: int, *, tensorboard: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.csv"
        kept = [row for row in read_rows(self.path) if int(row["step"]) <= first_step]
        partial = self.path.with_name(".log.csv.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept if first_step else [])
        partial.replace(self.path)
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; missing columns stay empty."""
        shown = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS, extrasaction="ignore").writerow(shown)
        if self._board is not None:
            for name, value in row.items():
                if isinstance(value, float) and value == value:
                    self._board.add_scalar(name, value, row["samples"])
            self._board.flush()

    def close(self) -> None:
        """Close the TensorBoard writer, if any."""
        if self._board is not None:
            self._board.close()
