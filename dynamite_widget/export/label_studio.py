"""Label Studio: a JSON list of tasks with brush masks (their run lengths), or polygons on request.

Labelling configuration that fits: ``BrushLabels`` (or ``PolygonLabels``) named ``label`` on an
``Image`` named ``image``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__, rle
from ..errors import ExportError
from .annotation_set import AnnotatedPicture, AnnotationSet, Cutout
from .coco import dump_json, load_json
from .files import OutputFile
from .options import Options, simplified_parts

WORD_BITS = 8
RUN_BITS = (3, 4, 8, 16)
_LONGEST = 2 ** RUN_BITS[-1]


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield the one file; merging replaces the tasks of the same pictures."""
    tasks = [to_task(p, options.polygons, options.tolerance) for p in annotations]
    if options.merge and path.exists():
        existing = load_json(path)
        if not isinstance(existing, list) or any(not isinstance(t, dict) for t in existing):
            raise ExportError(f"{str(path)!r} is no list of Label Studio tasks")
        new = {task["data"]["image"] for task in tasks}
        old = [
            t
            for t in existing
            if not isinstance(t.get("data"), dict) or t["data"].get("image") not in new
        ]
        tasks = [*old, *tasks]
    yield OutputFile(path, dump_json(tasks), shared=options.merge)


def to_task(
    picture: AnnotatedPicture, polygons: bool = False, tolerance: float = 0.0
) -> dict[str, Any]:
    """Return a picture as a task with one finished annotation."""
    result = []
    for cutout in picture.cutouts():
        parts = simplified_parts(cutout, tolerance) if polygons else []
        if parts and not any(part.holes for part in parts):
            scale = np.asarray((100 / picture.width, 100 / picture.height))
            for number, part in enumerate(parts):
                value = {"points": (part.outer * scale).tolist(), "closed": True}
                result.append(_region(picture, cutout, "polygonlabels", value, number))
        else:
            full = cutout.full(picture.height, picture.width)
            value = {"format": "rle", "rle": encode_brush(full)}
            result.append(_region(picture, cutout, "brushlabels", value, 0))
    return {
        "data": {"image": picture.name},
        "annotations": [
            {
                "result": result,
                "was_cancelled": False,
                "ground_truth": False,
                **({} if picture.seconds is None else {"lead_time": picture.seconds}),
            }
        ],
        "meta": {"dynamite": {"version": __version__, "checkpoint": picture.checkpoint_hash}},
    }


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bytes of Label Studio's run lengths of an (H, W) mask.

    The picture counts as RGBA, four equal bytes per pixel. After a header (number of bytes in 32
    bits, bits per word - 1 in 5, four run sizes - 1 in 4 each) follow the runs: a 1, two bits for
    the size of the length, the length - 1, the byte.
    """
    lengths, inside = rle.encode(mask)
    bits = [f"{4 * mask.size:032b}", f"{WORD_BITS - 1:05b}", *(f"{n - 1:04b}" for n in RUN_BITS)]
    for length, value in zip((lengths.astype(np.int64) * 4).tolist(), inside.tolist(), strict=True):
        word = "11111111" if value else "00000000"
        while length:
            run = min(length, _LONGEST)
            size = next(k for k, n in enumerate(RUN_BITS) if run <= 2**n)
            bits.append(f"1{size:02b}{run - 1:0{RUN_BITS[size]}b}{word}")
            length -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]


def _region(
    picture: AnnotatedPicture, cutout: Cutout, kind: str, value: dict[str, Any], number: int
) -> dict[str, Any]:
    instance = cutout.instance
    return {
        "id": f"instance-{instance.id}" + (f"-{number + 1}" if number else ""),
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": picture.width,
        "original_height": picture.height,
        "image_rotation": 0,
        "score": instance.score,
        "value": {**value, kind: [instance.class_name]},
    }
