"""Coarse masks before the decoder runs: when they are there, and how far they are from the final.

Every object with an outline in ``notebooks/images`` is clicked in its middle, or the objects of
DATA (a data set as ``dynamite evaluate`` takes it) as by ``agreement.py``. Milliseconds from the
click until the coarse label map is drawn and until the final one is, and the part of the pixels,
and of the objects' pixels, in which they agree. Of networks without weights only the times count.

Usage: ``python benchmarks/preview.py [--preset lite] [--data DATA] [--threads N] [--json]``
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from agreement import samples  # type: ignore[import-not-found]
from latency import make_model, read_picture  # type: ignore[import-not-found]

from dynamite_widget.model.predictor import Predictor
from dynamite_widget.segmentation import Segmentation
from dynamite_widget.session_state import Click

PICTURES = Path(__file__).resolve().parents[1] / "notebooks" / "images"
LONG_SIDE = 1024
REPEATS = 3


def outlined() -> Iterator[tuple[str, np.ndarray, list[Click]]]:
    content = json.loads((PICTURES / "outlines.json").read_text())
    for entry in content["images"]:
        picture = read_picture(PICTURES / entry["file_name"], LONG_SIDE)
        scale = picture.shape[1] / entry["width"]
        clicks: list[Click] = []
        for annotation in content["annotations"]:
            if annotation["image_id"] == entry["id"]:
                corners = np.asarray(annotation["segmentation"][0]).reshape(-1, 2)
                x, y = (corners.min(axis=0) + corners.max(axis=0)) / 2 * scale
                clicks.append(Click(int(x), int(y), len(clicks) + 1))
        yield entry["file_name"], picture, clicks


def measure(predictor: Predictor, picture: np.ndarray, clicks: list[Click]) -> dict[str, Any]:
    embedding = predictor.embed(picture)
    height, width = picture.shape[:2]
    coarse_ms, final_ms = [], []
    seen: list[np.ndarray] = []
    labels = np.zeros((height, width), np.int32)
    for _ in range(REPEATS + 1):
        began = time.perf_counter()

        def show(coarse: Segmentation, began: float = began) -> None:
            seen.append(coarse.label_map_at(height, width))
            coarse_ms.append((time.perf_counter() - began) * 1000)

        final = predictor.predict(embedding, clicks, on_preview=show)
        labels = final.label_map_at(height, width)
        final_ms.append((time.perf_counter() - began) * 1000)
    same = seen[-1] == labels
    objects = (seen[-1] > 0) | (labels > 0)
    return {
        "clicks": len(clicks),
        "coarse_ms": round(float(np.median(coarse_ms[1:])), 1),
        "final_ms": round(float(np.median(final_ms[1:])), 1),
        "agree_percent": round(100 * float(same.mean()), 2),
        "agree_on_objects_percent": round(100 * float(same[objects].mean()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--checkpoint", help="weights file; by default what load_model finds")
    parser.add_argument("--data", help="data set with objects to click on")
    parser.add_argument("--limit", type=int, default=20, help="pictures of DATA, evenly spaced")
    parser.add_argument("--exact", action="store_true", help="no shortcuts on the CPU")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model, origin = make_model(args.preset, args.checkpoint, args.device)
    predictor = Predictor(model, exact=args.exact)
    rows = []
    for name, picture, clicks in samples(args.data, args.limit) if args.data else outlined():
        if any(click.instance for click in clicks):
            rows.append(measure(predictor, picture, clicks))
            print(name, rows[-1], flush=True)
    median = {key: round(float(np.median([row[key] for row in rows])), 2) for key in rows[0]}
    mean = {key: round(float(np.mean([row[key] for row in rows])), 2) for key in rows[0]}
    print("median", median)
    print("mean", mean)
    results = {"preset": args.preset, "weights": origin, "median": median, "mean": mean}
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
