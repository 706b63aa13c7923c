"""Instance data: COCO-format and LVIS-format annotation files, pictures, and how they are sampled.

A data set hands out RGB pictures and integer label maps; what is done to them is the business of
`dynamite_widget.training.augment`.
"""

from __future__ import annotations

import fnmatch
import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dynamite_widget.coco_format import (
    decode_segment,
    picture_name,
    read_coco_file,
    read_segment,
)
from dynamite_widget.errors import DataError
from dynamite_widget.training.pictures import PictureStore

logger = logging.getLogger(__name__)

OnProblem = Literal["skip", "refuse"]
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


@dataclass(frozen=True)
class Annotated:
    """One picture with its instances, as read from an annotation file.

    Attributes
    ----------
    file_name : str
        Name under which a `PictureStore` finds the picture.
    source : str
        Where the picture comes from; the unit of balanced sampling.
    height, width : int
        Size in pixels that the annotations refer to.
    segments : tuple of dict
        Compressed RLE (pycocotools) of every instance, in descending order of area.
    areas : tuple of int
        Pixels of each segment, before smaller ones are painted over it.
    boxes : tuple of (x, y, width, height)
        Bounding boxes in pixels.
    """

    file_name: str
    source: str
    height: int
    width: int
    segments: tuple[dict[str, Any], ...]
    areas: tuple[int, ...]
    boxes: tuple[tuple[float, float, float, float], ...]


class _Problems:
    """Collects what is wrong with an annotation file: refuse at once, or skip and sum up."""

    def __init__(self, path: Path, on_problem: OnProblem) -> None:
        self.path, self.on_problem, self.messages = path, on_problem, list[str]()

    def add(self, message: str) -> None:
        if self.on_problem == "refuse":
            raise DataError(f"{self.path}: {message}")
        self.messages.append(message)

    def report(self) -> None:
        if self.messages:
            shown = "; ".join(self.messages[:5])
            more = f"; and {len(self.messages) - 5} more" if len(self.messages) > 5 else ""
            logger.warning(
                "%s: %d annotations skipped: %s%s", self.path, len(self.messages), shown, more
            )


