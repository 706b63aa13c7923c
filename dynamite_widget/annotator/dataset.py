"""DatasetAnnotator: a whole set of pictures, one after the other. In a notebook and without.

Here is the queue: where one is, what comes next, marks, proposals, results. The page is in `view`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, DynaMITeError, ImageError
from .autosave import Autosave
from .desk import Desk
from .filters import Choice, Route, make_route
from .index import STATUSES, Record, Status
from .item import PictureItem
from .progress import Counts, Progress
from .proposing import SetProposals
from .results import SetResults
from .sources import Source, open_source
from .store import AnnotationStore

if TYPE_CHECKING:
    from ..session import ClickSession
    from ..widget import DynaMITeWidget

logger = logging.getLogger(__name__)

_open_here: weakref.WeakValueDictionary[str, DatasetAnnotator] = weakref.WeakValueDictionary()


class DatasetAnnotator(SetProposals, SetResults):
    """A queue of pictures to annotate, with everything saved as it happens.

    Display it in a notebook cell, or loop over it in a program:

    >>> annotator = DatasetAnnotator("pictures", "annotations", ["cat"])  # doctest: +SKIP
    >>> for item in annotator:  # doctest: +SKIP
    ...     item.annotate(my_detector)

    Opening reads the names of the pictures only. It goes on with the picture, and the undo history,
    where it was left, also after the kernel was killed.

    Parameters
    ----------
    source : path, pattern, list, mapping or COCO file
        Folder of pictures (with its sub folders), ``"pictures/**/*.png"``, list of paths or arrays,
        mapping from names to pictures, or a COCO file whose annotations are to be refined.
    output : path
        Folder for sessions and results, made if need be; see `AnnotationStore`.
    classes : iterable of str, optional
        In the order of the digit keys; by default those used so far, or those of the COCO file.
    model, checkpoint, device, predictor :
        As for `DynaMITeWidget`.
    images : path, optional
        Folder of the pictures of a COCO file; by default that of the file.
    recursive, pattern :
        Of a folder: whether to look into sub folders; only names that match (``"*.png"``).
    read_only : bool
        Look, change nothing. Also what happens when another kernel has `output` open.
    prefetch : bool
        Read and embed the next picture while the present one is worked on.
    embeddings : path, optional
        Folder of embeddings made by ``dynamite precompute``; by default ``output/embeddings`` if it
        exists.
    display_long_side_px : int
        As for `DynaMITeWidget`.

    Attributes
    ----------
    source : Source
    store : AnnotationStore

    Raises
    ------
    DataError
        If there are no pictures, or `output` cannot be used.
    """

    def __init__(
        self,
        source: Any,
        output: str | os.PathLike[str],
        classes: Iterable[str] | None = None,
        model: str = "lite",
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str = "auto",
        predictor: Any = None,
        images: str | os.PathLike[str] | None = None,
        recursive: bool = True,
        pattern: str | None = None,
        read_only: bool = False,
        prefetch: bool = True,
        embeddings: str | os.PathLike[str] | None = None,
        display_long_side_px: int = 2048,
    ) -> None:
        if isinstance(classes, str):
            raise TypeError(f"classes is a sequence of names, got the string {classes!r}")
        folder = Path(output).expanduser()
        self.source: Source = open_source(
            source, images=images, recursive=recursive, pattern=pattern, without=[folder]
        )
        self.keys: Sequence[str] = self.source.keys
        if not self.keys:
            raise DataError(f"there are no pictures in {str(source)!r:.200}")
        self._places = {key: place for place, key in enumerate(self.keys)}
        self._lock = threading.RLock()
        self._closed = False
        self._page: Any = None
        self._listeners: list[Callable[[str], object]] = []
        self._settings = {
            "model": model,
            "checkpoint": checkpoint,
            "device": device,
            "predictor": predictor,
            "display_long_side_px": display_long_side_px,
        }
        self._prefetch, self._embeddings = prefetch, embeddings
        self._take_over(folder)
        self.store = AnnotationStore(folder, read_only=read_only)
        self._autosave: Autosave | None = None
        self.problem = ""
        if not self.store.read_only:
            self._autosave = Autosave(self.store, self._save_failed, lambda _: self._tell("saved"))
            _open_here[os.path.realpath(folder)] = self
        # Of pictures that are in the source now; others stay in the index.
        self._counts = Counts(
            len(self.keys), (r for key, r in self.store.items() if key in self._places)
        )
        self.classes: tuple[str, ...] = self._known_classes(classes)
        self._desk = Desk(
            self.source,
            self.store,
            self._autosave,
            self._make_widget,
            self.classes,
            lambda: self._tell("edited"),
        )
        self._choice = Choice()
        self._route = make_route(self._choice, self.keys, self.store.records)
        self._propose, self._proposals = None, {}

    def __repr__(self) -> str:
        if self._closed:
            return f"DatasetAnnotator({self.store.folder}, closed)"
        return f"DatasetAnnotator({self.store.folder}: {self.progress})"

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def read_only(self) -> bool:
        """Whether nothing is saved; `store.read_only_reason` says why."""
        return self.store.read_only or self._closed

    @property
    def key(self) -> str:
        """Name of the open picture; "" before the first is opened."""
        return self._desk.key

    @property
    def place(self) -> int | None:
        """Place of the open picture among all, from 0."""
        return self._places.get(self.key)

    @property
    def current(self) -> PictureItem:
        """The open picture; opens the one where the work goes on if there is none."""
        self._ensure_open()
        return self._item(self.key)

    @property
    def widget(self) -> DynaMITeWidget:
        """The widget that shows the open picture."""
        self._ensure_open()
        widget: DynaMITeWidget = self._desk.widget
        return widget

    @property
    def progress(self) -> Progress:
        """Counts, and an estimate of the time left; print it."""
        with self._lock:
            return self._counts.progress()

    @property
    def unreadable(self) -> dict[str, str]:
        """Pictures that could not be read, with the reason."""
        found = [(k, r) for k, r in self.store.items() if r.status == "unreadable"]
        return {key: record.note for key, record in found if key in self._places}

    @property
    def choice(self) -> Choice:
        """The present filter and search."""
        return self._choice

    @property
    def route(self) -> Route:
        """The pictures of the present filter, in order."""
        return self._route

    # -- going -----------------------------------------------------------------------------------

    def choose(self, filter: str = "all", search: str = "") -> int:  # noqa: A002
        """Go through some of the pictures only; see `filters.Choice`. Returns their number."""
        with self._lock:
            self._choice = Choice(filter, search)
            self._route = make_route(self._choice, self.keys, self.store.records)
        self._tell("choice")
        return len(self._route)

    def open(self, picture: str | int) -> PictureItem:
        """Open a picture by its name, or by its place from 0.

        Raises
        ------
        DataError
            If there is no such picture.
        ImageError
            If it cannot be read; it is listed as unreadable, and the one before stays open.
        """
        key = self._key_of(picture)
        with self._lock:
            self._check_open()
            if key != self._desk.key:
                self._open(key)
        return self._item(key)

    def next(self) -> PictureItem | None:
        """Open the next picture of the filter; None at the end. Unreadable ones are passed over."""
        return self._step(forward=True)

    def previous(self) -> PictureItem | None:
        """Open the picture before; None at the beginning."""
        return self._step(forward=False)

    def __iter__(self) -> Iterator[PictureItem]:
        """Yield every picture that is still to do, from the first, opened; marks are up to you.

        With a filter other than "all", the pictures of the filter.
        """
        choice = self._choice if self._choice.filter != "all" else Choice("todo")
        for place in tuple(choice.places(self.keys, self.store.records)):
            key = self.keys[place]
            if choice.filter == "todo" and self.store.record(key).status != "todo":
                continue
            try:
                item = self.open(key)
            except ImageError:
                continue
            yield item

    def annotate(self, annotate: Callable[[PictureItem], Any]) -> Progress:
        """Let a program annotate everything that is still to do; see `PictureItem.annotate`."""
        for item in self:
            item.annotate(annotate)
        self.flush()
        return self.progress

    # -- marking ---------------------------------------------------------------------------------

    def mark(
        self,
        picture: str | int | None = None,
        *,
        status: Status | None = None,
        flagged: bool | None = None,
        note: str | None = None,
    ) -> Record:
        """Say what has become of a picture (by default the open one).

        Parameters
        ----------
        picture : str or int, optional
            Name or place.
        status : {"todo", "done", "skipped", "unreadable"}, optional
        flagged : bool, optional
            For a second look.
        note : str, optional

        Raises
        ------
        DynaMITeError
            If the output is read only.
        """
        key = self.current.name if picture is None else self._key_of(picture)
        if status is not None and status not in STATUSES:
            raise ValueError(f"unknown status {status!r}; statuses: {', '.join(STATUSES)}")
        with self._lock:
            self._check_writable()
            if key == self.key:
                self._desk.count()
            values: dict[str, Any] = {"status": status, "flagged": flagged, "note": note}
            given = {k: v for k, v in values.items() if v is not None}
            record = self._change(key, at=round(time.time(), 3), **given)
            assert self._autosave is not None
            if key == self.key:
                self._desk.save()
            else:
                self._autosave.touch(key)
        self._tell("marked")
        return record

    # -- the end ---------------------------------------------------------------------------------

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Wait until everything is on the disk; False if that took too long."""
        return self._autosave is None or self._autosave.flush(timeout_s)

    def close(self) -> None:
        """Save, write the merged file, and let another kernel open the output."""
        with self._lock:
            if self._closed:
                return
            self._desk.close()
            self._closed = True
        page, self._page = self._page, None
        if page is not None:
            page.close()
        if self._autosave is not None:
            self._autosave.close()
            try:
                self.merge(predict=False)
            except (DynaMITeError, OSError) as error:
                logger.warning("the merged file was not written: %s", error)
        self.store.close()
        self._listeners.clear()

    def __enter__(self) -> DatasetAnnotator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- the page --------------------------------------------------------------------------------

    @property
    def page(self) -> Any:
        """The ipywidgets page; made when first asked for."""
        with self._lock:
            self._check_open()
            if self._page is None:
                from .view import AnnotatorView

                self._ensure_open()
                self._page = AnnotatorView(self)
            return self._page

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if self._closed:
            return {"text/plain": repr(self)}
        return self.page.box._repr_mimebundle_(**kwargs)

    def add_listener(self, listener: Callable[[str], object]) -> None:
        """Call ``listener(event)`` after "opened", "edited", "saved", "marked", "choice", …."""
        self._listeners.append(listener)

    # -- inside ----------------------------------------------------------------------------------

    def _item(self, key: str) -> PictureItem:
        return PictureItem(self, key)

    def _tell(self, event: str) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed")

    def _save_failed(self, message: str) -> None:
        self.problem = message
        self._tell("problem")

    def _change(self, key: str, **values: Any) -> Record:
        before = self.store.record(key)
        after = self.store.update(key, **values)
        self._counts.change(before, after)
        return after

    def _check_open(self) -> None:
        if self._closed:
            raise DynaMITeError(
                "the annotator is closed; make a new DatasetAnnotator to go on where it was left"
            )

    def _check_writable(self) -> None:
        self._check_open()
        if self._autosave is None:
            raise DynaMITeError(
                f"{self.store.folder} is open read only: {self.store.read_only_reason}"
            )

    def _key_of(self, picture: str | int) -> str:
        if isinstance(picture, str):
            if picture in self._places:
                return picture
            raise DataError(f"there is no picture {picture!r:.200} among the {len(self)}")
        if not -len(self.keys) <= picture < len(self.keys):
            raise DataError(f"picture {picture} is outside 0..{len(self.keys) - 1}")
        return self.keys[picture]

    def _ensure_open(self) -> None:
        """Open the picture where the work goes on."""
        with self._lock:
            if self._desk.key:
                return
            self._check_open()
            start = self._places.get(self.store.current)
            if start is None:
                start = next(
                    (p for p, k in enumerate(self.keys) if self.store.record(k).status == "todo"), 0
                )
            for place in (*range(start, len(self.keys)), *range(start)):
                try:
                    self._open(self.keys[place])
                    return
                except ImageError:
                    continue
            raise DataError(
                f"none of the {len(self.keys)} pictures can be read; the first: "
                f"{self.store.record(self.keys[0]).note}"
            )

    def _open(self, key: str) -> None:
        """Open a picture; the lock is held."""
        try:
            self._desk.open(key)
        except ImageError as error:
            if self._autosave is not None:
                self._change(key, status="unreadable", note=str(error))
                self._autosave.touch(key)
            self.problem = f"{key} cannot be read: {error}"
            logger.warning("%s", self.problem)
            self._tell("problem")
            raise
        self.problem = self._desk.warning
        record = self.store.record(key)
        if record.status == "unreadable" and self._autosave is not None:
            self._change(key, status="todo", note="")  # somebody has repaired it
            self._autosave.touch(key)
        if self._propose is not None:
            self._find_proposals(key)
        following = self._route.step(self._places[key])
        if self._prefetch and following is not None:
            self._desk.look_ahead(self.keys[following])
        self._tell("opened")

    def _step(self, forward: bool) -> PictureItem | None:
        with self._lock:
            self._check_open()
            passed: list[str] = []
            place = self._places.get(self._desk.key)
            while (place := self._route.step(place, forward)) is not None:
                key = self.keys[place]
                record = self.store.record(key)
                # The way was laid out when the filter was chosen; what was dealt with since is
                # passed over, unless a person goes back to look at it.
                if forward and not self._choice.matches(key, record):
                    continue
                if record.status == "unreadable" and self._choice.filter != "unreadable":
                    continue
                try:
                    self._open(key)
                except ImageError:
                    passed.append(self.problem)
                    continue
                if passed:
                    self.problem = " ".join((*passed[:3], self.problem)).strip()
                    self._tell("problem")
                return self._item(key)
        self._tell("end")
        return None

    def _known_classes(self, given: Iterable[str] | None) -> tuple[str, ...]:
        # Most pictures share a few combinations.
        combinations = dict.fromkeys(record.classes for _, record in self.store.items())
        used = dict.fromkeys(name for classes in combinations for name in classes)
        if given is not None:
            return tuple(dict.fromkeys((*given, *used)))
        content: Mapping[str, Any] = self.source.coco() or {}
        names = [
            entry["name"]
            for entry in content.get("categories", ())
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)
        ]
        return tuple(dict.fromkeys((*names, *used)))

    def _make_widget(self, picture: Any, session: ClickSession | None, name: str) -> Any:
        from ..widget import DynaMITeWidget
        from .embeddings import cache_for

        folder = self._embeddings
        if folder is None and (self.store.folder / "embeddings").is_dir():
            folder = self.store.folder / "embeddings"
        return DynaMITeWidget(
            picture,
            classes=self.classes,
            session=session,
            name=name,
            cache=None if folder is None else cache_for(folder),
            **self._settings,
        )

    def _take_over(self, folder: Path) -> None:
        """Close an annotator of this kernel that has the folder open: its cell was run again."""
        before = _open_here.get(os.path.realpath(folder))
        if before is not None:
            before.close()
