"""What a run leaves to look at: pictures of predictions, curves, and a summary in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.training.clicks import Clicks, robot_click
from dynamite_widget.training.log import read_rows
from dynamite_widget.training.validate import Example, network_input, segment

_COLOURS = np.array(
    [(0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0)],
    np.uint8,
)


def _drawn(
    pixels: NDArray[np.uint8], label_map: NDArray[np.uint8], clicks: Clicks
) -> NDArray[np.uint8]:
    colours = _COLOURS[label_map % len(_COLOURS)]
    mixed = np.where(label_map[..., None] > 0, pixels * 0.5 + colours * 0.5, pixels)
    mixed = np.ascontiguousarray(mixed.astype(np.uint8))
    for (y, x), instance in zip(clicks.yx, clicks.instance, strict=True):
        colour = tuple(
            int(v) for v in (_COLOURS[instance % len(_COLOURS)] if instance else (255,) * 3)
        )
        cv2.circle(mixed, (int(x), int(y)), 4, (0, 0, 0), -1)
        cv2.circle(mixed, (int(x), int(y)), 3, colour, -1)
    return mixed


@torch.no_grad()
def save_pictures(
    model: DynaMITe, examples: Sequence[Example], folder: Path, step: int, count: int = 8
) -> Path:
    """Write one PNG: per row a picture, its truth, and all its instances after one click each.

    Returns
    -------
    Path
        ``pictures/step_00000000.png`` in `folder`.
    """
    model.eval()
    tiles = []
    for example in examples[:: max(1, len(examples) // count)][:count]:
        truth = np.zeros(example.masks[0].shape, np.uint8)
        clicks = Clicks.build([])
        for k, mask in enumerate(example.masks, 1):
            truth[mask] = k
            click = robot_click(np.zeros(mask.shape, np.uint8), mask, clicks)
            if click is not None:
                clicks = clicks.then([(click[0], click[1], k)])
        pixels = network_input(example.pixels, model.config).to(model.device)
        prepared = model.prepare(model.encode_image(pixels))
        predicted = segment(model, prepared, [clicks], len(example.masks), example.size)[0]
        none = Clicks.build([])
        row = [
            _drawn(example.pixels, truth, none),
            _drawn(example.pixels, predicted, clicks),
        ]
        tile = np.full((256, 512, 3), 255, np.uint8)
        for i, picture in enumerate(row):
            scale = 256 / max(picture.shape[:2])
            size = (max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale)))
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            tile[: size[1], i * 256 : i * 256 + size[0]] = small
        tiles.append(tile)
    while len(tiles) % 2:
        tiles.append(np.full((256, 512, 3), 255, np.uint8))
    sheet = np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)])
    path = folder / "pictures" / f"step_{step:08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    return path


def _series(rows: list[dict[str, str]], name: str) -> tuple[list[float], list[float]]:
    pairs = [(float(r["samples"]), float(r[name])) for r in rows if r.get(name)]
    pairs = [pair for pair in pairs if np.isfinite(pair[1])]
    return [x for x, _ in pairs], [y for _, y in pairs]


def write_report(folder: Path, summary: dict[str, Any]) -> Path:
    """Write ``report.json`` and ``curves.png`` from a run's log.

    Parameters
    ----------
    folder : path
        Folder of the run, with ``log.csv``.
    summary : dict
        What `Trainer.run` returned.

    Returns
    -------
    Path
        The JSON file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_rows(folder / "log.csv")
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    plans = (
        ("loss", ("loss", "mask", "dice", "softmax")),
        ("IoU in training", ("iou_first", "iou_last")),
        ("IoU in validation", ("val_iou_1", "val_iou_3", "val_iou_5", "val_source_mean")),
        ("learning rate", ("learning_rate",)),
    )
    for panel, (title, names) in zip(panels.ravel(), plans, strict=True):
        for name in names:
            x, y = _series(rows, name)
            if x:
                panel.plot(x, y, label=name, marker="." if name.startswith("val") else None)
        panel.set_title(title)
        panel.set_xlabel("samples")
        if panel.get_legend_handles_labels()[0]:
            panel.legend()
        panel.grid(alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=110)
    validated = [row for row in rows if row.get("val_score")]
    content = {
        **summary,
        "last_validation": validated[-1] if validated else None,
        "best_validation": max(validated, key=lambda r: float(r["val_score"]), default=None),
        "config": json.loads((folder / "config.json").read_text(encoding="utf-8")),
    }
    path = folder / "report.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
