"""Time and memory of annotating sets: opening 100 000 files, going on, saving behind.

Measures, each in a process of its own:

- ``open``: seconds and peak memory of `DatasetAnnotator` on a folder of many (empty) files, with
  nothing annotated and with every picture in the index;
- ``move``: milliseconds of a step of the queue in sets of different size (it must not grow);
- ``next``: from `next` until the first click can be answered (the picture is embedded), with and
  without reading ahead, and with embeddings on the disk; needs the bundled model;
- ``jump``: with a slow network (`swin-tiny`, random weights) that is embedding the next picture,
  milliseconds until a click is answered and until another picture, embedded before, can be clicked;
  ``waiting`` is without giving way, which is what the widget did at first;
- ``batch``: milliseconds per picture of `Predictor.embed_many` in batches of 1, 2 and 4, of the
  bundled model; processor time of one thread on CPUs, wall time elsewhere; only when asked for;
- ``lag``: how long after an edit it is on the disk, at most.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2), 1)


def make_files(folder: Path, count: int, per_folder: int = 1000) -> None:
    for number in range(count):
        place = folder / f"part-{number // per_folder:04}"
        if number % per_folder == 0:
            place.mkdir(parents=True)
        os.close(os.open(place / f"picture_{number}.jpg", os.O_CREAT | os.O_WRONLY))


def make_pictures(folder: Path, count: int, size: tuple[int, int] = (480, 640)) -> None:
    """Write noisy photographs of discs."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    ys, xs = np.ogrid[: size[0], : size[1]]
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = np.empty((*size, 3), np.float32)
        pixels[:] = rng.integers(40, 120, 3)
        for _ in range(6):
            y, x, r = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.integers(20, 90)
            pixels[(ys - y) ** 2 + (xs - x) ** 2 < r**2] = rng.integers(80, 255, 3)
        pixels += rng.normal(0, 6, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.jpg")


def worker_open(folder: Path, known: bool) -> dict[str, Any]:
    began = time.perf_counter()
    from dynamite_widget import DatasetAnnotator

    imported, cpu = time.perf_counter(), time.process_time()
    annotator = DatasetAnnotator(folder / "pictures", folder / ("known" if known else "new"))
    opened = time.perf_counter()
    result = {
        "pictures": len(annotator),
        "open_s": round(opened - imported, 2),
        "open_cpu_s": round(time.process_time() - cpu, 2),
        "with_import_s": round(opened - began, 2),
        "peak_mb": peak_mb(),
    }
    annotator.store.close()
    return result


def worker_fill(folder: Path) -> dict[str, Any]:
    """Write an index in which every picture is done."""
    from dynamite_widget.annotator.index import Record, record_entry
    from dynamite_widget.annotator.listing import scan
    from dynamite_widget.annotator.store import AnnotationStore

    store = AnnotationStore(folder / "known")
    record = Record("done", False, "", 3, 5, ("cat", "dog"), 21.5, 0.93, 0.01, 1.8e9)
    store._index.append(record_entry(key, record) for key in scan(folder / "pictures"))
    store.close()
    return {}


def worker_move(folder: Path) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "tests"))
    from kernel_fakes import FakePredictor

    from dynamite_widget import DatasetAnnotator

    result = {}
    picture = str(folder / "small" / "0000.jpg")
    for count in (100, 100_000):
        source = {f"{n:06}.jpg": picture for n in range(count)}
        output = folder / f"move-{count}"
        annotator = DatasetAnnotator(source, output, predictor=FakePredictor(), prefetch=False)
        annotator.open(count // 2)
        times = []
        for _ in range(40):
            annotator.widget.wait()
            began = time.perf_counter()
            annotator.mark(status="done")
            annotator.next()
            times.append((time.perf_counter() - began) * 1000)
        result[f"median_ms_of_{count}"] = round(statistics.median(times), 1)
        annotator.close()
    return result


def worker_next(folder: Path, how: str, pictures: int) -> dict[str, Any]:
    from dynamite_widget import DatasetAnnotator, Predictor, load_model
    from dynamite_widget.annotator import precompute

    predictor = Predictor(load_model())
    source, output = folder / "photos", folder / f"next-{how}"
    if how == "disk":
        precompute(source, output / "embeddings", predictor=predictor)
    annotator = DatasetAnnotator(source, output, predictor=predictor, prefetch=how == "ahead")
    annotator.widget.wait()
    times = []
    for _ in range(pictures - 1):
        if how == "ahead":
            settle(annotator)  # a person looks at the picture meanwhile
        began = time.perf_counter()
        annotator.next()
        annotator.widget.wait()  # embedded, and the state without clicks answered
        times.append((time.perf_counter() - began) * 1000)
    annotator.close()
    return {"median_ms": round(statistics.median(times), 1), "worst_ms": round(max(times), 1)}


def settle(annotator: Any) -> None:
    """Wait until the next picture is read and embedded."""
    from dynamite_widget.answers import Job

    annotator._desk._ahead_thread.drain()
    idle = threading.Event()
    controller = annotator.widget.controller
    # As one that is ahead it waits for those before it.
    job = Job(lambda *_: idle.set(), idle.set, lambda _: idle.set(), ahead=controller.picture)
    controller.ask(job)
    idle.wait()


def worker_jump(folder: Path, gives_way: bool) -> dict[str, Any]:
    import contextlib

    import torch

    from dynamite_widget import DatasetAnnotator, Predictor, inference
    from dynamite_widget.model.config import get_config
    from dynamite_widget.model.dynamite import build_model

    if not gives_way:
        vars(inference)["interruptible"] = lambda _: contextlib.nullcontext()
    torch.manual_seed(0)
    predictor = Predictor(build_model(get_config("swin-tiny")))
    output = folder / f"jump-{gives_way}"
    annotator = DatasetAnnotator(folder / "photos", output, predictor=predictor)

    def measure(act: Any) -> float:
        began = time.perf_counter()
        act()
        annotator.widget.wait()
        return round((time.perf_counter() - began) * 1000)

    def look_at(place: int) -> None:
        annotator.open(place)
        annotator.widget.wait()
        annotator._desk._ahead_thread.drain()
        time.sleep(0.5)  # the picture behind it is being embedded now

    result = {"embed_ms": measure(lambda: annotator.open(0))}
    look_at(0)
    result["click_ms"] = measure(lambda: annotator.current.click(100, 100, "new"))
    look_at(2)
    result["jump_ms"] = measure(lambda: annotator.open(0))
    annotator.close()
    return result


def worker_batch() -> dict[str, Any]:
    import numpy as np
    import torch

    from dynamite_widget import Predictor, load_model

    predictor = Predictor(load_model())
    on_cpu = predictor.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    if on_cpu:
        torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (768, 1024, 3), np.uint8) for _ in range(4)]
    result: dict[str, Any] = {"device": str(predictor.device)}
    for batch_size in (1, 2, 4):
        times = []
        for _ in range(4):
            began = clock()
            embeddings = predictor.embed_many(pictures, batch_size=batch_size)
            float(embeddings[-1].prepared.features.mask_features[0, 0, 0, 0])
            times.append((clock() - began) * 1000 / len(pictures))
        result[f"ms_in_batches_of_{batch_size}"] = round(min(times[1:]))
    return result


