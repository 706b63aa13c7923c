"""Time per click and peak memory of `Predictor`, beside the published order of evaluation.

Both have the same weights and cached image features and end at a full-size label map; they take
turns within one run, and medians are compared. Without a checkpoint the weights follow a formula
(or are random), which changes no shape.

Usage: ``python benchmarks/latency.py --preset swin-tiny --long-side 1024 --clicks 1,5,20,100``
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))
import straightforward  # type: ignore[import-not-found]

from dynamite_widget.errors import CheckpointError
from dynamite_widget.model.checkpoints import load_model
from dynamite_widget.model.config import get_config
from dynamite_widget.model.dynamite import DynaMITe, build_model
from dynamite_widget.model.predictor import ImageEmbedding, Predictor, check_clicks, click_tensors
from dynamite_widget.session_state import Click

PUBLISHED = ("swin-tiny", "swin-large", "segformer-b0", "hrnet32", "resnet50")


class PeakMemory:
    """Largest memory in use while the block runs, above what was in use before, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stop = threading.Event()
        self.extra_bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._before = resident_bytes()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.extra_bytes = max(self.extra_bytes, resident_bytes() - self._before)

    def __exit__(self, *error: object) -> None:
        if self._device.type == "cuda":
            self.extra_bytes = torch.cuda.max_memory_allocated() - self._before
        else:
            self._stop.set()
            self._thread.join()


def resident_bytes() -> int:
    """Resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import psutil

        return int(psutil.Process().memory_info().rss)


def make_model(preset: str, checkpoint: str | None, device: str) -> tuple[DynaMITe, str]:
    try:
        return load_model(preset, checkpoint, device=device), "checkpoint"
    except CheckpointError:
        if checkpoint is not None:
            raise
    torch.manual_seed(0)
    model = build_model(get_config(preset)).eval()
    golden = Path(__file__).resolve().parents[1] / "tests" / "golden"
    origin = "random weights"
    if (golden / "parity.py").is_file() and preset in PUBLISHED:
        # Masks as varied as a trained network's; those of random weights are nearly constant.
        sys.path.insert(0, str(golden))
        import parity

        parity.fill(model)
        origin = "weights by formula"
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return model.to(where), origin


def make_picture(long_side: int) -> NDArray[np.uint8]:
    """Draw soft blobs and noise, 4:3."""
    height, width = max(1, long_side * 3 // 4), long_side
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / long_side
    picture = np.full((height, width, 3), 90.0)
    for _ in range(30):
        distance = ((x - rng.random()) ** 2 + (y - 0.75 * rng.random()) ** 2) / rng.uniform(
            1e-3, 2e-2
        )
        picture += np.exp(-distance)[:, :, None] * rng.uniform(-90, 120, 3)
    return np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


def make_clicks(count: int, height: int, width: int) -> list[Click]:
    """Up to ten instances, every fifth click on the background, no pixel twice."""
    rng = np.random.default_rng(count)
    pixels = rng.choice(height * width, size=count, replace=False)
    instances = [0 if n % 5 == 4 else n % 10 + 1 for n in range(count)]
    return [
        Click(int(p) % width, int(p) // width, instance)
        for p, instance in zip(pixels, instances, strict=True)
    ]


def timed(call: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Milliseconds and the result."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3, result


def embed_times(predictor: Predictor, picture: NDArray[np.uint8]) -> tuple[ImageEmbedding, float]:
    predictor.embed(picture)  # warm-up
    milliseconds, embedding = timed(lambda: predictor.embed(picture), predictor.device)
    return embedding, milliseconds


def measure(
    predictor: Predictor, embedding: ImageEmbedding, count: int, repeats: int
) -> dict[str, Any]:
    height, width = embedding.height, embedding.width
    clicks = make_clicks(count, height, width)

    def ours() -> NDArray[np.int32]:
        return predictor.predict(embedding, clicks).label_map

    @torch.inference_mode()
    def theirs() -> NDArray[np.int32]:
        points, _ = check_clicks(clicks, height, width)
        tensors = click_tensors(points, embedding)
        with predictor._precision():
            logits, owners = straightforward.mask_logits(
                predictor.model, embedding.prepared.features, tensors
            )
            return straightforward.label_map(
                logits.float(), owners, embedding.network_size, (height, width)
            )

    contenders: dict[str, Callable[[], NDArray[np.int32]]] = {"ours": ours, "theirs": theirs}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    memory: dict[str, int] = {}
    labels: dict[str, NDArray[np.int32]] = {}
    for name, call in contenders.items():  # warm-up, and where memory is watched
        with PeakMemory(predictor.device) as peak:
            labels[name] = call()
        memory[name] = peak.extra_bytes
    for _ in range(repeats):
        for name, call in contenders.items():
            times[name].append(timed(call, predictor.device)[0])
    return {
        "ours_ms": statistics.median(times["ours"]),
        "straightforward_ms": statistics.median(times["theirs"]),
        "ours_bytes": memory["ours"],
        "straightforward_bytes": memory["theirs"],
        "agreement": float((labels["ours"] == labels["theirs"]).mean()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="swin-tiny", choices=PUBLISHED)
    parser.add_argument("--checkpoint", help="weights file; by default what load_model finds")
    parser.add_argument("--long-side", type=int, default=1024, help="of the picture, in pixels")
    parser.add_argument("--clicks", default="1,5,20,100", help="numbers of clicks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="print one last line of JSON")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    counts = [int(part) for part in arguments.clicks.split(",")]
    model, origin = make_model(arguments.preset, arguments.checkpoint, arguments.device)
    predictor = Predictor(model)
    picture = make_picture(arguments.long_side)
    with PeakMemory(predictor.device) as peak:
        embedding, embed_ms = embed_times(predictor, picture)
    mib = 2**20
    print(
        f"{arguments.preset} ({origin}) on {predictor.device}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads; picture {picture.shape[1]} x {picture.shape[0]}, "
        f"network image {embedding.network_size[1]} x {embedding.network_size[0]}"
    )
    print(
        f"embed {embed_ms:.0f} ms, peak +{peak.extra_bytes / mib:.0f} MiB; "
        f"the embedding holds {embedding.nbytes / mib:.0f} MiB"
    )
    print("clicks   ours ms   straightforward ms   ratio   peak MiB (both)   same labels")
    rows = []
    for count in counts:
        result = measure(predictor, embedding, count, arguments.repeats)
        ratio = result["straightforward_ms"] / result["ours_ms"]
        print(
            f"{count:6d}{result['ours_ms']:10.1f}{result['straightforward_ms']:21.1f}{ratio:8.2f}"
            f"{result['ours_bytes'] / mib:9.0f} {result['straightforward_bytes'] / mib:7.0f}"
            f"{result['agreement']:14.4%}",
            flush=True,
        )
        rows.append(
            {
                "preset": arguments.preset,
                "long_side": arguments.long_side,
                "clicks": count,
                "ours_ms": round(result["ours_ms"], 2),
                "straightforward_ms": round(result["straightforward_ms"], 2),
                "ratio": round(ratio, 3),
            }
        )
    if arguments.json:
        print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
