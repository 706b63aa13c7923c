"""Label PNG: one indexed (8 bit) or gray (16 bit) PNG per picture, the values are instance ids.

Class names, colours and instances without pixels are in a text chunk; other readers see the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .annotation_set import AnnotatedPicture, AnnotationSet
from .files import OutputFile
from .options import Options
from .png import encode
from .targets import each_picture


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield one PNG per picture."""
    for picture, target in each_picture(annotations, path, ".png"):
        colours = {i.id: i.colour for i in picture.instances}
        data = encode(picture.label_map, colours=colours, note=picture_note(picture))
        yield OutputFile(target, data, shared=options.merge)


def picture_note(picture: AnnotatedPicture) -> dict[str, Any]:
    """Return name and instances of a picture for a text chunk."""
    return {
        "name": picture.name,
        "classes": list(picture.classes),
        "instances": [
            {"id": i.id, "class": i.class_name, "colour": i.colour} for i in picture.instances
        ],
    }
