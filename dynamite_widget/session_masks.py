"""Masks that travel with a session: the label map its clicks came to, as row-major run lengths.

They let a saved session be exported, drawn and compared without a network. They belong to one
state: as soon as a click, stroke or fixed mask differs, they are not handed out any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import rle
from .errors import SessionError

if TYPE_CHECKING:
    from .segmentation import Segmentation
    from .session_state import SessionState

VERSION = 1


@dataclass(frozen=True)
class SavedMasks:
    """The label map of one session state, compressed, with the scores of its instances.

    Parameters
    ----------
    height, width : int
        Size of the picture in pixels.
    lengths : bytes
        Run lengths, row by row, as little-endian uint32.
    ids : bytes
        Instance id of each run (0 = background) as little-endian uint16.
    scores : tuple of (id, score)
        0..1, of all instances, ascending ids.
    """

    height: int
    width: int
    lengths: bytes
    ids: bytes
    scores: tuple[tuple[int, float], ...]

    @classmethod
    def from_segmentation(cls, segmentation: Segmentation) -> SavedMasks:
        """Compress the full-resolution label map of a segmentation."""
        lengths, ids = rle.encode(segmentation.label_map)
        scores = zip(segmentation.instances, segmentation.scores.tolist(), strict=True)
        return cls(
            segmentation.height,
            segmentation.width,
            lengths.astype("<u4").tobytes(),
            ids.astype("<u2").tobytes(),
            tuple((i, round(min(1.0, max(0.0, s)), 6)) for i, s in scores),
        )

    @property
    def runs(self) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """Run lengths (R,) uint32 and the label of each run (R,) uint16."""
        return (
            np.frombuffer(self.lengths, "<u4").astype(np.uint32),
            np.frombuffer(self.ids, "<u2").astype(np.uint16),
        )

    @property
    def label_map(self) -> NDArray[np.int32]:
        """(H, W) int32: 0 = background, k = instance id."""
        lengths, ids = self.runs
        return rle.decode(lengths, ids.astype(np.int32), self.height, self.width)

    def segmentation(self) -> Segmentation:
        """Return the masks as a `Segmentation`."""
        from .segmentation import Segmentation

        scores = dict(self.scores)
        return Segmentation.from_label_map(self.label_map, scores, scores)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` rebuilds it."""
        lengths, ids = self.runs
        return {
            "version": VERSION,
            "size": [self.height, self.width],
            "lengths": lengths.tolist(),
            "ids": ids.tolist(),
            "scores": {str(i): score for i, score in self.scores},
        }

    @classmethod
    def from_json(cls, fields: Any, state: SessionState) -> SavedMasks:
        """Rebuild from `to_json` and check against the state it belongs to.

        Raises
        ------
        SessionError
            If fields are missing, of the wrong type or of a newer version, if the runs do not fill
            the picture, or if a label is no instance of `state`.
        """
        if not isinstance(fields, Mapping):
            raise SessionError(f"'masks' must be an object, got {fields!r:.80}")
        version = fields.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise SessionError(
                f"'masks' has version {version!r:.40}, this package reads up to {VERSION}"
            )
        if fields.get("size") != [state.height, state.width]:
            raise SessionError(
                f"'masks' are of size {fields.get('size')!r:.80}, the picture of "
                f"{[state.height, state.width]}"
            )
        lengths, ids = fields.get("lengths"), fields.get("ids")
        for name, values, top in (("lengths", lengths, 2**32), ("ids", ids, 2**16)):
            if not isinstance(values, list) or any(
                type(v) is not int or not 0 <= v < top for v in values
            ):
                raise SessionError(f"'masks' has no list of whole numbers {name!r} below {top}")
        assert isinstance(lengths, list)
        assert isinstance(ids, list)
        if len(lengths) != len(ids) or sum(lengths) != state.height * state.width:
            raise SessionError(
                f"'masks' holds {len(lengths)} runs of {sum(lengths)} pixels and {len(ids)} ids, "
                f"the picture {state.height * state.width} pixels"
            )
        known = set(state.instance_ids)
        if unknown := set(ids) - known - {0}:
            raise SessionError(f"'masks' names unknown instances {sorted(unknown)[:5]}")
        scores = fields.get("scores")
        if not isinstance(scores, Mapping) or {str(i) for i in known} != set(scores):
            raise SessionError("'masks' needs a score for each instance")
        for score in scores.values():
            if type(score) not in (int, float) or not (math.isfinite(score) and 0 <= score <= 1):
                raise SessionError(f"a score lies in 0..1, got {score!r:.40}")
        return cls(
            state.height,
            state.width,
            np.asarray(lengths, "<u4").tobytes(),
            np.asarray(ids, "<u2").tobytes(),
            tuple((i, float(scores[str(i)])) for i in sorted(known)),
        )


def masks_key(state: SessionState) -> tuple[Any, ...]:
    """Return what masks depend on; colours, names and the active instance are not among it."""
    return (
        state.height,
        state.width,
        state.clicks,
        state.strokes,
        tuple((i.id, i.locked, i.fixed_mask) for i in state.instances),
    )
