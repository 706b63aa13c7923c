"""The Python API of an annotated picture: edits in, masks out. A mixin around a controller.

`DynaMITeWidget` inherits it (by way of `results`); it knows no traits and no messages.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .controller import AnnotationController
from .errors import DynaMITeError, SessionError
from .rle import RLE, as_rle
from .segmentation import Segmentation
from .session import ClickSession
from .session_json import read_session

logger = logging.getLogger(__name__)


class AnnotationAPI:
    """What can be done with one picture, for classes that have a `controller`."""

    @property
    def controller(self) -> AnnotationController:
        """The controller behind it."""
        raise NotImplementedError

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the masks of the present clicks; False if `timeout_s` passed first.

        Raises
        ------
        DynaMITeError
            If the prediction failed; the clicks are kept.
        """
        return self.controller.wait(timeout_s)

    # -- editing ---------------------------------------------------------------------------------

    def click(
        self,
        x: int,
        y: int,
        instance: int | Literal["new"] | None = None,
        class_name: str | None = None,
    ) -> int:
        """Click on an object.

        Parameters
        ----------
        x, y : int
            Pixel column and row of the picture.
        instance : int, "new" or None
            Instance id, 0 for the background, ``"new"`` for a new instance; None is the active
            instance, or a new one when none is active.
        class_name : str, optional
            Class of a new instance.

        Returns
        -------
        int
            The time index t of the click, which names it in `move_click` and `remove_click`.

        Raises
        ------
        SessionError
            Outside the picture, unknown or locked instance, or a pixel that has a click already.
        """
        target = (self.controller.state.active_instance or "new") if instance is None else instance
        state = self.controller.apply("click", x=x, y=y, instance=target, class_name=class_name)
        return int(state.clicks[-1].t or 0)

    def click_background(self, x: int, y: int) -> int:
        """Click on what belongs to no instance; returns the click's t."""
        return self.click(x, y, 0)

    def move_click(self, t: int, x: int, y: int) -> None:
        """Move the click with time index `t`."""
        self.controller.apply("move_click", t=t, x=x, y=y)

    def remove_click(self, t: int) -> None:
        """Remove the click with time index `t`."""
        self.controller.apply("remove_click", t=t)

    def new_instance(
        self, class_name: str | None = None, mask: RLE | ArrayLike | None = None
    ) -> int:
        """Add an instance and make it active.

        Parameters
        ----------
        class_name : str, optional
            By default that of the active instance, else the first class.
        mask : (H, W) bool array or RLE, optional
            A mask to start from; it stays as it is until the instance is clicked.

        Returns
        -------
        int
            The new id.
        """
        return self.controller.apply(
            "new_instance", class_name=class_name, mask=as_rle(mask)
        ).active_instance

    def remove_instance(self, instance: int) -> None:
        """Remove an instance with its clicks and strokes."""
        self.controller.apply("remove_instance", instance=instance)

    def set_class(self, instance: int, class_name: str) -> None:
        """Name what an instance is."""
        self.controller.apply("set_class", instance=instance, class_name=class_name)

    def select(self, instance: int) -> None:
        """Make an instance active; 0 for none."""
        self.controller.apply("select", instance=instance)

    def lock(self, instance: int, locked: bool = True) -> None:
        """Keep the present mask of an instance whatever is clicked, or let it follow again."""
        self.controller.apply("lock", instance=instance, locked=locked)

    def hide(self, instance: int, hidden: bool = True) -> None:
        """Hide the overlay of an instance, or show it; masks do not change."""
        if not isinstance(hidden, (bool, np.bool_)):
            raise SessionError(f"hidden must be true or false, got {hidden!r:.80}")
        self.controller.apply("set_visible", instance=instance, visible=not hidden)

    def paint(
        self,
        instance: int,
        points: Iterable[tuple[int, int]],
        radius: float = 5,
        mode: Literal["add", "erase"] = "add",
    ) -> None:
        """Correct a mask by hand: discs of `radius` pixels along `points` join or leave it."""
        places = [tuple(point) for point in points]
        self.controller.apply("paint", instance=instance, mode=mode, radius=radius, points=places)

    def undo(self) -> bool:
        """Take the last edit back; False if there is none."""
        return self.controller.undo()

    def redo(self) -> bool:
        """Bring the last undone edit back; False if there is none."""
        return self.controller.redo()

    def reset(self) -> None:
        """Take away all clicks, instances and strokes; can be undone."""
        self.controller.apply("reset")

    def set_image(
        self,
        image: Any,
        *,
        session: Any = None,
        name: str | None = None,
        classes: Iterable[str] | None = None,
    ) -> None:
        """Show another picture, without clicks or with those of its `session`."""
        self.controller.set_image(
            image,
            session=None if session is None else read_session(session),
            name=name,
            classes=classes,
        )

    # -- results ---------------------------------------------------------------------------------

    @property
    def segmentation(self) -> Segmentation:
        """Masks, scores, areas, boxes and margins of the present clicks; waits for them."""
        self.wait()
        return self.controller.segmentation

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool, in the order of `instances`; at most one True per pixel."""
        return self.segmentation.masks

    @property
    def label_map(self) -> NDArray[np.int32]:
        """(H, W) int32: 0 = background, k = instance id."""
        return self.segmentation.label_map

    def mask_of(self, instance: int) -> NDArray[np.bool_]:
        """Return the (H, W) bool mask of one instance; SessionError if there is none."""
        return self.segmentation.mask(self.controller.state.instance(instance).id)

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture, (H, W, 3) uint8 RGB."""
        return self.controller.picture.image

    # -- sessions --------------------------------------------------------------------------------

    @property
    def session(self) -> ClickSession:
        """A copy of the session, history included; see `load_session` for the way back."""
        return self.controller.session

    def load_session(
        self,
        session: ClickSession | Mapping[str, Any] | str | bytes | os.PathLike[str],
        *,
        check_image: bool = True,
    ) -> None:
        """Go on from a session, its JSON text, dict, or file; SessionError if it does not fit."""
        self.controller.load_session(session, check_image=check_image)

    def save(self, path: str | os.PathLike[str], *, masks: bool = True) -> None:
        """Write the session (clicks, instances, history; not the picture) to a JSON file.

        Parameters
        ----------
        path : path
            Replaced whole or not at all.
        masks : bool
            Wait for the masks and store them, too (as run lengths), so that the file can be
            exported without a network. Without them the file is smaller.
        """
        session = self.session
        if masks:
            try:
                segmentation = self.segmentation
                session = self.session
                session.keep_masks(segmentation)
            except DynaMITeError as error:
                # Clicks are never lost: a network that fails must not keep them from the disk.
                logger.warning("the session is saved without masks: %s", error)
        session.save(Path(path))
