"""Masks out: `Segmentation`, what the clicks of one picture come to.

Label map, masks, scores, boxes, areas and margin of all instances; disjoint by construction. Made
from a renderer (the network's logits, or a given label map) plus the edits of a session; everything
at full resolution is computed when first asked for. Numpy only.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .edits import Edits
from .label_maps import (
    CERTAIN_MARGIN,
    ArrayRenderer,
    EmptyRenderer,
    LabelMap,
    Renderer,
    masks_of,
    statistics_of,
)

if TYPE_CHECKING:
    from .session_state import SessionState


class Segmentation:
    """Non-overlapping masks of the instances of one picture.

    Arrays are cached and read-only; copy one to change it.

    Parameters
    ----------
    height, width : int
        Size of the picture in pixels.
    instances : iterable of int
        Instance ids (>= 1), including those that own no pixel.
    renderer : Renderer
        Draws labels and margins at any size.
    thumbnail : (h, w, 3) uint8 array or None
        Small copy of the picture for the preview in notebooks.

    Attributes
    ----------
    height, width : int
    instances : tuple of int
        Ascending.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_cache",
        "_edits",
        "_lock",
        "_renderer",
        "_thumbnail",
        "height",
        "instances",
        "width",
    )

    height: int
    width: int
    instances: tuple[int, ...]
    _base: Segmentation | None
    _cache: dict[Any, Any]
    _edits: Edits | None
    _lock: threading.RLock
    _renderer: Renderer
    _thumbnail: NDArray[np.uint8] | None

    def __init__(
        self,
        height: int,
        width: int,
        instances: Iterable[int],
        renderer: Renderer,
        thumbnail: NDArray[np.uint8] | None = None,
    ) -> None:
        ids = tuple(sorted({int(i) for i in instances}))
        if height < 1 or width < 1:
            raise ValueError(f"a picture has at least 1 x 1 pixels, got {height} x {width}")
        if ids and ids[0] < 1:
            raise ValueError(f"instance ids are >= 1, got {ids[0]}")
        fields = {
            "height": int(height),
            "width": int(width),
            "instances": ids,
            "_renderer": renderer,
            "_thumbnail": thumbnail,
            "_edits": None,
            "_base": None,
            "_cache": {},
            "_lock": threading.RLock(),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Segmentation does not change; {name!r} cannot be set")

    def __repr__(self) -> str:
        return f"Segmentation({self.height} x {self.width}, instances={list(self.instances)})"

    # --- making one ------------------------------------------------------------------------------

    @classmethod
    def from_label_map(
        cls,
        label_map: ArrayLike,
        instances: Iterable[int] | None = None,
        scores: Mapping[int, float] | Sequence[float] | None = None,
    ) -> Segmentation:
        """Wrap a given label map.

        Parameters
        ----------
        label_map : (H, W) integer or bool array
            0 = background, k = instance id.
        instances : iterable of int, optional
            Ids; by default those that occur. Labels of other ids become background.
        scores : mapping from id to score, or sequence in the order of the ascending ids, optional
            1 by default.

        Raises
        ------
        ValueError
            If the array is not an (H, W) map of labels >= 0, or the scores do not fit.
        """
        array = np.asarray(label_map)
        if array.ndim != 2 or array.size == 0:
            raise ValueError(f"a label map is a non-empty (H, W) array, got shape {array.shape}")
        if array.dtype.kind not in "biu":
            raise ValueError(f"a label map holds integers, got dtype {array.dtype}")
        if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
            raise ValueError(f"labels must be >= 0, got {array.min()}..{array.max()}")
        labels = np.array(array, dtype=np.int32, order="C")
        present = np.unique(labels).tolist()
        if instances is None:
            ids = [label for label in present if label > 0]
        else:
            ids = sorted({int(i) for i in instances})
            unknown = set(present) - {0, *ids}
            if unknown:
                labels[np.isin(labels, list(unknown))] = 0
        if scores is None:
            by_id = dict.fromkeys(ids, 1.0)
        elif isinstance(scores, Mapping):
            by_id = {i: float(scores[i]) for i in ids}
        elif len(scores) == len(ids):
            by_id = {i: float(s) for i, s in zip(ids, scores, strict=True)}
        else:
            raise ValueError(f"{len(scores)} scores for {len(ids)} instances {ids}")
        height, width = labels.shape
        return cls(height, width, ids, ArrayRenderer(labels, by_id))

    @classmethod
    def empty(
        cls,
        height: int,
        width: int,
        instances: Iterable[int] = (),
        thumbnail: NDArray[np.uint8] | None = None,
    ) -> Segmentation:
        """Return the segmentation of a picture in which no instance owns a pixel."""
        return cls(height, width, instances, EmptyRenderer(), thumbnail=thumbnail)

    def with_edits(self, state: SessionState) -> Segmentation:
        """Apply what a person fixed or painted, at any resolution; the network's part is shared.

        In this order: (1) labels of instances that `state` does not have become background; (2)
        each instance with a fixed mask (locked or imported) has exactly that mask, against the
        network's labels of others, too (where fixed masks overlap, locked before imported, then the
        lower id wins); (3) strokes by time: "add" gives pixels to the instance, "erase" takes those
        that it has. Pixels of locked instances are out of reach of strokes, and strokes of a locked
        instance are already part of its fixed mask.

        Edits of this segmentation itself are replaced, not stacked.

        Parameters
        ----------
        state : SessionState
            Of the same picture.

        Returns
        -------
        Segmentation
            Of the instances of `state`.

        Raises
        ------
        ValueError
            If the state belongs to a picture of another size.
        """
        if (state.height, state.width) != (self.height, self.width):
            raise ValueError(
                f"the state is of a {state.height} x {state.width} picture, "
                f"this segmentation of {self.height} x {self.width}"
            )
        edits = Edits.from_state(state)
        edited = Segmentation(
            self.height, self.width, edits.instances, self._renderer, self._thumbnail
        )
        object.__setattr__(edited, "_edits", edits)
        object.__setattr__(edited, "_base", self if self._base is None else self._base)
        return edited

    # --- arrays ----------------------------------------------------------------------------------

    @property
    def label_map(self) -> LabelMap:
        """(H, W) int32: 0 = background, k = instance id."""
        return self._cached("label_map", lambda: self._render_labels(self.height, self.width))

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool, in the order of `instances`; at most one True per pixel.

        Memory is taken only where an instance has pixels (untouched pages of a zeroed array cost
        nothing), so that 50 instances of a 24-megapixel picture do not need 1.2 GB.
        """
        return self._cached("masks", lambda: masks_of(self.label_map, self.instances))

    def mask(self, instance: int) -> NDArray[np.bool_]:
        """Return the (H, W) bool mask of one instance.

        Raises
        ------
        KeyError
            If the instance is not part of this segmentation.
        """
        self._index(instance)
        return _read_only(self.label_map == instance)

    @property
    def scores(self) -> NDArray[np.float32]:
        """(N,) float32, 0..1: mean confidence of the network over the pixels of each instance.

        1 for fixed and purely painted masks; 0 for instances without anything.
        """
        return self._cached("scores", self._make_scores)

    @property
    def boxes(self) -> NDArray[np.int64]:
        """(N, 4) int64 x0, y0, x1, y1 in pixels, ends exclusive; zeros if an instance is empty."""
        return self._statistics[:, 1:]

    @property
    def areas(self) -> NDArray[np.int64]:
        """(N,) int64 number of pixels of each instance."""
        return self._statistics[:, 0]

    @property
    def margin(self) -> NDArray[np.float32]:
        """(H, W) float32, >= 0: top-1 minus top-2 logit; small where the label is in doubt."""
        return self._cached("margin", lambda: self._render_margin(self.height, self.width))

    def label_map_at(self, height: int, width: int) -> LabelMap:
        """Return the (height, width) int32 label map of the whole picture at display resolution."""
        if (height, width) == (self.height, self.width):
            return self.label_map
        return self._cached(("labels", height, width), lambda: self._render_labels(height, width))

    def margin_at(self, height: int, width: int) -> NDArray[np.float32]:
        """Return the (height, width) float32 margin of the whole picture at display resolution."""
        if (height, width) == (self.height, self.width):
            return self.margin
        return _read_only(self._render_margin(height, width))

    # --- pictures --------------------------------------------------------------------------------

    def plot(self, image: ArrayLike | None = None, **options: Any) -> Any:
        """Draw an overlay figure with matplotlib; see `dynamite_widget.plotting.plot_segmentation`.

        Parameters
        ----------
        image : (H, W, 3) uint8 array, optional
            The picture; by default the small copy that came with the prediction, if any.
        **options
            Passed on.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .plotting import plot_segmentation

        return plot_segmentation(self, self._thumbnail if image is None else image, **options)

    def _repr_png_(self) -> bytes:
        """Small overlay for notebooks."""
        from PIL import Image

        from .plotting import blend

        if self._thumbnail is not None:
            canvas = self._thumbnail
        else:
            scale = min(1.0, 384 / max(self.height, self.width))
            size = (max(1, round(self.height * scale)), max(1, round(self.width * scale)))
            canvas = np.full((*size, 3), 64, np.uint8)
        labels = self.label_map_at(canvas.shape[0], canvas.shape[1])
        buffer = io.BytesIO()
        Image.fromarray(blend(canvas, labels)).save(buffer, "PNG")
        return buffer.getvalue()

    # --- inside ----------------------------------------------------------------------------------

    def _cached(self, key: Any, make: Any) -> Any:
        with self._lock:
            if key not in self._cache:
                if isinstance(key, tuple):  # one display size is kept
                    for old in [k for k in self._cache if isinstance(k, tuple)]:
                        del self._cache[old]
                self._cache[key] = _read_only(make())
            return self._cache[key]

    def _index(self, instance: int) -> int:
        try:
            return self.instances.index(instance)
        except ValueError:
            raise KeyError(
                f"no instance {instance!r}; this segmentation has {list(self.instances)}"
            ) from None

    def _render_labels(self, height: int, width: int) -> LabelMap:
        if height < 1 or width < 1:
            raise ValueError(f"a label map has at least 1 x 1 pixels, got {height} x {width}")
        if self._edits is None or self._base is None:
            return self._renderer.label_map(height, width)
        return self._edits.apply(self._base._unedited(height, width))

    def _unedited(self, height: int, width: int) -> LabelMap:
        """Labels for an edited copy; kept at display size, as brushing asks for them repeatedly."""
        if (height, width) == (self.height, self.width) and "label_map" not in self._cache:
            return self._renderer.label_map(height, width)
        return self.label_map_at(height, width)

    def _render_margin(self, height: int, width: int) -> NDArray[np.float32]:
        if height < 1 or width < 1:
            raise ValueError(f"a margin map has at least 1 x 1 pixels, got {height} x {width}")
        margin = self._renderer.margin(height, width)
        if self._edits is not None and self._base is not None:
            margin = np.array(margin)
            margin[self._edits.decided(self._base._unedited(height, width))] = CERTAIN_MARGIN
        return margin

    @property
    def _statistics(self) -> NDArray[np.int64]:
        return self._cached("statistics", lambda: statistics_of(self.label_map, self.instances))

    def _make_scores(self) -> NDArray[np.float32]:
        known = dict(self._renderer.scores())
        if self._edits is not None:
            for instance in self._edits.painted:
                known.setdefault(instance, 1.0)
            known.update(dict.fromkeys(self._edits.fixed, 1.0))
        return np.asarray([known.get(i, 0.0) for i in self.instances], np.float32)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array = array.view()  # the flag goes to the view: renderers may share the array itself
    array.flags.writeable = False
    return array
