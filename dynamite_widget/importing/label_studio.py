"""Label Studio: tasks with brush masks or polygons (JSON export)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..export.annotation_set import AnnotationSet
from ..export.coco import load_json
from ..export.polygons import Part, fill_edges
from .reading import NUMBER_ERRORS, Draft, Problems

_OURS = re.compile(r"instance-(\d{1,5})(-\d+)?")


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read a file; of several annotations of a task, the first that was not cancelled.

    Tasks without regions are left out: they do not know the size of their picture.
    """
    content = load_json(path)
    if not isinstance(content, list):
        raise ExportError(f"{str(path)!r} is no list of Label Studio tasks")
    problems = Problems(path)
    pictures = []
    for index, task in enumerate(content):
        try:
            draft = _draft(task, problems)
            if draft is None:
                problems.add(f"task {index}: nothing is labelled")
            else:
                pictures.append(draft.finish()[0])
        except NUMBER_ERRORS as error:
            problems.add(f"task {index}: {error!r:.120}")
    problems.report()
    return AnnotationSet(pictures)


def decode_brush(data: list[int], height: int, width: int) -> np.ndarray:
    """Return the (H, W) bool mask (alpha > 0) of Label Studio's run lengths.

    Raises
    ------
    ValueError
        If they do not fill the picture.
    """
    bits = "".join(f"{byte:08b}" for byte in data)
    position = 0

    def number(count: int) -> int:
        nonlocal position
        if position + count > len(bits):
            raise ValueError("brush data that end too early")
        value = int(bits[position : position + count], 2)
        position += count
        return value

    total, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    if total != 4 * height * width or word != 8:
        raise ValueError(f"brush data of {total} bytes for {height} x {width} RGBA pixels")
    out = np.zeros(total, np.uint8)
    filled = 0
    while filled < total:
        run = number(1)
        length = number(sizes[number(2)]) + 1
        if filled + length > total:
            raise ValueError("brush data that do not fit the picture")
        if run:
            out[filled : filled + length] = number(word)
        else:
            out[filled : filled + length] = [number(word) for _ in range(length)]
        filled += length
    return out.reshape(height, width, 4)[:, :, 3] > 0


def _draft(task: Mapping[str, Any], problems: Problems) -> Draft | None:
    done = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    regions = done[0]["result"] if done else []
    draft: Draft | None = None
    masks: dict[Any, tuple[np.ndarray, Any, int | None]] = {}
    for region in regions:
        kind = region.get("type")
        if kind not in ("brushlabels", "polygonlabels"):
            problems.add(f"a region of type {kind!r:.40}")
            continue
        if draft is None:
            name = str(task["data"]["image"]).rsplit("/", 1)[-1]
            draft = Draft(name, region["original_height"], region["original_width"])
        value = region["value"]
        if kind == "brushlabels":
            mask = decode_brush(value["rle"], draft.height, draft.width)
        else:
            scale = (draft.width / 100, draft.height / 100)
            points = np.round(np.asarray(value["points"], float) * scale, 3)
            mask = fill_edges([Part(points, ())], draft.height, draft.width)
        match = _OURS.fullmatch(str(region.get("id")))
        key = int(match[1]) if match else ("region", len(masks))
        if key in masks:
            mask = mask | masks[key][0]
        masks[key] = (mask, (value.get(kind) or ["object"])[0], int(match[1]) if match else None)
    if draft is not None:
        for mask, label, number in masks.values():
            draft.add(mask, label, number)
    return draft
