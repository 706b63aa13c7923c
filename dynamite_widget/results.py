"""Results of one picture for those who have a controller: files, tables, plots, and masks taken in.

A mixin beside `AnnotationAPI`; formats live in `dynamite_widget.export` and `importing`, which are
imported when used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .annotation_api import AnnotationAPI
from .errors import DynaMITeError, ExportError
from .rle import RLE

if TYPE_CHECKING:
    from .export import AnnotatedPicture
    from .importing import Refined


class ResultsAPI(AnnotationAPI):
    """`AnnotationAPI` with export and import; everything waits for the masks."""

    @property
    def annotations(self) -> AnnotatedPicture:
        """The present state as what `dynamite_widget.export` writes."""
        from .export import AnnotatedPicture

        while True:
            segmentation = self.segmentation
            session, picture = self.controller.session, self.controller.picture
            # An edit or another picture may have come in between.
            if segmentation is self.segmentation:
                break
        source = picture.source
        # The file, where there is one, can be copied along; it may not stay there, though.
        image = source if isinstance(source, (str, os.PathLike)) else picture.image
        return AnnotatedPicture.from_session(session, segmentation, image=image)

    def to_coco(self, *, polygons: bool = False, tolerance: float = 0.0) -> dict[str, Any]:
        """Return the content of a COCO instances file, which `pycocotools` can read.

        Parameters
        ----------
        polygons : bool
            Polygons where they say the same as the mask (no holes); else compressed RLE.
        tolerance : float
            Of polygons, in pixels; 0 is exact.
        """
        from .export import AnnotationSet, to_coco

        return to_coco(AnnotationSet([self.annotations]), polygons, tolerance)

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002
        *,
        overwrite: bool = False,
        merge: bool = False,
        **options: Any,
    ) -> list[Path]:
        """Write the masks to a file or folder, whole or not at all.

        Parameters
        ----------
        path : path
            Its ending decides about the format if none is given: ``.json`` is COCO, ``.png`` a
            label map, ``.npz``, ``.geojson``, ``.xml`` (CVAT).
        format : str, optional
            A name in `dynamite_widget.export.FORMATS`.
        overwrite, merge : bool
            Replace existing files, or add to them.
        **options
            ``polygons``, ``tolerance``, ``transform``, ``copy_images``; see
            `dynamite_widget.export.registry.export`.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        ExportError
            If files exist, or cannot be written; what was there is intact then.
        """
        from .export import export

        return export(self.annotations, path, format, overwrite=overwrite, merge=merge, **options)

    def to_dataframe(self) -> Any:
        """Return a pandas data frame with one row per instance.

        Columns: picture, id, class_name, area, bbox, score, clicks, seconds, edits. ExportError if
        pandas is not installed.
        """
        from .export.tables import to_dataframe

        return to_dataframe(self.annotations)

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections``; ExportError if supervision is not installed."""
        from .export.tables import to_supervision

        return to_supervision(self.annotations)

    def plot(self, **options: Any) -> Any:
        """Draw picture, masks, outlines, clicks and legend with matplotlib; returns the figure.

        Options are those of `dynamite_widget.plotting.plot_segmentation`.
        """
        segmentation = self.segmentation
        return segmentation.plot(self.image, state=self.controller.state, **options)

    def plot_instances(self, **options: Any) -> Any:
        """Draw a contact sheet, one crop per instance; see `plotting.plot_instances`."""
        from .plotting import plot_instances

        segmentation = self.segmentation
        return plot_instances(segmentation, self.image, self.controller.state, **options)

    def import_masks(
        self,
        source: ArrayLike | RLE | Sequence[ArrayLike | RLE] | str | os.PathLike[str] | Any,
        class_names: str | Sequence[str] | Mapping[int, str] | None = None,
        *,
        format: str | None = None,  # noqa: A002
    ) -> list[int]:
        """Add instances with given masks; each stays as it is until its instance is edited.

        Parameters
        ----------
        source : array, list of arrays, AnnotatedPicture or path
            (H, W) integer label map, (H, W) bool mask, (N, H, W) bool masks; or a file in any
            readable format. Of a file with several pictures, the one of this name is taken.
        class_names : str, sequence or mapping, optional
            Of each instance, in place of those of the file; for a label map, from id to name.
        format : str, optional
            Of the file.

        Returns
        -------
        list of int
            Ids of the new instances, in the order of the masks.

        Raises
        ------
        ExportError, SessionError
            If the source cannot be read, or is of another size.
        """
        picture = self.controller.picture
        found = _masks(source, picture, class_names, format)
        ids = []
        for mask, name in found:
            state = self.controller.apply("new_instance", class_name=name, mask=mask)
            ids.append(state.active_instance)
        return ids

    def refine(
        self,
        instances: Iterable[int] | None = None,
        *,
        target_iou: float = 0.9,
        max_clicks: int = 8,
    ) -> tuple[Refined, ...]:
        """Find clicks with which the network makes the imported masks; each can be undone.

        Parameters
        ----------
        instances : iterable of int, optional
            By default all with an imported mask that are not locked.
        target_iou : float
            An instance is taken over from this agreement on; below it keeps its mask.
        max_clicks : int
            Budget of each instance.

        Returns
        -------
        tuple of Refined
            Per instance: IoU, clicks, whether it was taken over.

        Raises
        ------
        DynaMITeError
            If the session was edited meanwhile, or the network failed.
        """
        from .importing import refine

        self.wait()
        revision, session = self.controller.revision, self.controller.session
        before = len(session.history)
        report = refine(
            session,
            self._predict_now,
            target_iou=target_iou,
            max_clicks=max_clicks,
            instances=instances,
        )
        if self.controller.revision != revision:
            raise DynaMITeError("the session was edited while its masks were refined; try again")
        for intent in session.history[before:]:
            self.controller.apply(intent.name, **intent.args)
        return report

    def _predict_now(self, clicks: Any, instances: Any) -> Any:
        """Predict on the model thread with its network and embedding, beside the session."""
        import threading

        from .answers import Job

        done = threading.Event()
        answer: list[Any] = []

        def finish(value: Any = None) -> None:
            answer.append(value)
            done.set()

        def run(predictor: Any, embedding: Any, _result: Any) -> None:
            segmentation = predictor.predict(embedding, clicks, instances=instances)
            _ = segmentation.label_map  # drawn here and kept: this thread may use the network
            finish(segmentation)

        self.controller.ask(Job(run, finish, finish))
        while not done.wait(1.0):
            if self.controller.closed:
                raise DynaMITeError("the controller is closed")
        if isinstance(answer[0], Exception):
            raise DynaMITeError(f"the network failed: {answer[0]}") from answer[0]
        if answer[0] is None:
            raise DynaMITeError("the session was edited while its masks were refined; try again")
        return answer[0]


