"""Data sets for evaluation, opened by a short text such as ``coco:instances.json:images/``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import DataError
from .base import Entry, EvaluationDataset
from .coco import LVIS_HELP, open_coco
from .folders import open_davis_frames, open_paired, open_sbd, open_voc

__all__ = [
    "DATASETS",
    "Entry",
    "EvaluationDataset",
    "open_coco",
    "open_davis_frames",
    "open_evaluation_dataset",
    "open_paired",
    "open_sbd",
    "open_voc",
]

DATASETS = {
    "coco": "coco:ANNOTATIONS.json[.gz][:PICTURES] - any COCO file; PICTURES is a folder or a tar "
    "file, default: beside the annotations",
    "coco-val2017": "coco-val2017:ROOT - ROOT/annotations/instances_val2017.json, ROOT/val2017",
    "lvis": "lvis:ANNOTATIONS.json:ROOT - LVIS v1; ROOT holds train2017 and val2017",
    "grabcut": "grabcut:ROOT - ROOT/data_GT, ROOT/boundary_GT",
    "berkeley": "berkeley:ROOT - ROOT/images, ROOT/masks",
    "davis": "davis:ROOT - the 345 frames of the literature: ROOT/img, ROOT/gt",
    "coco-mval": "coco-mval:ROOT - ROOT/img, ROOT/gt",
    "sbd": "sbd:ROOT - ROOT/img, ROOT/inst, ROOT/val.txt (benchmark_RELEASE/dataset)",
    "voc": "voc:ROOT - Pascal VOC, ROOT/JPEGImages, ROOT/SegmentationObject, ROOT/ImageSets",
    "davis2016": "davis2016:ROOT - every frame, all objects as one",
    "davis2017": "davis2017:ROOT - ROOT/JPEGImages/480p, ROOT/Annotations/480p, ROOT/ImageSets",
}
"""Kinds of data sets, with how they are written and which files they need."""


def open_evaluation_dataset(
    specification: str, *, min_area_fraction: float = 0.0
) -> EvaluationDataset:
    """Open a data set.

    Parameters
    ----------
    specification : str
        ``kind:path[:path]`` with a kind of `DATASETS`; a lone path of a JSON file means ``coco``.
    min_area_fraction : float
        Objects whose visible area is below this fraction of their picture become background.

    Raises
    ------
    DataError
        For an unknown kind, a wrong number of paths, or missing files (the message says what was
        expected where, and how to get the set).
    """
    kind, paths = _split(specification)
    dataset = _open(kind, paths, specification)
    dataset.min_area_fraction = min_area_fraction
    return dataset


def _split(specification: str) -> tuple[str, list[str]]:
    parts: list[str] = []
    for part in specification.split(":"):
        if parts and len(parts[-1]) == 1 and parts[-1].isalpha() and part[:1] in ("\\", "/"):
            parts[-1] += ":" + part  # a Windows drive is not a part of its own
        else:
            parts.append(part)
    if parts[0] in DATASETS:
        return parts[0], [part for part in parts[1:] if part]
    if Path(specification).name.endswith((".json", ".json.gz")):
        return "coco", [specification]
    known = "\n  ".join(DATASETS.values())
    raise DataError(f"unknown data set {specification!r}; known are\n  {known}")


def _open(kind: str, paths: list[str], specification: str) -> EvaluationDataset:
    counts = {"coco": (1, 2), "lvis": (1, 2)}.get(kind, (1, 1))
    if not counts[0] <= len(paths) <= counts[1]:
        raise DataError(f"{specification!r} does not fit; expected {DATASETS[kind]}")
    root = Path(paths[0])
    openers: dict[str, Callable[[], EvaluationDataset]] = {
        "coco": lambda: open_coco(*paths),
        "lvis": lambda: open_coco(*paths, name="LVIS", how_to_get=LVIS_HELP),
        "coco-val2017": lambda: open_coco(
            root / "annotations" / "instances_val2017.json", root / "val2017", name="COCO val2017"
        ),
        "grabcut": lambda: open_paired("GrabCut", root, "data_GT", "boundary_GT", ignore_value=128),
        "berkeley": lambda: open_paired("Berkeley", root, "images", "masks", ignore_value=128),
        "davis": lambda: open_paired("DAVIS", root, "img", "gt"),
        "coco-mval": lambda: open_paired("COCO-MVal", root, "img", "gt"),
        "sbd": lambda: open_sbd(root),
        "voc": lambda: open_voc(root),
        "davis2016": lambda: open_davis_frames(root, 2016),
        "davis2017": lambda: open_davis_frames(root, 2017),
    }
    return openers[kind]()
