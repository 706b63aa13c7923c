"""How far labels of the fast path are from exact ones, with trained weights on photographs.

Two networks: ``lite`` as it is, and ``lite``'s weights with the pixel decoder's tokens at stride 4,
as in the published presets, on network images of 1024 pixels: no weights of the published presets
are needed to see how evaluating only where labels change does on masks of a trained network.
DATA is a data set as ``dynamite evaluate`` takes it (``coco:annotations.json:folder``); its objects
are clicked in their middles and once more at random. Without it the pictures of the notebooks get
random clicks.

``--clicks 8-12`` takes only pictures with so many clicks, ``--long-side 1024`` resizes all of them:
that is what a click costs on objects, of which each fills a part of the picture only.

``--embeddings`` asks another question: how far labels (exact ones) move if the pixel decoder or the
backbone computes its products in bfloat16, beside noise of one grey level in the picture.

Usage: ``python benchmarks/agreement.py [--data DATA] [--limit N] [--clicks 8-12]
[--long-side N] [--embeddings] [--json]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from latency import make_clicks, read_picture, resize  # type: ignore[import-not-found]

from dynamite_widget.model.checkpoints import load_model
from dynamite_widget.model.dynamite import DynaMITe, build_model
from dynamite_widget.model.predictor import ImageEmbedding, Predictor
from dynamite_widget.model.resize import preprocess
from dynamite_widget.session_state import Click

PICTURES = Path(__file__).resolve().parents[1] / "notebooks" / "images"
Case = tuple[str, NDArray[np.uint8], list[Click]]


def stride_4(lite: DynaMITe) -> DynaMITe:
    """Put the same weights into a network whose decoder works on every pixel of the masks."""
    config = lite.config.replace(
        name="lite-stride-4",
        decoder_stride=4,
        refine_width=0,
        max_long_side=1024,
    )
    model = build_model(config).eval()
    own = set(model.state_dict())
    model.load_state_dict({k: v for k, v in lite.state_dict().items() if k in own})
    return model


def pictures() -> Iterator[Case]:
    """Pictures of the notebooks with random clicks."""
    for path in sorted(PICTURES.glob("*.jpg")):
        picture = read_picture(path, 640)
        yield path.name, picture, make_clicks(10, *picture.shape[:2])


def samples(specification: str, limit: int) -> Iterator[Case]:
    """Pictures with objects: their middles, one random pixel of each, one of the background."""
    from dynamite_widget.evaluation.datasets import open_evaluation_dataset
    from dynamite_widget.evaluation.robot import distance_to_background

    dataset = open_evaluation_dataset(specification)
    step = max(1, len(dataset) // limit)
    for index in range(0, len(dataset), step):
        sample = dataset[index]
        rng = np.random.default_rng(index)
        places: dict[tuple[int, int], int] = {}
        for instance in [*range(1, len(sample.objects) + 1), 0]:
            mask = sample.label_map == instance
            if not mask.any():
                continue
            if instance:
                y, x = np.unravel_index(distance_to_background(mask).argmax(), mask.shape)
                places.setdefault((int(x), int(y)), instance)
            pixel = rng.choice(np.flatnonzero(mask))
            places.setdefault((int(pixel % mask.shape[1]), int(pixel // mask.shape[1])), instance)
        yield sample.key, sample.image, [Click(x, y, i) for (x, y), i in places.items()]


def resized(case: Case, long_side: int) -> Case:
    """Bring a picture and its clicks to another size."""
    key, picture, clicks = case
    scale = long_side / max(picture.shape[:2])
    places = {(int(c.x * scale), int(c.y * scale)): c.instance for c in clicks}
    larger = resize(Image.fromarray(picture), long_side)
    return key, larger, [Click(x, y, instance) for (x, y), instance in places.items()]


def clicks_per_picture(text: str) -> range:
    low, _, high = text.partition("-")
    return range(int(low), int(high or low) + 1)


def other_embeddings(
    predictor: Predictor, picture: NDArray[np.uint8]
) -> Iterator[tuple[str, ImageEmbedding]]:
    """Embeddings with parts in bfloat16, and that of the picture with one grey level of noise."""
    model, embedding = predictor.model, predictor.embed(picture)
    pixels = torch.from_numpy(preprocess(picture, predictor.config)[0])[None]

    @torch.inference_mode()
    def lowered(backbone: bool, pixel_decoder: bool) -> ImageEmbedding:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=backbone):
            maps = [level.float() for level in model.backbone(pixels)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=pixel_decoder):
            multi_scale, mask_features = model.pixel_decoder(maps)
        features = replace(
            embedding.prepared.features,
            multi_scale=tuple(level.float() for level in multi_scale),
            mask_features=mask_features.float(),
            detail=maps[0] if predictor.config.refine_width else None,
        )
        return replace(embedding, prepared=model.prepare(features))

    yield "pixel decoder in bfloat16", lowered(False, True)
    yield "backbone in bfloat16", lowered(True, False)
    noise = np.random.default_rng(0).integers(-1, 2, picture.shape)
    yield "one grey level of noise", predictor.embed((picture + noise).clip(0, 255).astype("u1"))


def compare_embeddings(model: DynaMITe, cases: list[Case]) -> list[dict[str, Any]]:
    """Agreement of exact labels with those from other embeddings."""
    predictor = Predictor(model, exact=True)
    shares: dict[str, list[float]] = {}
    lost: Counter[str] = Counter()
    for _, picture, clicks in cases:
        labels = predictor.predict(predictor.embed(picture), clicks).label_map
        for name, embedding in other_embeddings(predictor, picture):
            found = predictor.predict(embedding, clicks).label_map
            shares.setdefault(name, []).append(float((found == labels).mean()))
            lost[name] += len(np.setdiff1d(labels, found))
    rows = []
    for name, values in shares.items():
        print(
            f"{model.config.name:<16}{name:<27}{len(values):>4}{np.mean(values):>11.4%}"
            f"{min(values):>11.4%}{lost[name]:>6}",
            flush=True,
        )
        row = {"network": model.config.name, "embedding": name, "lost_labels": lost[name]}
        rows.append({**row, "mean_agreement": float(np.mean(values)), "worst": min(values)})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="data set with objects to click on")
    parser.add_argument("--limit", type=int, default=20, help="pictures of DATA, evenly spaced")
    parser.add_argument("--clicks", type=clicks_per_picture, help="fewest-most, else left out")
    parser.add_argument("--long-side", type=int, help="of all pictures, in pixels")
    parser.add_argument("--repeats", type=int, default=1, help="of each click, for its time")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--embeddings", action="store_true", help="compare embeddings, see above")
    parser.add_argument("--json", action="store_true", help="print one last line of JSON")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    lite = load_model("lite", device="cpu")
    cases = list(samples(arguments.data, arguments.limit) if arguments.data else pictures())
    if arguments.clicks:
        cases = [case for case in cases if len(case[2]) in arguments.clicks]
    if arguments.long_side:
        cases = [resized(case, arguments.long_side) for case in cases]
    if not cases:
        parser.error("no picture is left; try another range for --clicks or a larger --limit")
    rows: list[dict[str, Any]] = []
    if arguments.embeddings:
        for model in (lite, stride_4(lite)):
            rows += compare_embeddings(model, cases)
        if arguments.json:
            print(json.dumps({"rows": rows}))
        return 0
    print(
        f"{'network':<16}{'pictures':>9}{'mean':>11}{'worst':>11}{'lost':>6}{'ms':>6}{'exact':>7}"
    )
    for model in (lite, stride_4(lite)):
        fast, exact = Predictor(model), Predictor(model, exact=True)
        shares, lost = [], 0
        times: dict[Predictor, list[float]] = {fast: [], exact: []}
        for _, picture, clicks in cases:
            embedding = exact.embed(picture)
            maps = {}
            for predictor in (exact, fast) * max(1, arguments.repeats):
                start = time.perf_counter()
                maps[predictor] = predictor.predict(embedding, clicks).label_map
                times[predictor].append((time.perf_counter() - start) * 1e3)
            shares.append(float((maps[fast] == maps[exact]).mean()))
            lost += len(np.setdiff1d(maps[exact], maps[fast]))
        row = {
            "network": model.config.name,
            "pictures": len(cases),
            "mean_agreement": float(np.mean(shares)),
            "worst_agreement": min(shares),
            "lost_labels": lost,
            "ms": statistics.median(times[fast]),
            "exact_ms": statistics.median(times[exact]),
        }
        rows.append(row)
        print(
            f"{row['network']:<16}{len(cases):>9}{row['mean_agreement']:>11.4%}"
            f"{row['worst_agreement']:>11.4%}{lost:>6}{row['ms']:>6.0f}{row['exact_ms']:>7.0f}",
            flush=True,
        )
    if arguments.json:
        print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
