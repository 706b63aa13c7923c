"""Annotations as sessions: every instance has its mask fixed until a person edits it."""

from __future__ import annotations

from typing import Any

from ..export.annotation_set import META, AnnotatedPicture
from ..rle import RLE
from ..session import ClickSession
from ..session_state import Instance, SessionState


def to_session(picture: AnnotatedPicture) -> ClickSession:
    """Return a session with the masks of a picture.

    Instances keep id, class, colour and seconds. Clicks that a file tells of are not restored:
    they belong to a mask of another network.
    """
    masks = {cutout.instance.id: cutout for cutout in picture.cutouts()}
    instances = tuple(
        Instance(
            i.id,
            i.class_name,
            i.colour,
            fixed_mask=None
            if i.id not in masks
            else (
                i.whole
                if i.whole is not None
                else RLE.from_mask(masks[i.id].full(picture.height, picture.width))
            ),
        )
        for i in picture.instances
    )
    state = SessionState(
        picture.height,
        picture.width,
        instances=instances,
        next_id=max(picture.ids, default=0) + 1,
        classes=picture.classes,
    )
    notes: dict[str, Any] = dict(picture.source)
    if crowds := [i.id for i in picture.instances if i.crowd]:
        notes["crowds"] = crowds
    session = ClickSession.from_state(
        state,
        image_name=picture.name,
        image_hash=picture.image_hash,
        meta={META: notes} if notes else None,
    )
    for i in picture.instances:
        if i.seconds is not None:
            session.seconds_spent[i.id] = i.seconds
    return session
