"""Time and memory of exporting many pictures: each format in a process of its own.

Makes session files with masks (ellipses, some with holes), then reads and exports them, as
``dynamite export`` does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FORMATS = ("coco", "yolo-seg", "label-png", "npz", "geojson", "labelme", "cvat", "voc")


def make_sessions(folder: Path, pictures: int, instances: int, height: int, width: int) -> None:
    from dynamite_widget.segmentation import Segmentation
    from dynamite_widget.session import ClickSession

    rng = np.random.default_rng(0)
    ys, xs = np.ogrid[:height, :width]
    for number in range(pictures):
        labels = np.zeros((height, width), np.uint16)
        for instance in range(1, instances + 1):
            y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
            b, a = rng.integers(10, height // 5), rng.integers(10, width // 5)
            distance = ((ys - y) / b) ** 2 + ((xs - x) / a) ** 2
            labels[distance <= 1] = instance
            if instance % 5 == 0:
                labels[distance <= 0.1] = 0
        session = ClickSession(height, width, image_name=f"{number:05}.jpg")
        for instance in range(1, instances + 1):
            found = np.argwhere(labels == instance)
            y, x = found[len(found) // 2] if len(found) else (0, instance)
            session.click(int(x), int(y), "new", class_name=f"class {instance % 7}")
        ids = range(1, instances + 1)
        session.keep_masks(Segmentation.from_label_map(labels, ids))
        session.save(folder / f"{number:05}.json")


def measure(sessions: Path, name: str, polygons: bool) -> dict[str, float]:
    from dynamite_widget.export import FORMATS as KNOWN
    from dynamite_widget.export import AnnotationSet, export

    began = time.perf_counter(), time.process_time()
    annotations = AnnotationSet.from_sessions([sessions])
    read = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        suffix = "" if KNOWN[name].per_picture else KNOWN[name].suffix
        written = export(annotations, Path(folder) / f"out{suffix}", name, polygons=polygons)
        done = time.perf_counter(), time.process_time()
        size = sum(path.stat().st_size for path in written)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "read_s": round(read[0] - began[0], 2),
        "write_s": round(done[0] - read[0], 2),
        "cpu_s": round(done[1] - began[1], 2),
        "peak_mb": round(peak / (1024 if sys.platform != "darwin" else 1024**2)),
        "files": len(written),
        "written_mb": round(size / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("H", "W"))
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--polygons", action="store_true")
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(Path(args.worker[0]), args.worker[1], args.polygons)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        make_sessions(Path(folder), args.pictures, args.instances, *args.size)
        print(f"{args.pictures} pictures of {args.size}, {args.instances} instances each")
        print(f"{'format':14}{'read s':>8}{'write s':>9}{'CPU s':>8}{'peak MB':>9}{'MB':>8}")
        for name in args.formats:
            command = [sys.executable, __file__, "--worker", folder, name]
            command += ["--polygons"] if args.polygons else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            r = results[name] = json.loads(done.stdout)
            print(
                f"{name:14}{r['read_s']:8}{r['write_s']:9}{r['cpu_s']:8}{r['peak_mb']:9}"
                f"{r['written_mb']:8}",
                flush=True,
            )
    if args.json:
        print(json.dumps({"pictures": args.pictures, "results": results}))


if __name__ == "__main__":
    main()
