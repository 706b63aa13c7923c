"""Time per picture and per click of `Predictor`, beside the published order of evaluation.

All contenders have the same weights and take turns within one run; medians are compared. A click
starts from cached image features and ends at a full-size label map. `exact` is `Predictor` with
``exact=True``; on CUDA devices it works in float32, from an embedding of its own, and labels are
compared with its. `preview` is the time until coarse masks could be shown: that of the encoder
without its last layer, on CPUs. ``--graphs`` adds `Predictor` with ``graphs=True``. Without a
checkpoint the weights of the published presets follow a formula, which changes no shape; their
masks are noise, the worst case for evaluating only where labels change.
``--cpu-time`` counts processor seconds instead of wall time, for machines that do other work, too;
``--neighbour`` is such work: a process that computes all the while, as a browser might.

Usage: ``python benchmarks/latency.py --preset swin-tiny --long-side 1024 --clicks 1,5,20,100,200``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
import straightforward  # type: ignore[import-not-found]

from dynamite_widget.cancelling import Cancelled
from dynamite_widget.errors import CheckpointError
from dynamite_widget.model.checkpoints import load_model
from dynamite_widget.model.clicks import check_clicks, click_tensors
from dynamite_widget.model.config import get_config
from dynamite_widget.model.dynamite import DynaMITe, build_model
from dynamite_widget.model.predictor import ImageEmbedding, Predictor
from dynamite_widget.model.resize import preprocess
from dynamite_widget.session_state import Click

PUBLISHED = ("swin-tiny", "swin-large", "segformer-b0", "hrnet32", "resnet50")
PICTURE = Path(__file__).resolve().parents[1] / "notebooks" / "images" / "coffee.jpg"
#: Seconds; main() may exchange it for the processor's.
clock: Callable[[], float] = time.perf_counter


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


def read_picture(path: Path, long_side: int) -> NDArray[np.uint8]:
    """Read a photograph and resize it."""
    with Image.open(path) as picture:
        return resize(picture.convert("RGB"), long_side)


def resize(picture: Image.Image, long_side: int) -> NDArray[np.uint8]:
    scale = long_side / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return np.array(picture.resize(size, Image.Resampling.BICUBIC))


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
    start = clock()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) * 1e3, result


def compute_for_ever() -> None:
    while True:
        pass


@contextlib.contextmanager
def true_float32() -> Iterator[None]:
    """Convolutions on CUDA devices round float32 to TF32 otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def measure_embed(
    predictor: Predictor, picture: NDArray[np.uint8], repeats: int
) -> tuple[ImageEmbedding, dict[str, float]]:
    """Embed in turns; the straightforward way only where there is one."""
    config, device = predictor.config, predictor.device

    @torch.inference_mode()
    def theirs() -> Any:
        pixels, _ = preprocess(picture, config)
        with predictor._precision():
            return straightforward.encode(
                predictor.model, torch.from_numpy(pixels)[None].to(device)
            )

    contenders: dict[str, Callable[[], Any]] = {"embed": lambda: predictor.embed(picture)}
    if config.name in PUBLISHED:
        contenders["straightforward"] = theirs
    times: dict[str, list[float]] = {name: [] for name in contenders}
    embedding = None
    for _ in range(max(1, repeats)):
        for name, call in contenders.items():
            milliseconds, result = timed(call, device)
            times[name].append(milliseconds)
            embedding = result if name == "embed" else embedding
    assert isinstance(embedding, ImageEmbedding)
    return embedding, {name: statistics.median(values) for name, values in times.items()}


def measure(
    predictor: Predictor,
    embedding: ImageEmbedding,
    count: int,
    repeats: int,
    exact_embedding: ImageEmbedding | None = None,
    graphed: Predictor | None = None,
) -> dict[str, Any]:
    """Predict `count` clicks in turns, from one embedding (on CUDA the exact from its own)."""
    height, width = embedding.height, embedding.width
    clicks = make_clicks(count, height, width)
    exact_predictor = Predictor(predictor.model, half=False, exact=True)
    on_cuda = predictor.device.type == "cuda"
    of_exact = exact_embedding if on_cuda and exact_embedding is not None else embedding

    def ours() -> NDArray[np.int32]:
        return predictor.predict(embedding, clicks).label_map

    def exact() -> NDArray[np.int32]:
        return exact_predictor.predict(of_exact, clicks).label_map

    def by_graph() -> NDArray[np.int32]:
        assert graphed is not None
        return graphed.predict(embedding, clicks).label_map

    def stop(_: object) -> None:
        raise Cancelled

    def encoder() -> None:
        """Run all encoder layers but the last."""
        with contextlib.suppress(Cancelled):
            predictor.predict(embedding, clicks, on_preview=stop)

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

    contenders: dict[str, Callable[[], NDArray[np.int32]]] = {"ours": ours, "exact": exact}
    if predictor.config.name in PUBLISHED:
        contenders["straightforward"] = theirs
    if graphed is not None:
        contenders["graphs"] = by_graph
    result: dict[str, Any] = {}
    labels: dict[str, NDArray[np.int32]] = {}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for name, call in contenders.items():  # warm-up, and where memory is watched
        with PeakMemory(predictor.device) as peak:
            labels[name] = call()
        result[f"{name}_bytes"] = peak.extra_bytes
    for _ in range(repeats):
        for name, call in contenders.items():
            times[name].append(timed(call, predictor.device)[0])
    for name, values in times.items():
        result[f"{name}_ms"] = round(statistics.median(values), 2)
    if predictor.device.type == "cpu":
        coarse = [timed(encoder, predictor.device)[0] for _ in range(repeats)]
        result["to_preview_ms"] = round(statistics.median(coarse), 2)
    # In half precision the straightforward order rounds as much as ours.
    reference = labels["exact"] if on_cuda else labels.get("straightforward", labels["exact"])
    result["agreement"] = float((labels["ours"] == reference).mean())
    if graphed is not None:
        result["graphs_agreement"] = float((labels["graphs"] == reference).mean())
    if exact_embedding is not None:
        whole = exact_predictor.predict(exact_embedding, clicks).label_map
        result["agreement_with_exact_embedding"] = float((labels["ours"] == whole).mean())
    # An object is lost if it has pixels in the reference and none here.
    found = set(np.unique(reference).tolist()) - set(np.unique(labels["ours"]).tolist())
    result["lost_objects"] = len(found - {0})
    result["ratio"] = round(
        result.get("straightforward_ms", result["exact_ms"]) / result["ours_ms"], 3
    )
    return result


