"""Binary PNG per instance (0 and 255): ``<picture>/0001_<class>.png``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .annotation_set import AnnotatedInstance, AnnotationSet
from .files import OutputFile, clean, unique_stems
from .options import Options
from .png import encode


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield one PNG per instance, empty ones included: all black."""
    stems = unique_stems(picture.name for picture in annotations)
    for picture, stem in zip(annotations, stems, strict=True):
        found = {cutout.instance.id: cutout for cutout in picture.cutouts()}
        for instance in picture.instances:
            values = np.zeros((picture.height, picture.width), np.uint8)
            if instance.id in found:
                values[found[instance.id].full(picture.height, picture.width)] = 255
            note = {
                "name": picture.name,
                "instances": [
                    {"id": instance.id, "class": instance.class_name, "colour": instance.colour}
                ],
            }
            target = path / stem / f"{instance_stem(instance)}.png"
            yield OutputFile(target, encode(values, note=note), shared=options.merge)


def instance_stem(instance: AnnotatedInstance) -> str:
    """Return ``0001_class``, fit for a file name."""
    return f"{instance.id:04d}_{clean(instance.class_name)[:40]}".rstrip(" ._")