def read_annotations(
    path: str | Path,
    *,
    on_problem: OnProblem = "skip",
    min_area_px: int = 1,
) -> list[Annotated]:
    """Read a COCO-format or LVIS-format file (``.json`` or ``.json.gz``).

    Parameters
    ----------
    path : path
        The annotation file. Crowd regions are left out; an image entry may carry ``source``.
    on_problem : {"skip", "refuse"}
        What to do with an unusable annotation (unknown picture, broken shape, empty mask):
        leave it out and log a summary, or raise.
    min_area_px : int
        Instances with fewer pixels are left out silently (0-pixel ones count as problems).

    Returns
    -------
    list of Annotated
        Pictures with at least one instance, in file order.

    Raises
    ------
    DataError
        If the file is no such file, nothing usable is in it, or by `on_problem`.
    """
    from pycocotools import mask as rle

    path = Path(path)
    content = read_coco_file(path)
    problems = _Problems(path, on_problem)
    images: dict[Any, tuple[str, str, int, int]] = {}
    for number, image in enumerate(content["images"]):
        try:
            name = picture_name(image)
            source = str(image.get("source") or "")
            images[image["id"]] = (name, source, int(image["height"]), int(image["width"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.add(f"image entry {number} is unusable ({error!r})")
    found: dict[Any, list[tuple[int, dict[str, Any], Any]]] = {}
    for annotation in content["annotations"]:
        label = annotation.get("id", "without id") if isinstance(annotation, dict) else "malformed"
        try:
            if annotation.get("iscrowd"):
                continue
            key = annotation["image_id"]
            if key not in images:
                problems.add(f"annotation {label} belongs to unknown picture {key!r}")
                continue
            segment = read_segment(annotation, images[key][2], images[key][3])
            area = int(rle.area(segment))
            if area == 0:
                problems.add(f"annotation {label} of {images[key][0]!r} has an empty mask")
            elif area >= min_area_px:
                found.setdefault(key, []).append((area, segment, rle.toBbox(segment).tolist()))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.add(f"annotation {label} is unusable ({error})")
    problems.report()
    pictures = []
    for key, (name, source, height, width) in images.items():
        if key in found:
            areas, segments, boxes = zip(*sorted(found[key], key=lambda e: -e[0]), strict=True)
            boxes = tuple(tuple(box) for box in boxes)
            pictures.append(Annotated(name, source, height, width, segments, areas, boxes))
    if not pictures:
        raise DataError(f"{path}: no picture with a usable instance")
    return pictures


def combine(
    first: Sequence[Annotated], second: Sequence[Annotated], *, same_iou: float = 0.8
) -> list[Annotated]:
    """Merge two annotations of the same pictures, such as COCO and LVIS (section 6.1).

    All instances of `second` are kept; an instance of `first` is added unless it overlaps one of
    them with an IoU of at least `same_iou`. Pictures are matched by their file's base name.

    Returns
    -------
    list of Annotated
        Pictures of either list.
    """
    from pycocotools import mask as rle

    def base(picture: Annotated) -> str:
        return Path(picture.file_name).name

    merged = {base(picture): picture for picture in second}
    for picture in first:
        other = merged.get(base(picture))
        if other is None:
            merged[base(picture)] = picture
            continue
        if (other.height, other.width) != (picture.height, picture.width):
            raise DataError(
                f"{picture.file_name!r} is {picture.width}x{picture.height} in one file and "
                f"{other.width}x{other.height} in the other"
            )
        overlap = rle.iou(list(picture.segments), list(other.segments), [0] * len(other.segments))
        keep = [i for i in range(len(picture.segments)) if overlap[i].max() < same_iou]
        entries = [
            *zip(other.areas, other.segments, other.boxes, strict=True),
            *((picture.areas[i], picture.segments[i], picture.boxes[i]) for i in keep),
        ]
        areas, segments, boxes = zip(*sorted(entries, key=lambda e: -e[0]), strict=True)
        merged[base(picture)] = replace(other, segments=segments, areas=areas, boxes=boxes)
    return list(merged.values())


class InstanceDataset:
    """Pictures with label maps, and the probabilities with which they are sampled.

    Parameters
    ----------
    pictures : sequence of Annotated
        What `read_annotations` returned; pictures missing in `store` are skipped or refused.
    store : PictureStore
        Where their bytes are.
    source_weights : mapping of pattern to weight, optional
        ``fnmatch`` patterns, tried in order against file name and source (case ignored); the
        first match multiplies the probability of that source. No match counts as 1.
    on_problem : {"skip", "refuse"}
        What to do about missing pictures.

    Notes
    -----
    Sampling goes by source first, a source of n pictures having weight ``weight * sqrt(n)``, and
    uniformly over the pictures of the source. Label maps are cached, compressed, on first use.
    """

    def __init__(
        self,
        pictures: Sequence[Annotated],
        store: PictureStore,
        *,
        source_weights: Iterable[tuple[str, float]] = (),
        on_problem: OnProblem = "skip",
    ) -> None:
        missing = [p.file_name for p in pictures if p.file_name not in store]
        if missing and on_problem == "refuse":
            raise DataError(
                f"{len(missing)} pictures of the annotation file are missing, first {missing[0]!r}"
            )
        if missing:
            logger.warning("%d pictures are missing, first %r", len(missing), missing[0])
        self.pictures = [p for p in pictures if p.file_name in store]
        if not self.pictures:
            raise DataError(
                f"none of the {len(pictures)} annotated pictures was found, first "
                f"{pictures[0].file_name if pictures else None!r}; say where they are (--images)"
            )
        self.store = store
        self._maps: dict[int, tuple[bytes, str]] = {}
        self.probabilities = self._balance(tuple(source_weights))
        self._cumulated = np.cumsum(self.probabilities)
        self.by_source: dict[str, list[int]] = {}
        for index, picture in enumerate(self.pictures):
            self.by_source.setdefault(picture.source, []).append(index)

    def __len__(self) -> int:
        return len(self.pictures)

    def _balance(self, weights: tuple[tuple[str, float], ...]) -> NDArray[np.float64]:
        def weight(picture: Annotated) -> float:
            names = (picture.file_name.lower(), picture.source.lower())
            for pattern, value in weights:
                if any(fnmatch.fnmatch(name, pattern.lower()) for name in names):
                    return value
            return 1.0

        counts: dict[str, int] = {}
        for picture in self.pictures:
            counts[picture.source] = counts.get(picture.source, 0) + 1
        raw = np.array([weight(p) / np.sqrt(counts[p.source]) for p in self.pictures])
        if not (np.isfinite(raw).all() and raw.min() >= 0 and raw.sum() > 0):
            raise DataError("source weights must be finite, >= 0 and not all zero")
        return raw / raw.sum()

    def pick(self, rng: np.random.Generator) -> int:
        """Draw the index of a picture, balanced over sources."""
        index = np.searchsorted(self._cumulated, rng.random() * self._cumulated[-1], side="right")
        return min(int(index), len(self) - 1)

    def picture(self, index: int, reduce: int = 1) -> NDArray[np.uint8]:
        """Decode picture `index`.

        Parameters
        ----------
        index : int
            Position in `pictures`.
        reduce : {1, 2, 4, 8}
            Decode at this fraction of the size (cheap for JPEG, and free of aliasing).

        Returns
        -------
        (H, W, 3) uint8
            RGB, at about 1/reduce of the annotated size. EXIF orientation is not applied:
            annotations refer to the stored pixels.

        Raises
        ------
        DataError
            If the picture is damaged or of another size than its annotations.
        """
        record = self.pictures[index]
        encoded = np.frombuffer(self.store.read(record.file_name), np.uint8)
        flags = _REDUCED[reduce] | cv2.IMREAD_IGNORE_ORIENTATION
        decoded = cv2.imdecode(encoded, flags) if encoded.size else None
        if decoded is None:
            raise DataError(f"picture {record.file_name!r} cannot be decoded")
        height, width = decoded.shape[:2]
        expected = (-(-record.height // reduce), -(-record.width // reduce))
        if abs(height - expected[0]) > 1 or abs(width - expected[1]) > 1:
            raise DataError(
                f"picture {record.file_name!r} is {width}x{height} (decoded at 1/{reduce}), its "
                f"annotations say {record.width}x{record.height}"
            )
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)

    def label_map(self, index: int) -> NDArray[Any]:
        """Return the label map of picture `index`.

        Returns
        -------
        (H, W) uint8 or uint16
            0 background, k the k-th instance of `pictures[index]`; smaller ones on top.
        """
        record = self.pictures[index]
        shape = (record.height, record.width)
        if index not in self._maps:
            dtype = np.uint8 if len(record.segments) < 256 else np.uint16
            label_map = np.zeros(shape, dtype)
            for number, segment in enumerate(record.segments, 1):
                x, y, w, h = (int(v) for v in record.boxes[number - 1])
                part = decode_segment(segment)[y : y + h, x : x + w]
                label_map[y : y + h, x : x + w][part > 0] = number
            self._maps[index] = (zlib.compress(label_map.tobytes(), 1), label_map.dtype.str)
            return label_map
        packed, kind = self._maps[index]
        return np.frombuffer(zlib.decompress(packed), kind).reshape(shape)


def open_dataset(
    *,
    annotations: Sequence[str | Path],
    images: Sequence[str | Path],
    source_weights: Iterable[tuple[str, float]] = (),
    on_problem: OnProblem = "skip",
    min_area_px: int = 1,
) -> InstanceDataset:
    """Open one or several annotation files over folders or tar files of pictures.

    Several files are merged picture by picture with `combine`, in the order given.
    """
    pictures = read_annotations(annotations[0], on_problem=on_problem, min_area_px=min_area_px)
    for path in annotations[1:]:
        more = read_annotations(path, on_problem=on_problem, min_area_px=min_area_px)
        pictures = combine(pictures, more)
    return InstanceDataset(
        pictures, PictureStore(images), source_weights=source_weights, on_problem=on_problem
    )
