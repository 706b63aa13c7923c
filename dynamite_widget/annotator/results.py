"""What comes out of an annotated set: the merged COCO file, exports, statistics, the report."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DynaMITeError, ExportError, SessionError
from ..session_json import write_atomically
from .index import Record

if TYPE_CHECKING:
    from ..export import AnnotatedPicture, AnnotationSet
    from ..session import ClickSession
    from .comparison import Agreement
    from .effort import Statistics
    from .progress import Progress
    from .sources import Source
    from .store import AnnotationStore

logger = logging.getLogger(__name__)

CHOICES = ("annotated", "done", "all")


class SetResults:
    """Results of a set, for a class with a source and a store."""

    source: Source
    store: AnnotationStore
    _settings: dict[str, Any]
    _places: dict[str, int]

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Wait until everything is on the disk."""
        raise NotImplementedError

    @property
    def progress(self) -> Progress:
        """Counts, and an estimate of the time left."""
        raise NotImplementedError

    @property
    def unreadable(self) -> dict[str, str]:
        """Pictures that could not be read, with the reason."""
        raise NotImplementedError

    def merge(self, *, predict: bool = True) -> Path:
        """Write ``annotations.json``: all annotated pictures as COCO, and return its path.

        Only pictures that changed since the last time are read. Of a COCO source everything that
        was not touched stays as it was, ids included. Skipped pictures are left out.

        Parameters
        ----------
        predict : bool
            Let the network compute masks that are not saved yet (pictures that were left before
            their masks were there); without, such pictures wait for the next call.

        Raises
        ------
        DynaMITeError
            If the output is read only.
        ExportError
            If the file cannot be written.
        """
        from ..export.annotation_set import AnnotationSet
        from ..export.coco import dump_json, to_coco

        if self.store.read_only:
            raise DynaMITeError(
                f"{self.store.folder} is open read only: {self.store.read_only_reason}"
            )
        self.flush()
        path = self.store.merged_path
        base = self._merge_base()
        keys = self.store.unmerged if path.exists() else tuple(k for k, _ in self.store.items())
        records = {key: self.store.record(key) for key in keys if key in self._places}
        pictures: list[AnnotatedPicture] = []
        merged: list[str] = []
        gone: list[str] = []
        for key, record in records.items():
            if not _is_annotated(record):
                gone.append(key)
                merged.append(key)
                continue
            picture = self._annotated(key, predict)
            if picture is not None:
                pictures.append(picture)
                merged.append(key)
        if base is not None:
            base = _without(base, pictures, gone)
        content = to_coco(AnnotationSet(pictures), existing=base)
        try:
            write_atomically(path, dump_json(content))
        except OSError as error:
            raise ExportError(f"cannot write {str(path)!r}: {error}") from error
        # A picture that was edited meanwhile has another record now, and stays unmerged.
        self.store.note_merged(k for k in merged if self.store.record(k) is records[k])
        return path

    def annotations(self, only: str = "annotated", *, predict: bool = True) -> AnnotationSet:
        """Return the annotated pictures with their masks.

        Parameters
        ----------
        only : {"annotated", "done", "all"}
            Done, or with an instance; done; or everything that has a session, skipped ones too.
        predict : bool
            As for `merge`.
        """
        from ..export.annotation_set import AnnotationSet

        if only not in CHOICES:
            raise ValueError(f"only is one of {', '.join(CHOICES)}; got {only!r:.80}")
        return AnnotationSet(self._pictures(only, predict))

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002
        *,
        only: str = "annotated",
        **options: Any,
    ) -> list[Path]:
        """Write the annotations in any format of `dynamite_widget.export`; returns the files."""
        return self.annotations(only).export(path, format, **options)

    def statistics(self) -> Statistics:
        """Return seconds, clicks and edits per instance, per class and over time."""
        from .effort import statistics

        self.flush()
        return statistics(self.store)

    def agreement(self, other: Any, *, threshold: float = 0.5) -> Agreement:
        """Compare with the annotations of somebody else; see `agreement.agreement`."""
        from .comparison import agreement

        return agreement(self.annotations(), other, threshold=threshold)

    def report(self, path: str | os.PathLike[str] | None = None, *, compare: Any = None) -> Path:
        """Write a page with progress, speed, classes and plots, and return its path.

        Parameters
        ----------
        path : path, optional
            By default ``report.html`` in the output folder.
        compare : object, optional
            Annotations of somebody else, for a section on agreement.
        """
        from .report import write_report

        target = self.store.folder / "report.html" if path is None else Path(path)
        agreement = None if compare is None else self.agreement(compare)
        return write_report(target, self, agreement)

    # -- inside ----------------------------------------------------------------------------------

    def _pictures(self, only: str, predict: bool) -> Iterator[AnnotatedPicture]:
        self.flush()
        for key, record in sorted(
            ((k, r) for k, r in self.store.items() if k in self._places),
            key=lambda entry: self._places[entry[0]],
        ):
            if (only == "done" and record.status != "done") or (
                only == "annotated" and not _is_annotated(record)
            ):
                continue
            picture = self._annotated(key, predict)
            if picture is not None:
                yield picture

    def _annotated(self, key: str, predict: bool) -> AnnotatedPicture | None:
        """Return the saved state of a picture; None if there is none, or masks are wanting."""
        from ..export.annotation_set import AnnotatedPicture

        try:
            session = self.store.load_session(key)
        except SessionError as error:
            logger.warning("%s is left out: %s", key, error)
            return None
        if session is None:
            return None
        image = self.source.image(key)
        try:
            return AnnotatedPicture.from_session(session, image=image, name=key)
        except ExportError:
            if not predict:
                return None
        session = self._with_masks(key, session)
        return AnnotatedPicture.from_session(session, image=image, name=key)

    def _with_masks(self, key: str, session: ClickSession) -> ClickSession:
        """Let the network compute the masks of a saved session, and save them."""
        from ..images import load_image
        from ..network import make_predictor

        settings = self._settings
        predictor = settings["predictor"] or make_predictor(
            settings["model"], settings["checkpoint"], settings["device"]
        )
        state = session.state
        embedding = predictor.embed(load_image(self.source.image(key)))
        predicted = predictor.predict(embedding, state.clicks, instances=state.instance_ids)
        session.keep_masks(predicted.with_edits(state))
        return session

    def _merge_base(self) -> Mapping[str, Any] | None:
        from ..export.annotation_set import AnnotationSet
        from ..export.coco import load_json, to_coco

        path = self.store.merged_path
        if path.exists():
            try:
                content = load_json(path)
                to_coco(AnnotationSet(), existing=content)
                checked: Mapping[str, Any] = content
                return checked
            except ExportError as error:
                aside = path.with_suffix(".json.unusable")
                path.replace(aside)
                logger.warning("%s is written anew (kept as %s): %s", path, aside.name, error)
        content = self.source.coco()
        if content is None:
            return None
        try:
            to_coco(AnnotationSet(), existing=content)
        except ExportError as error:
            logger.warning("the merged file does not hold what was not touched: %s", error)
            return None
        return content


