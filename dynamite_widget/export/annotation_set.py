"""What is exported: pictures with the masks, classes, clicks and seconds of their instances.

Made from sessions (no network needed when they carry their masks), from a `Segmentation`, or by a
reader of `dynamite_widget.importing`. Masks are held as run lengths, so that a set of thousands of
pictures fits into memory. No file formats here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import rle
from ..colours import instance_colour
from ..errors import ExportError
from ..label_maps import statistics_of
from ..rle import RLE
from ..segmentation import Segmentation
from ..session import ClickSession
from ..session_state import Click
from .sessions import edits_per_instance, masks_of_session, read_sessions, whole_masks

META = "annotation"
"""Key of a session's meta where importers keep what the file said besides the masks."""


@dataclass(frozen=True)
class AnnotatedInstance:
    """An object of a picture, without its pixels.

    Parameters
    ----------
    id : int
        1..65535.
    class_name : str
        What it is.
    score : float
        0..1; 1 for masks that a person fixed.
    colour : str
        ``"#rrggbb"``; by default the colour that belongs to the id.
    clicks : tuple of Click
        The clicks that belong to it.
    seconds : float or None
        Time spent on it; None when unknown.
    edits : int
        Undoable steps spent on it: clicks, moved and removed ones included, strokes, …
    crowd : bool
        A region of several objects (COCO's ``iscrowd``).
    whole : RLE or None
        Its whole mask where another instance covers part of it (overlapping imports); None when
        the label map says all.
    """

    id: int
    class_name: str
    score: float = 1.0
    colour: str = ""
    clicks: tuple[Click, ...] = ()
    seconds: float | None = None
    edits: int = 0
    crowd: bool = False
    whole: RLE | None = None

    def __post_init__(self) -> None:
        if not self.colour:
            object.__setattr__(self, "colour", instance_colour(self.id))


