"""``dynamite import``: make sessions of other tools' annotations, to be corrected in the widget."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..export.annotation_set import AnnotatedPicture
from ..export.files import OutputFile, refuse_existing, unique_stems, write_files
from ..images import load_image, picture_hash
from ..session import ClickSession
from ..session_json import to_json
from .registry import read_annotations, readable

logger = logging.getLogger(__name__)


def add_parser(subparsers: Any) -> None:
    """Add the ``import`` sub command."""
    parser = subparsers.add_parser(
        "import",
        help="make sessions of other tools' annotations",
        description="Make one session file per picture. Masks stay as they are until they are "
        "edited in the widget; --refine finds clicks with which the network makes them.",
        epilog="formats: " + ", ".join(readable()),
    )
    parser.add_argument("source", type=Path, help="annotation file or folder")
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder for the sessions")
    parser.add_argument("-f", "--format", help="see below (default: recognised)")
    parser.add_argument(
        "--images", type=Path, help="folder of the pictures; needed by yolo-seg and --refine"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    network = parser.add_argument_group("taking over by the network")
    network.add_argument("--refine", action="store_true", help="seed clicks; needs --images")
    network.add_argument("--iou", type=float, default=0.9, help="agreement to reach (default: 0.9)")
    network.add_argument(
        "--clicks", type=int, default=8, help="budget of each instance (default: 8)"
    )
    network.add_argument("--model", default="lite", help="preset (default: lite)")
    network.add_argument("--checkpoint", help="weights file (default: those of the preset)")
    network.add_argument("--device", default="auto", help="cpu, cuda, … (default: auto)")


def run(args: argparse.Namespace) -> int:
    """Run ``dynamite import``."""
    if args.refine and args.images is None:
        raise ExportError("--refine needs the pictures: --images FOLDER")
    annotations = read_annotations(args.source, args.format, args.images)
    written = write_files(_sessions(annotations, args), overwrite=args.overwrite)
    count = sum(len(picture.instances) for picture in annotations)
    print(f"{len(written)} sessions with {count} instances in {args.out}")
    return 0


def _sessions(annotations: Any, args: argparse.Namespace) -> Iterator[OutputFile]:
    predictor: Any = None
    stems = unique_stems(picture.name for picture in annotations)
    for picture, stem in zip(annotations, stems, strict=True):
        target = args.out / f"{stem}.json"
        if not args.overwrite:
            refuse_existing(target)  # before the network is asked
        session = picture.to_session()
        if args.images is not None:
            if picture.image is None:
                raise ExportError(f"no picture {picture.name!r} in {str(args.images)!r}")
            pixels = load_image(picture.image)
            if pixels.shape[:2] != (picture.height, picture.width):
                raise ExportError(
                    f"{picture.name!r} is {pixels.shape[0]} x {pixels.shape[1]} pixels, its "
                    f"annotations are {picture.height} x {picture.width}"
                )
            session.image_hash = picture_hash(pixels)
            if args.refine:
                if predictor is None:
                    from ..network import make_predictor

                    predictor = make_predictor(args.model, args.checkpoint, args.device)
                _refine(session, predictor, pixels, picture, args)
        yield OutputFile(target, to_json(session).encode())


def _refine(
    session: ClickSession,
    predictor: Any,
    pixels: Any,
    picture: AnnotatedPicture,
    args: argparse.Namespace,
) -> None:
    from ..network import checkpoint_hash
    from .refining import predict_with, refine

    embedding = predictor.embed(pixels)
    report = refine(
        session,
        predict_with(predictor, embedding),
        target_iou=args.iou,
        max_clicks=args.clicks,
    )
    state = session.state
    masks = predictor.predict(embedding, state.clicks, instances=state.instance_ids)
    session.keep_masks(masks.with_edits(state))
    session.checkpoint_hash = checkpoint_hash(predictor)
    print(f"{picture.name}")
    for entry in report:
        done = "taken over" if entry.taken_over else "kept as imported"
        print(
            f"  {entry.instance:4} {entry.class_name:20.20} IoU {entry.network_iou:.3f}  "
            f"{entry.clicks} clicks  {done}"
        )