def worker_lag(folder: Path) -> dict[str, Any]:
    """Click at random moments, and see when a file that has the click is there."""
    import random

    sys.path.insert(0, str(ROOT / "tests"))
    from kernel_fakes import FakePredictor

    from dynamite_widget import DatasetAnnotator

    annotator = DatasetAnnotator(folder / "small", folder / "lag", predictor=FakePredictor())
    item = annotator.current
    path = annotator.store.session_path(item.name)
    rng = random.Random(0)
    lags = []
    for number in range(60):
        clicked = time.perf_counter()
        item.click(number, rng.randrange(60), "new")
        wanted = f'"x": {number},'
        while not (path.exists() and wanted in path.read_text()):
            time.sleep(0.005)
        lags.append((time.perf_counter() - clicked) * 1000)
        time.sleep(rng.random() * 0.1)
    annotator.close()
    return {"median_ms": round(statistics.median(lags)), "worst_ms": round(max(lags))}


def ask(folder: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", str(folder), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(" ".join(arguments), answer, flush=True)
    return answer


def work(folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    if name == "open":
        return worker_open(folder, arguments[0] == "known")
    if name == "next":
        return worker_next(folder, arguments[0], int(arguments[1]))
    if name == "jump":
        return worker_jump(folder, arguments[0] == "giving-way")
    if name == "batch":
        return worker_batch()
    return {"fill": worker_fill, "move": worker_move, "lag": worker_lag}[name](folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=12, help="of the part 'next'")
    parser.add_argument("--parts", nargs="+", default=["open", "move", "next", "jump", "lag"])
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(Path(args.worker[0]), *args.worker[1:])))
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "open" in args.parts:
            make_files(folder / "pictures", args.files)
            results["open, new"] = ask(folder, "open", "new")
            ask(folder, "fill")
            results["open, all done"] = ask(folder, "open", "known")
        make_pictures(folder / "small", 2, (60, 80))
        if "move" in args.parts:
            results["move"] = ask(folder, "move")
        if {"next", "jump"} & set(args.parts):
            make_pictures(folder / "photos", args.pictures)
        if "jump" in args.parts:
            for how in ("waiting", "giving-way"):
                results[f"jump, {how}"] = ask(folder, "jump", how)
        if "next" in args.parts:
            for how in ("plain", "ahead", "disk"):
                results[f"next, {how}"] = ask(folder, "next", how, str(args.pictures))
        if "batch" in args.parts:
            results["batch"] = ask(folder, "batch")
        if "lag" in args.parts:
            results["lag"] = ask(folder, "lag")
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
