"""Embedding all pictures of a set ahead, so that each opens at once."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..embedding_cache import Key
from ..errors import ImageError
from ..network import embedding_key, make_predictor
from ..picture import Picture, load_picture
from .embeddings import DEFAULT_BUDGET_BYTES, EmbeddingStore
from .sources import open_source

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Precomputed:
    """What `precompute` did.

    Attributes
    ----------
    computed, known : int
        Pictures embedded now, and those that were on the disk already.
    left_out : int
        Pictures for which the budget had no room.
    unreadable : dict from name to reason
    size_bytes : int
        Of the folder.
    """

    computed: int
    known: int
    left_out: int
    unreadable: dict[str, str]
    size_bytes: int


def precompute(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    model: str = "lite",
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "auto",
    predictor: Any = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    progress: bool = False,
    **options: Any,
) -> Precomputed:
    """Embed the pictures of a source and keep the embeddings in a folder.

    Stops when the budget is used up: the pictures that come first are those annotated first. May be
    interrupted and run again.

    Parameters
    ----------
    source : object
        As for `DatasetAnnotator`.
    folder : path
        ``output/embeddings`` is found by the annotator by itself.
    model, checkpoint, device, predictor :
        The network; embeddings of one are of no use to another.
    budget_bytes : int
    progress : bool
        Show a bar.
    **options
        ``images``, ``recursive``, ``pattern``, ``without`` of the source.
    """
    opened = open_source(source, **options)
    store = EmbeddingStore(folder, budget_bytes)
    predictor = predictor or make_predictor(model, checkpoint, device)
    room = budget_bytes - store.size_bytes
    computed, known, left_out = 0, 0, 0
    unreadable: dict[str, str] = {}
    most = getattr(predictor, "batch_size", 1)
    waiting: list[tuple[Key, Picture]] = []

    def embed() -> list[tuple[Key, Any]]:
        names = [name for name, _ in waiting]
        images = [picture.image for _, picture in waiting]
        waiting.clear()
        made = predictor.embed_many(images) if len(images) > 1 else map(predictor.embed, images)
        return list(zip(names, made, strict=True))

    def keep(embeddings: list[tuple[Key, Any]]) -> None:
        nonlocal computed, left_out, room
        for name, embedding in embeddings:
            # What is there already stays: the oldest are the first pictures.
            if left_out or int(embedding.nbytes * 1.02) > room or not store.put(name, embedding):
                left_out += 1
                continue
            computed += 1
            room -= Path(store.path(name)).stat().st_size

    keys: Any = opened.keys
    if progress:
        from tqdm.auto import tqdm

        keys = tqdm(keys, unit="picture")
    for key in keys:
        try:
            picture = load_picture(opened.image(key), key)
        except (ImageError, OSError) as error:
            unreadable[key] = str(error)
            logger.warning("%s cannot be read: %s", key, error)
            continue
        name = embedding_key(picture, predictor)
        if name in store:
            known += 1
            continue
        if left_out:
            left_out += 1  # the first that did not fit has ended it; the rest is only counted
            continue
        waiting.append((name, picture))
        if len(waiting) >= most:
            keep(embed())
    keep(embed())
    return Precomputed(computed, known, left_out, unreadable, store.size_bytes)
