"""The annotator's page: ipywidgets around one `DynaMITeWidget`. What they do is in `dataset`."""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets

from ..answers import describe
from ..errors import DynaMITeError
from ..worker import SerialThread
from .filters import FILTERS
from .index import Record
from .parts import Button, Dropdown, Keys, Line, Text, Tiles, ToggleButton, Whole
from .thumbnails import proposal_sheet, thumbnail

if TYPE_CHECKING:
    from .dataset import DatasetAnnotator

logger = logging.getLogger(__name__)

STRIP_TILES = 11
GRID_TILES = 24
REFRESH_DELAY_S = 0.05
KEYS_TEXT = (
    "Keys: Alt+→ next, Alt+← previous, Ctrl+Enter done and next, Alt+↓ skip, Alt+↑ flag, "
    "Enter accept a proposal, Alt+Backspace reject it"
)


class AnnotatorView:
    """Page of one annotator. `box` is what is displayed.

    What a person asks for is done by one thread, in order, so that the kernel takes messages while
    a picture is read; everything shown is brought up to date by another one, in `_refresh`, from
    the annotator's state.
    """

    def __init__(self, annotator: DatasetAnnotator) -> None:
        self._annotator = annotator
        self._thread = SerialThread("dynamite-page")
        self._commands = SerialThread("dynamite-commands")
        self._pictures = SerialThread("dynamite-thumbnails")
        self._lock = threading.Lock()
        self._asked = 0
        self._grid_start = 0
        self._said = ""
        self._unsaved = False
        self._sheet: tuple[Any, ...] = ()
        self._make_parts()
        this = weakref.ref(self)
        annotator.add_listener(lambda event: _tell(this, event))
        self._refresh()

    def close(self) -> None:
        """End the threads and take everything off the page."""
        self._commands.close()
        self._pictures.close()
        self._thread.close()
        self.box.close()

    # -- making ----------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        annotator = self._annotator
        self.previous = self._button("◀ Previous", "Previous picture (Alt+←)", "previous")
        self.next = self._button("Next ▶", "Next picture (Alt+→)", "next")
        self.done = self._button("✓ Done", "Mark as done and go on (Ctrl+Enter)", "done", "success")
        self.skip = self._button("Skip", "Leave this picture out and go on (Alt+↓)", "skip")
        self.flag = self._button("⚑ Flag", "Mark for a second look, or not (Alt+↑)", "flag")
        self.place = Whole(min=1, max=len(annotator), layout={"width": "84px"}, tooltip="Go to")
        self.name = Line()
        self.bar = ipywidgets.FloatProgress(
            min=0.0, max=1.0, layout={"width": "100%", "height": "10px", "margin": "2px 0"}
        )
        self.text = Line()
        self.saved = Line()
        self.filter = Dropdown(options=[*FILTERS], layout={"width": "170px"}, tooltip="Filter")
        self.search = _text("search by name (* allowed)", "190px")
        self.note = _text("note on this picture", "220px")
        self.review = ToggleButton(
            value=False, description="▦ Review", tooltip="See many pictures at once", layout=_AUTO
        )
        self.coco = self._button("Write COCO", "Write annotations.json now", "coco")
        self.alert = Line()
        self.strip = Tiles("strip", "Pictures around this one", self._open, self._want_strip)
        self.grid = Tiles("grid", "Pictures to review", self._open, self._want_grid)
        self.grid_back = self._button("◀", "Earlier pictures", "grid-back")
        self.grid_on = self._button("▶", "Further pictures", "grid-on")
        self.grid_text = Line()
        self.keys = Keys(self._do)
        self.sheet = ipywidgets.Image(format="jpeg", layout={"max_width": "320px"})
        self.sheet_text = Line()
        self.accept = self._button("Accept", "Take the proposal (Enter)", "accept", "success")
        self.reject = self._button("Reject", "Drop the proposal (Alt+Backspace)", "reject")
        self.accept_all = self._button("Accept all", "", "accept-all")
        self.reject_all = self._button("Reject all", "", "reject-all")
        self.proposals = _row(
            self.sheet,
            ipywidgets.VBox(
                [
                    self.sheet_text,
                    _row(self.accept, self.reject, self.accept_all, self.reject_all),
                ]
            ),
        )
        keys = Line()
        keys.say(KEYS_TEXT)
        for line in (self.text, self.name, self.alert, self.saved, keys, self.grid_text):
            line.add_class("dmw-line-of-text")
        for line in (self.saved, keys, self.text):
            line.add_class("dmw-soft")
        self.alert.add_class("dmw-alert")
        self.editor = ipywidgets.VBox([self.proposals, annotator.widget])
        self.sheets = ipywidgets.VBox(
            [_row(self.grid_back, self.grid_on, self.grid_text), self.grid]
        )
        self.box = ipywidgets.VBox(
            [
                self.alert,
                _row(
                    *(self.previous, self.place, self.next, self.done, self.skip, self.flag),
                    *(self.name, self.note),
                ),
                self.editor,
                self.sheets,
                self.strip,
                self.bar,
                self.text,
                _row(self.filter, self.search, self.review, self.coco, self.saved),
                keys,
                self.keys,
            ]
        )
        self.box.add_class("dmw-annotator")
        for widget in (self.place, self.filter, self.search, self.note, self.review):
            widget.observe(self._entered, "value")

    def _button(self, text: str, tooltip: str, command: str, style: str = "") -> Button:
        button = Button(description=text, tooltip=tooltip, button_style=style, layout=_AUTO)
        button.on_click(lambda _: self._do(command))
        return button

    # -- from the page ---------------------------------------------------------------------------

    def _do(self, command: str) -> None:
        """Do what a button or key says; errors are shown where the person looks."""
        annotator = self._annotator
        actions: dict[str, Callable[[], object]] = {
            "next": lambda: self._go(forward=True),
            "previous": lambda: self._go(forward=False),
            "done": lambda: self._mark_and_go("done"),
            "skip": lambda: self._mark_and_go("skipped"),
            "flag": lambda: annotator.mark(flagged=not annotator.current.record.flagged),
            "accept": annotator.accept,
            "reject": annotator.reject,
            "accept-all": lambda: annotator.accept(everything=True),
            "reject-all": lambda: annotator.reject(everything=True),
            "coco": lambda: self._say(f"Written: {annotator.merge()}"),
            "grid-back": lambda: self._turn(-GRID_TILES),
            "grid-on": lambda: self._turn(GRID_TILES),
        }
        action = actions.get(command)
        if action is not None:
            self._try(action)

    def _try(self, action: Callable[[], object]) -> None:
        with self._lock:
            self._asked += 1
        self._commands.post(lambda: self._do_now(action))

    def _do_now(self, action: Callable[[], object]) -> None:
        self._said = ""
        try:
            action()
        except Exception as error:
            if not isinstance(error, (DynaMITeError, ValueError)):
                logger.exception("a command failed")
            self._say(describe(error))
        with self._lock:
            self._asked -= 1
        self._later()

    def _go(self, forward: bool) -> None:
        annotator = self._annotator
        if (annotator.next() if forward else annotator.previous()) is None:
            self._say(f"This is the {'last' if forward else 'first'} picture of the filter.")

    def _mark_and_go(self, status: Any) -> None:
        annotator = self._annotator
        annotator.mark(status=status)
        if annotator.next() is None:
            left = annotator.progress.todo
            self._say(
                f"This is the last picture of the filter; {left} are still to do."
                if left
                else "All pictures are dealt with."
            )

    def _entered(self, change: Any) -> None:
        """Take what a person entered; what was only brought up to date changes nothing."""
        if self._thread.is_current:
            return  # `_refresh` has set it, perhaps to what is out of date already
        annotator, value = self._annotator, change["new"]
        if change["owner"] is self.place:
            if annotator.place is not None and value - 1 != annotator.place:
                self._try(lambda: annotator.open(value - 1))
        elif change["owner"] is self.review:
            here = annotator.route.rank(annotator.place or 0) or 0
            self._grid_start = here - here % GRID_TILES
            self._later()
        elif change["owner"] is self.note:
            key = annotator.key
            if value != _shown_note(annotator.current.record):
                self._try(lambda: annotator.mark(key, note=value))
        elif (self.filter.value, self.search.value) != (
            annotator.choice.filter,
            annotator.choice.search,
        ):
            chosen, search = self.filter.value, self.search.value.strip()
            self._try(lambda: self._choose(chosen, search))

    def _choose(self, chosen: str, search: str) -> None:
        found = self._annotator.choose(chosen, search)
        self._grid_start = 0
        if not found:
            self._say("No picture matches.")
        elif self._annotator.route.rank(self._annotator.place or 0) is None:
            self._annotator.next() or self._annotator.previous()

    def _open(self, place: int) -> None:
        def go() -> None:
            self.review.value = False
            self._annotator.open(place)

        self._try(go)

    def _turn(self, by: int) -> None:
        if 0 <= self._grid_start + by < len(self._annotator.route):
            self._grid_start += by

    def _say(self, text: str) -> None:
        self._said = text

    # -- to the page -----------------------------------------------------------------------------

    def told(self, event: str) -> None:
        """Take in that something changed."""
        if event == "edited":
            self._unsaved = True
        elif event == "saved":
            self._unsaved = False
        elif event == "opened":
            self._said = ""
        self._later()

    def _later(self) -> None:
        self._thread.post(self._refresh, REFRESH_DELAY_S, key="refresh")

    def _refresh(self) -> None:
        annotator = self._annotator
        key, place = annotator.key, annotator.place
        if not key or place is None or annotator._closed:
            return
        record, progress = annotator.store.record(key), annotator.progress
        if not self._asked:  # else what was entered is not done yet, and must not vanish
            _set(self.place, value=place + 1)
            _set(self.note, value=_shown_note(record))
            _set(self.filter, value=annotator.choice.filter, options=self._filters())
            _set(self.search, value=annotator.choice.search)
        _set(self.bar, value=progress.fraction)
        _set(self.flag, description="⚑ Unflag" if record.flagged else "⚑ Flag")
        _set(self.done, description="✓ Done again" if record.status == "done" else "✓ Done")
        self.name.say(f"of {len(annotator)}:  {key}  ({record.status})")
        self.text.say(str(progress))
        self._show_state()
        self._show_proposals()
        self._show(self.editor, not self.review.value)
        self._show(self.sheets, self.review.value)
        self._show(self.strip, not self.review.value)
        if self.review.value:
            self._show_grid()
        else:
            self.strip.tiles = self._tiles(self._around(place))

    def _show_state(self) -> None:
        annotator = self._annotator
        read_only = annotator.read_only
        _set(self.keys, read_only=read_only)
        for widget in (self.done, self.skip, self.flag, self.note, self.coco, self.accept):
            _set(widget, disabled=read_only)
        lines = [self._said, annotator.problem]
        if read_only:
            lines.insert(
                0,
                "Read only: nothing can be changed or saved here, because "
                f"{annotator.store.read_only_reason}.",
            )
        text = " ".join(line for line in lines if line)
        self.alert.say(text)
        self._show(self.alert, bool(text))
        state = "" if read_only else "saving …" if self._unsaved else "all saved"
        self.saved.say(state)

    def _show_proposals(self) -> None:
        annotator = self._annotator
        waiting = annotator.proposals
        _set(self.keys, proposals=bool(waiting) and not annotator.read_only)
        self._show(self.proposals, bool(waiting))
        if not waiting:
            return
        first = waiting[0]
        score = "" if first.score is None else f", {first.score:.0%} sure"
        self.sheet_text.say(
            f"Proposed: {first.class_name or 'object'} ({first.kind}{score}); "
            f"{len(waiting)} to answer"
        )
        if self._sheet != (annotator.key, waiting):
            self._sheet = (annotator.key, waiting)
            self.sheet.value = proposal_sheet(annotator.current.image, waiting)

    def _show_grid(self) -> None:
        annotator, start = self._annotator, self._grid_start
        places = list(annotator.route.places[start : start + GRID_TILES])
        last = start + len(places)
        shown = f"{start + 1} to {last}" if places else "0"
        self.grid_text.say(f"{shown} of {len(annotator.route)}; click a picture to open it")
        _set(self.grid_back, disabled=start == 0)
        _set(self.grid_on, disabled=last >= len(annotator.route))
        self.grid.tiles = self._tiles(places)

    def _around(self, place: int) -> list[int]:
        """Return the places of the strip: those of the filter before and after this one."""
        route = self._annotator.route
        rank = route.rank(place)
        if rank is None:
            return [place]
        start = max(0, min(rank - STRIP_TILES // 2, len(route) - STRIP_TILES))
        return list(route.places[start : start + STRIP_TILES])

    def _tiles(self, places: list[int]) -> list[dict[str, Any]]:
        annotator = self._annotator
        tiles = []
        for place in places:
            key = annotator.keys[place]
            record = annotator.store.record(key)
            tiles.append(
                {
                    "place": place,
                    # A name may hold bytes that are no Unicode, which cannot be sent.
                    "name": key.encode("utf-8", "replace").decode(),
                    "status": record.status,
                    "flagged": record.flagged,
                    "note": record.note.encode("utf-8", "replace").decode(),
                    "current": key == annotator.key,
                    "version": f"{record.at}-{record.score}",
                }
            )
        return tiles

    def _want_strip(self, places: list[int]) -> None:
        self._want(self.strip, places)

    def _want_grid(self, places: list[int]) -> None:
        self._want(self.grid, places)

    def _want(self, tiles: Tiles, places: list[int]) -> None:
        for place in places[:GRID_TILES]:
            if 0 <= place < len(self._annotator):
                send = functools.partial(self._send_picture, tiles, place)
                self._pictures.post(send, key=(tiles.kind, place))

    def _send_picture(self, tiles: Tiles, place: int) -> None:
        version = next((t["version"] for t in tiles.tiles if t["place"] == place), None)
        if version is None:
            return  # scrolled away meanwhile
        annotator = self._annotator
        key = annotator.keys[place]
        try:
            session = annotator.store.load_session(key) or annotator.source.session(key)
        except DynaMITeError:
            session = None
        try:
            data = thumbnail(annotator.source.image(key), session)
        except Exception as error:
            logger.debug("no thumbnail of %s: %s", key, error)
            return
        tiles.send_picture(place, version, data)

    def _filters(self) -> tuple[str, ...]:
        annotator = self._annotator
        state = annotator.widget.controller.state
        used = (*annotator.classes, *(i.class_name for i in state.instances))
        return (*FILTERS, *(f"class:{name}" for name in dict.fromkeys(used)))

    @staticmethod
    def _show(widget: Any, visible: bool) -> None:
        display = None if visible else "none"
        if widget.layout.display != display:
            widget.layout.display = display


_AUTO = {"width": "auto"}


def _row(*children: Any) -> ipywidgets.HBox:
    box = ipywidgets.HBox(children)
    box.add_class("dmw-row-of-controls")
    return box


def _text(placeholder: str, width: str) -> Text:
    return Text(placeholder=placeholder, continuous_update=False, layout={"width": width})


def _set(widget: Any, **values: Any) -> None:
    """Set what differs; options before the value that is one of them."""
    for name in sorted(values, key=lambda name: name != "options"):
        if getattr(widget, name) != values[name]:
            if name == "options":
                with widget.hold_trait_notifications():
                    value = widget.value
                    widget.options = values[name]
                    widget.value = value
            else:
                setattr(widget, name, values[name])


def _shown_note(record: Record) -> str:
    return record.note.encode("utf-8", "replace").decode()


def _tell(this: weakref.ref[AnnotatorView], event: str) -> None:
    view = this()
    if view is not None:
        view.told(event)
