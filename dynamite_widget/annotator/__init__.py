"""Annotating a whole set of pictures: a queue with autosave, progress and review.

>>> from dynamite_widget import DatasetAnnotator
>>> DatasetAnnotator("pictures", "annotations", classes=["cat", "dog"])  # doctest: +SKIP

Public names are imported when first used; sources and the store need neither torch nor a notebook.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