def _is_annotated(record: Record) -> bool:
    return record.status == "done" or (record.status == "todo" and record.instances > 0)


def _without(
    base: Mapping[str, Any], pictures: Iterable[AnnotatedPicture], gone: Iterable[str]
) -> Mapping[str, Any]:
    """Take out of a COCO file what these pictures do not have any more."""
    ids = {image.get("file_name"): image["id"] for image in base["images"]}
    ours = {image["id"] for image in base["images"] if "dynamite" in image}
    removed = {ids[key] for key in gone if ids.get(key) in ours}
    known: dict[int, tuple[set[int], dict[int, int]]] = {}
    for picture in pictures:
        if picture.name in ids:
            coco = picture.source.get("coco")
            listed = coco.get("annotations") if isinstance(coco, Mapping) else None
            imported = (
                {number: int(instance) for instance, number in listed.items()}
                if isinstance(listed, Mapping)
                else {}
            )
            known[ids[picture.name]] = (set(picture.ids), imported)

    def stays(record: Mapping[str, Any]) -> bool:
        image = record["image_id"]
        if image in removed:
            return False
        if image not in known:
            return True
        present, imported = known[image]
        extra = record.get("dynamite")
        instance = extra.get("instance") if isinstance(extra, Mapping) else None
        instance = imported.get(record["id"], instance)
        # What the importer could not read (key points, say) is none of ours, and stays.
        return instance is None or instance in present

    return {
        **base,
        "images": [image for image in base["images"] if image["id"] not in removed],
        "annotations": [record for record in base["annotations"] if stays(record)],
    }