def main() -> int:
    global clock
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="swin-tiny", choices=(*PUBLISHED, "lite"))
    parser.add_argument("--checkpoint", help="weights file; by default what load_model finds")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="photograph to resize")
    parser.add_argument("--drawn", action="store_true", help="a drawn picture of blobs instead")
    parser.add_argument("--long-side", type=int, default=1024, help="of the picture, in pixels")
    parser.add_argument("--clicks", default="1,5,20,100,200", help="numbers of clicks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--embed-repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--exact-embedding",
        action="store_true",
        help="compare labels also with those of an exact embedding (in the JSON)",
    )
    parser.add_argument(
        "--half",
        action=argparse.BooleanOptionalAction,
        help="embed in half precision (bfloat16 on CPUs); by default where it is fast",
    )
    parser.add_argument(
        "--graphs", action="store_true", help="measure graphs=True, too; on CUDA devices"
    )
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds of all threads")
    parser.add_argument(
        "--neighbour", action="store_true", help="let another process compute all the while"
    )
    parser.add_argument("--json", action="store_true", help="print one last line of JSON")
    arguments = parser.parse_args()
    if arguments.neighbour:
        multiprocessing.get_context("spawn").Process(target=compute_for_ever, daemon=True).start()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.cpu_time:
        clock = time.process_time
    counts = [int(part) for part in arguments.clicks.split(",")]
    model, origin = make_model(arguments.preset, arguments.checkpoint, arguments.device)
    predictor = Predictor(model, half=arguments.half)
    on_cuda = predictor.device.type == "cuda"
    if arguments.graphs and not on_cuda:
        parser.error(f"--graphs is for CUDA devices; the network is on {predictor.device}")
    graphed = Predictor(model, half=arguments.half, graphs=True) if arguments.graphs else None
    if graphed is not None and graphed._graphs is None:
        parser.error(f"{arguments.preset} has a refinement head, for which there are no graphs")
    if arguments.drawn or not arguments.picture.is_file():
        picture = make_picture(arguments.long_side)
    else:
        picture = read_picture(arguments.picture, arguments.long_side)
    embedding, embed_ms = measure_embed(predictor, picture, arguments.embed_repeats)
    exact_embedding = None
    if arguments.exact_embedding or on_cuda:
        with true_float32():
            exact_embedding = Predictor(model, half=False, exact=True).embed(picture)
    mib = 2**20
    print(
        f"{arguments.preset} ({origin}) on {predictor.device}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, embeddings in {predictor.precision}; "
        f"picture {picture.shape[1]} x {picture.shape[0]}, "
        f"network image {embedding.network_size[1]} x {embedding.network_size[0]}"
    )
    print(
        "embed "
        + ", ".join(f"{name} {value:.0f} ms" for name, value in embed_ms.items())
        + f"; the embedding holds {embedding.nbytes / mib:.0f} MiB"
    )
    print(
        "clicks   ours ms  preview  exact ms   straightforward ms   ratio   peak MiB   same labels"
        "   lost"
    )
    rows = []
    for count in counts:
        result = measure(predictor, embedding, count, arguments.repeats, exact_embedding, graphed)
        slow = result.get("straightforward_ms", float("nan"))
        print(
            f"{count:6d}{result['ours_ms']:10.1f}{result.get('to_preview_ms', float('nan')):9.1f}"
            f"{result['exact_ms']:10.1f}{slow:21.1f}"
            f"{result['ratio']:8.2f}{result['ours_bytes'] / mib:11.0f}"
            f"{result['agreement']:14.3%}{result['lost_objects']:7d}",
            flush=True,
        )
        if graphed is not None:
            print(
                f"       by graphs {result['graphs_ms']:.1f} ms, "
                f"{result['graphs_bytes'] / mib:.0f} MiB, "
                f"{result['graphs_agreement']:.3%} same labels",
                flush=True,
            )
        rows.append(
            {
                "preset": arguments.preset,
                "long_side": arguments.long_side,
                "clicks": count,
                **result,
            }
        )
    if arguments.json:
        embed = {f"{name}_ms": round(value, 1) for name, value in embed_ms.items()}
        if "straightforward" in embed_ms:
            embed["ratio"] = round(embed_ms["straightforward"] / embed_ms["embed"], 3)
        embed["bytes"] = embedding.nbytes
        print(json.dumps({"rows": rows, "embed": embed, "cpu_time": arguments.cpu_time}))
    if graphed is not None and graphed._graphs is not None and graphed._graphs.failed:
        print("graphs were given up, so these are times without them", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