def _masks(
    source: Any,
    picture: Any,
    class_names: str | Sequence[str] | Mapping[int, str] | None,
    format: str | None,  # noqa: A002
) -> list[tuple[RLE, str | None]]:
    """Return masks with class names (None: the default class)."""
    from .export import AnnotatedPicture

    if isinstance(source, (str, os.PathLike)):
        source = _from_file(Path(source), picture, format)
    found: list[tuple[int, RLE, str | None]] = []
    if isinstance(source, AnnotatedPicture):
        names = {i.id: i.class_name for i in source.instances}
        # Where masks overlap the lower id is on top, which the new ids keep up.
        for cutout in source.cutouts():
            number = cutout.instance.id
            full = RLE.from_mask(cutout.full(source.height, source.width))
            found.append((number, full, names[number]))
    else:
        found = _from_arrays(source)
    if isinstance(class_names, str):
        found = [(i, mask, class_names) for i, mask, _ in found]
    elif isinstance(class_names, Mapping):
        found = [(i, mask, class_names.get(i, name)) for i, mask, name in found]
    elif class_names is not None:
        if len(class_names) != len(found):
            raise ExportError(f"{len(class_names)} class names for {len(found)} masks")
        found = [(i, m, name) for (i, m, _), name in zip(found, class_names, strict=True)]
    return [(mask, name) for _, mask, name in found]


def _from_arrays(source: Any) -> list[tuple[int, RLE, str | None]]:
    if isinstance(source, RLE):
        return [(1, source, None)]
    if isinstance(source, (list, tuple)) and any(isinstance(m, RLE) for m in source):
        planes = [m if isinstance(m, RLE) else RLE.from_mask(m) for m in source]
        return [(k, mask, None) for k, mask in enumerate(planes, 1)]
    array = np.asarray(source)
    if array.ndim == 2 and array.dtype != bool and array.dtype.kind in "iu":
        ids = [int(i) for i in np.unique(array) if i]
        return [(i, RLE.from_mask(array == i), None) for i in ids]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise ExportError(
            "masks are an (H, W) label map or mask, or (N, H, W) masks; got an array of shape "
            f"{array.shape} and dtype {array.dtype}"
        )
    return [(k, RLE.from_mask(plane), None) for k, plane in enumerate(array, 1)]


def _from_file(path: Path, picture: Any, format: str | None) -> AnnotatedPicture:  # noqa: A002
    from .importing import read_annotations

    annotations = read_annotations(path, format)
    if len(annotations) == 1:
        return annotations[0]
    try:
        return annotations[picture.name]
    except KeyError as error:
        raise ExportError(
            f"{str(path)!r} holds {len(annotations)} pictures, none called {picture.name!r}"
        ) from error
