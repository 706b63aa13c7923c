"""Annotating a whole set of pictures: a queue with autosave, progress and review.

>>> from dynamite_widget import DatasetAnnotator
>>> DatasetAnnotator("pictures", "annotations", classes=["cat", "dog"])  # doctest: +SKIP

Public names are imported when first used; sources and the store need neither torch nor a notebook.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import Agreement, agreement
    from .dataset import DatasetAnnotator
    from .embeddings import EmbeddingStore
    from .item import PictureItem
    from .precompute import precompute
    from .proposals import Proposal
    from .statistics import Statistics, statistics
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
    "Agreement": "agreement",
    "AnnotationStore": "store",
    "DatasetAnnotator": "dataset",
    "EmbeddingStore": "embeddings",
    "PictureItem": "item",
    "Proposal": "proposals",
    "Statistics": "statistics",
    "agreement": "agreement",
    "precompute": "precompute",
    "statistics": "statistics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
