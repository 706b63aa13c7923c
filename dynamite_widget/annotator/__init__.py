"""Annotating a whole set of pictures: a queue with autosave, progress and review.

>>> from dynamite_widget import DatasetAnnotator
>>> DatasetAnnotator("pictures", "annotations", classes=["cat", "dog"])  # doctest: +SKIP

Public names are imported when first used; sources and the store need neither torch nor a notebook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import import_name

if TYPE_CHECKING:
    from .comparison import Agreement, agreement
    from .dataset import DatasetAnnotator
    from .effort import Statistics, statistics
    from .embeddings import EmbeddingStore
    from .item import PictureItem
    from .precomputing import precompute
    from .proposals import Proposal
    from .store import AnnotationStore

__all__ = [
    "Agreement",
    "AnnotationStore",
    "DatasetAnnotator",
    "EmbeddingStore",
    "PictureItem",
    "Proposal",
    "Statistics",
    "agreement",
    "precompute",
    "statistics",
]

_HOMES = {
    "Agreement": "comparison",
    "AnnotationStore": "store",
    "DatasetAnnotator": "dataset",
    "EmbeddingStore": "embeddings",
    "PictureItem": "item",
    "Proposal": "proposals",
    "Statistics": "effort",
    "agreement": "comparison",
    "precompute": "precomputing",
    "statistics": "effort",
}


def __getattr__(name: str) -> Any:
    return import_name(__name__, _HOMES, name)