@dataclass(frozen=True)
class Cutout:
    """The mask of one instance, cut to its box.

    Attributes
    ----------
    instance : AnnotatedInstance
    x0, y0, x1, y1 : int
        Box in pixels, ends exclusive.
    mask : (y1 - y0, x1 - x0) bool array
    """

    instance: AnnotatedInstance
    x0: int
    y0: int
    x1: int
    y1: int
    mask: NDArray[np.bool_] = field(repr=False, compare=False)

    @property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.mask))

    def full(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return the (height, width) bool mask of the whole picture."""
        out = np.zeros((height, width), bool)
        out[self.y0 : self.y1, self.x0 : self.x1] = self.mask
        return out


@dataclass(frozen=True)
class AnnotatedPicture:
    """One picture with its instances and their masks.

    Parameters
    ----------
    name : str
        File name of the picture; unique within a set.
    height, width : int
        Size in pixels.
    instances : tuple of AnnotatedInstance
        In the order of their ids, those without pixels included.
    lengths, labels : (R,) uint32 and (R,) uint16 arrays
        The label map as row-major runs; see `from_label_map`.
    classes : tuple of str
        Known classes, in the order of the digit keys; those of `instances` are among them.
    background_clicks : tuple of Click
        Clicks that belong to no instance.
    image : object
        Path, array or whatever `load_image` takes, for formats that contain pixels.
    image_hash, checkpoint_hash : str
        Of the pixels, and of the weights that made the masks.
    seconds : float or None
        Time spent on its instances.
    source : mapping
        What the file it was read from said besides, such as COCO's ids.
    """

    name: str
    height: int
    width: int
    instances: tuple[AnnotatedInstance, ...]
    lengths: NDArray[np.uint32] = field(repr=False, compare=False)
    labels: NDArray[np.uint16] = field(repr=False, compare=False)
    classes: tuple[str, ...] = ()
    background_clicks: tuple[Click, ...] = ()
    image: Any = field(default=None, repr=False, compare=False)
    image_hash: str = ""
    checkpoint_hash: str = ""
    seconds: float | None = None
    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = dict.fromkeys((*self.classes, *(i.class_name for i in self.instances)))
        object.__setattr__(self, "classes", tuple(names))

    # -- making one ------------------------------------------------------------------------------

    @classmethod
    def from_label_map(
        cls,
        label_map: Any,
        class_names: Mapping[int, str] | str = "object",
        name: str = "picture",
        **fields: Any,
    ) -> AnnotatedPicture:
        """Wrap a label map.

        Parameters
        ----------
        label_map : (H, W) integer array
            0 = background, k = instance id.
        class_names : mapping from id to str, or str
            Of each instance (instances without pixels are listed here), or one name for all.
        name : str
            File name of the picture.
        **fields
            Further attributes, such as `image`.
        """
        labels = np.asarray(label_map)
        lengths, ids = rle.encode(labels)
        present = [int(i) for i in np.unique(ids) if i]
        if isinstance(class_names, str):
            names: Mapping[int, str] = dict.fromkeys(present, class_names)
        else:
            names = class_names
        if missing := sorted(set(present) - set(names)):
            raise ExportError(f"no class name for instances {missing[:5]}")
        instances = tuple(AnnotatedInstance(i, names[i]) for i in sorted(names))
        height, width = labels.shape
        return cls(name, height, width, instances, lengths, ids.astype(np.uint16), **fields)

    @classmethod
    def from_masks(
        cls,
        instances: Iterable[AnnotatedInstance],
        masks: Mapping[int, RLE],
        height: int,
        width: int,
        name: str,
        **fields: Any,
    ) -> AnnotatedPicture:
        """Combine masks that may overlap; where they do, the lower id is on top."""
        labels = np.zeros((height, width), np.uint16)
        total = 0
        for instance in sorted(masks, reverse=True):
            mask = masks[instance]
            labels[mask.decode()] = instance
            total += mask.area
        listed = sorted(instances, key=lambda i: i.id)
        if total != int(np.count_nonzero(labels)):
            areas = np.bincount(labels.reshape(-1), minlength=max(masks) + 1)
            listed = [
                replace(i, whole=masks[i.id])
                if i.id in masks and areas[i.id] != masks[i.id].area
                else i
                for i in listed
            ]
        lengths, ids = rle.encode(labels)
        return cls(name, height, width, tuple(listed), lengths, ids.astype(np.uint16), **fields)

    @classmethod
    def from_session(
        cls,
        session: ClickSession,
        segmentation: Segmentation | None = None,
        *,
        image: Any = None,
        name: str | None = None,
    ) -> AnnotatedPicture:
        """Take the present state of a session.

        Parameters
        ----------
        session : ClickSession
        segmentation : Segmentation, optional
            Masks of its state, edits applied; by default those that the session carries.
        image : object, optional
            The picture or its path.
        name : str, optional
            In place of the session's.

        Raises
        ------
        ExportError
            If the masks are not known without a network.
        """
        state = session.state
        if segmentation is None:
            segmentation = masks_of_session(session)
        elif (segmentation.height, segmentation.width) != (state.height, state.width):
            raise ExportError(
                f"masks of {segmentation.height} x {segmentation.width} do not fit a picture of "
                f"{state.height} x {state.width}"
            )
        scores = dict(zip(segmentation.instances, segmentation.scores.tolist(), strict=True))
        label_map = segmentation.label_map
        edits = edits_per_instance(session)
        meta = session.meta.get(META)
        source = meta if isinstance(meta, Mapping) else {}
        crowds = source.get("crowds")
        covered = whole_masks(state, label_map)
        instances = tuple(
            AnnotatedInstance(
                i.id,
                i.class_name,
                round(float(scores.get(i.id, 0.0)), 6),
                i.colour,
                state.clicks_of(i.id),
                session.seconds_spent.get(i.id),
                edits.get(i.id, 0),
                isinstance(crowds, (list, tuple)) and i.id in crowds,
                covered.get(i.id),
            )
            for i in state.instances
        )
        lengths, ids = rle.encode(label_map)
        return cls(
            name or session.image_name or "picture",
            state.height,
            state.width,
            instances,
            lengths,
            ids.astype(np.uint16),
            state.classes,
            state.clicks_of(0),
            image,
            session.image_hash,
            session.checkpoint_hash,
            round(sum(session.seconds_spent.values()), 3) if session.seconds_spent else None,
            source,
        )

    # -- reading ---------------------------------------------------------------------------------

    @property
    def label_map(self) -> NDArray[np.int32]:
        """(H, W) int32: 0 = background, k = instance id. Made anew each time."""
        return rle.decode(self.lengths, self.labels.astype(np.int32), self.height, self.width)

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of all instances, ascending."""
        return tuple(instance.id for instance in self.instances)

    @property
    def instances_without_pixels(self) -> tuple[AnnotatedInstance, ...]:
        """Those of which nothing is to be seen."""
        present = set(np.unique(self.labels).tolist())
        return tuple(i for i in self.instances if i.id not in present and i.whole is None)

    def mask(self, instance: int) -> NDArray[np.bool_]:
        """Return the (H, W) bool mask of an instance, hidden parts included, or raise KeyError."""
        for candidate in self.instances:
            if candidate.id == instance:
                whole = candidate.whole
                return self.label_map == instance if whole is None else whole.decode()
        raise KeyError(f"no instance {instance!r} in {self.name!r}; instances: {list(self.ids)}")

    def cutouts(self, visible_only: bool = False) -> Iterator[Cutout]:
        """Yield the mask of each instance that has pixels, cut to its box, by ascending id.

        `visible_only` leaves out what other instances cover.
        """
        label_map = self.label_map
        table = statistics_of(label_map, self.ids)
        for instance, (area, *box) in zip(self.instances, table.tolist(), strict=True):
            if instance.whole is not None and not visible_only:
                mask = instance.whole.decode()
                ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                if not ys.size:
                    continue
                box = [int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1]
                x0, y0, x1, y1 = box
                yield Cutout(instance, x0, y0, x1, y1, mask[y0:y1, x0:x1])
            elif area:
                x0, y0, x1, y1 = box
                mask = label_map[y0:y1, x0:x1] == instance.id
                yield Cutout(instance, x0, y0, x1, y1, mask)

    def segmentation(self) -> Segmentation:
        """Return the label map as a `Segmentation`, for plots and statistics."""
        scores = {i.id: i.score for i in self.instances}
        return Segmentation.from_label_map(self.label_map, scores, scores)

    def to_session(self) -> ClickSession:
        """Return a session in which every instance has its mask fixed until it is edited."""
        from ..importing.sessions import to_session

        return to_session(self)

    def _repr_png_(self) -> bytes:
        """Small overlay for notebooks."""
        return self.segmentation()._repr_png_()


class AnnotationSet:
    """Pictures with their instances, in order; their names are unique.

    Parameters
    ----------
    pictures : iterable of AnnotatedPicture
        A name that occurs again gets a number, as in ``"picture-2"``, if it is the default name.

    Raises
    ------
    ExportError
        If two pictures have the same name: no format could tell them apart.
    """

    def __init__(self, pictures: Iterable[AnnotatedPicture] = ()) -> None:
        self.pictures = tuple(_with_names(pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[AnnotatedPicture]:
        return iter(self.pictures)

    def __getitem__(self, key: int | str) -> AnnotatedPicture:
        if isinstance(key, int):
            return self.pictures[key]
        for picture in self.pictures:
            if picture.name == key:
                return picture
        raise KeyError(f"no picture {key!r}; pictures: {[p.name for p in self.pictures][:10]}")

    def __repr__(self) -> str:
        count = sum(len(picture.instances) for picture in self.pictures)
        return f"AnnotationSet({len(self)} pictures, {count} instances)"

    @classmethod
    def from_sessions(
        cls,
        sessions: Iterable[ClickSession | Mapping[str, Any] | str | os.PathLike[str]],
        images: str | os.PathLike[str] | None = None,
    ) -> AnnotationSet:
        """Read sessions: objects, dicts, files, or folders of ``.json`` files.

        Parameters
        ----------
        sessions : iterable
            Each needs its masks; see `AnnotatedPicture.from_session`.
        images : path, optional
            Folder of the pictures, found by name; needed for cut-outs only.
        """
        return cls(_pictures(sessions, None if images is None else Path(images)))

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names in the order in which the pictures name them."""
        return tuple(dict.fromkeys(name for picture in self for name in picture.classes))

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Hashes of the weights that made the masks, sorted."""
        return tuple(sorted({p.checkpoint_hash for p in self if p.checkpoint_hash}))

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Path]:
        """Write the set to a file or folder; see `dynamite_widget.export.export`."""
        from .registry import export

        return export(self, path, format, **options)

    def to_sessions(self) -> list[ClickSession]:
        """Return one session per picture; see `AnnotatedPicture.to_session`."""
        return [picture.to_session() for picture in self]

    def to_dataframe(self) -> Any:
        """Return one row per instance (needs pandas); see `dynamite_widget.export.tables`."""
        from .tables import to_dataframe

        return to_dataframe(self)


def _pictures(sessions: Iterable[Any], images: Path | None) -> Iterator[AnnotatedPicture]:
    for source in sessions:
        for path, session in read_sessions(source):
            try:
                image = None
                if images is not None and session.image_name:
                    candidate = images / Path(session.image_name).name
                    image = candidate if candidate.is_file() else None
                yield AnnotatedPicture.from_session(session, image=image)
            except ExportError as error:
                raise ExportError(f"{path}: {error}" if path else str(error)) from error


def _with_names(pictures: Iterable[AnnotatedPicture]) -> Iterator[AnnotatedPicture]:
    seen: set[str] = set()
    for picture in pictures:
        name = picture.name
        if name in seen and name == "picture":
            number = 2
            while f"{name}-{number}" in seen:
                number += 1
            name = f"{name}-{number}"
        if name in seen:
            raise ExportError(f"two pictures are called {name!r}; give them different names")
        seen.add(name)
        yield picture if name == picture.name else replace(picture, name=name)
