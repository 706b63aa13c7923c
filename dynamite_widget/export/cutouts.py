"""Cut-outs: the pixels of each instance as an RGBA PNG, cropped to its box. Needs the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import ExportError
from ..images import load_image
from .annotation_set import AnnotatedPicture, AnnotationSet
from .files import OutputFile, unique_stems
from .mask_png import instance_stem
from .options import Options
from .png import encode


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield one PNG per instance that has pixels; alpha is 255 inside and 0 outside."""
    stems = unique_stems(picture.name for picture in annotations)
    for picture, stem in zip(annotations, stems, strict=True):
        pixels = _pixels(picture)
        for cutout in picture.cutouts():
            alpha = cutout.mask.astype(np.uint8) * 255
            crop = pixels[cutout.y0 : cutout.y1, cutout.x0 : cutout.x1]
            # What is outside is not only hidden but gone: viewers may ignore alpha.
            crop = np.where(cutout.mask[:, :, None], crop, 0).astype(np.uint8)
            note = {"name": picture.name, "box": [cutout.x0, cutout.y0, cutout.x1, cutout.y1]}
            data = encode(np.dstack((crop, alpha)), note=note)
            target = path / stem / f"{instance_stem(cutout.instance)}.png"
            yield OutputFile(target, data, shared=options.merge)


def _pixels(picture: AnnotatedPicture) -> np.ndarray:
    if picture.image is None:
        raise ExportError(
            f"cut-outs need the picture {picture.name!r}; give the folder of the pictures "
            "(images=..., --images)"
        )
    pixels = load_image(picture.image)
    if pixels.shape[:2] != (picture.height, picture.width):
        raise ExportError(
            f"{picture.name!r} is {pixels.shape[0]} x {pixels.shape[1]} pixels, its masks are "
            f"{picture.height} x {picture.width}"
        )
    return pixels
