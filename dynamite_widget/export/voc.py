"""Pascal VOC segmentation: class and object PNGs, a list of pictures and one of class names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .annotation_set import AnnotationSet
from .files import OutputFile, read_bytes
from .label_png import picture_note
from .options import Options
from .png import encode
from .targets import picture_copy, with_stems

VOID = 255
CLASSES = "classes.txt"
LIST = Path("ImageSets") / "Segmentation" / "default.txt"


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield the PNGs of each picture; 16 bits deep where 8 bits (with void) are not enough.

    Object PNGs hold instance ids; class PNGs line numbers of ``classes.txt``, background first.
    """
    names, stems = list[str](), list[str]()
    if options.merge:
        names, stems = _lines(path / CLASSES)[1:], _lines(path / LIST)
    # Line 0 is the background; a class of that name, if there is one, has a line of its own.
    names = list(dict.fromkeys((*names, *annotations.classes)))
    number = {name: index for index, name in enumerate(names, 1)}
    palette = colour_map()
    for picture, stem in with_stems(annotations):
        labels = picture.label_map
        table = np.zeros(max(picture.ids, default=0) + 1, np.int32)
        for instance in picture.instances:
            table[instance.id] = number[instance.class_name]
        for folder, values in (
            ("SegmentationClass", table[labels]),
            ("SegmentationObject", labels),
        ):
            if values.max(initial=0) >= VOID:
                # 255 means void in 8 bits; a file 16 bits deep has no palette.
                data = encode(values.astype(np.uint16), note=picture_note(picture), deep=True)
            else:
                data = encode(values, palette=palette, note=picture_note(picture))
            yield OutputFile(path / folder / f"{stem}.png", data, shared=options.merge)
        if options.copy_images:
            yield picture_copy(picture, path / "JPEGImages", stem)
        if stem not in stems:
            stems.append(stem)
    for file, lines in ((CLASSES, ["background", *names]), (LIST, stems)):
        text = "".join(f"{line}\n" for line in lines)
        yield OutputFile(path / file, text.encode(), shared=options.merge)


def colour_map() -> list[int]:
    """Return the palette of the VOC development kit, 256 times red, green, blue."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return [int(value) for value in colours.ravel()]


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return read_bytes(path).decode("utf-8", "replace").splitlines()
