"""CVAT for images 1.1: one XML file with masks, or polygons on request.

Shapes of one instance share its id as their group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ..errors import ExportError
from ..rle import RLE
from .annotation_set import AnnotatedPicture, AnnotationSet, Cutout
from .files import OutputFile, read_bytes
from .options import Options, simplified_parts


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield the one file; merging replaces the pictures of the same name."""
    root = ElementTree.Element("annotations")
    if options.merge and path.exists():
        root = parse(path)
    else:
        ElementTree.SubElement(root, "version").text = "1.1"
    _add_labels(root, annotations)
    names = {xml_text(picture.name) for picture in annotations}
    for old in root.findall("image"):
        if old.get("name") in names:
            root.remove(old)
    numbers = [int(i) for image in root.findall("image") if (i := image.get("id", "")).isdigit()]
    for number, picture in enumerate(annotations, max(numbers, default=-1) + 1):
        root.append(_image(picture, number, options))
    ElementTree.indent(root, " ")
    data = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    yield OutputFile(path, data + b"\n", shared=options.merge)


def parse(path: Path) -> ElementTree.Element:
    """Return the root of a CVAT file; ExportError if it is none."""
    try:
        root = ElementTree.fromstring(read_bytes(path))
    except (ElementTree.ParseError, ValueError) as error:
        raise ExportError(f"{str(path)!r} is no XML file: {error}") from error
    if root.tag != "annotations":
        raise ExportError(f"{str(path)!r} is no CVAT file: its root is {root.tag!r:.60}")
    return root


def xml_text(text: str) -> str:
    """Replace what XML cannot hold (control characters, lone surrogates); the rest is escaped."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(
        c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "\ufffd" for c in text
    )


def _add_labels(root: ElementTree.Element, annotations: AnnotationSet) -> None:
    meta = root.find("meta")
    if meta is None:
        meta = ElementTree.SubElement(root, "meta")
    labels = meta.find(".//labels")
    if labels is None:
        labels = ElementTree.SubElement(ElementTree.SubElement(meta, "task"), "labels")
    known = {name.text for name in labels.findall("label/name")}
    for class_name in annotations.classes:
        if xml_text(class_name) not in known:
            label = ElementTree.SubElement(labels, "label")
            ElementTree.SubElement(label, "name").text = xml_text(class_name)
            ElementTree.SubElement(label, "attributes")


def _image(picture: AnnotatedPicture, number: int, options: Options) -> ElementTree.Element:
    image = ElementTree.Element(
        "image",
        id=str(number),
        name=xml_text(picture.name),
        width=str(picture.width),
        height=str(picture.height),
    )
    for cutout in picture.cutouts():
        parts = simplified_parts(cutout, options.tolerance) if options.polygons else []
        if parts and not any(part.holes for part in parts):
            for part in parts:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in part.outer.tolist())
                ElementTree.SubElement(image, "polygon", {**_common(cutout), "points": points})
        else:
            counts = RLE.from_mask(cutout.mask).lengths.tolist()
            box = {
                "left": str(cutout.x0),
                "top": str(cutout.y0),
                "width": str(cutout.x1 - cutout.x0),
                "height": str(cutout.y1 - cutout.y0),
            }
            runs = {"rle": ", ".join(map(str, counts))}
            ElementTree.SubElement(image, "mask", {**_common(cutout), **runs, **box})
    return image


def _common(cutout: Cutout) -> dict[str, str]:
    return {
        "label": xml_text(cutout.instance.class_name),
        "source": "semi-auto",
        "occluded": "0",
        "z_order": "0",
        "group_id": str(cutout.instance.id),
    }
