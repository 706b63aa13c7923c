"""``dynamite export``: write saved sessions in any format, without the network if they can."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .annotation_set import AnnotatedPicture, AnnotationSet
from .registry import FORMATS, export
from .sessions import read_sessions

logger = logging.getLogger(__name__)


def add_parser(subparsers: Any) -> None:
    """Add the ``export`` sub command."""
    parser = subparsers.add_parser(
        "export",
        help="write saved sessions in other formats",
        description="Write saved sessions to annotation files. Sessions that carry their masks "
        "need no network.",
        epilog="formats:\n" + "".join(f"  {f.name:14} {f.title}\n" for f in FORMATS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sessions",
        nargs="+",
        type=Path,
        metavar="SESSION",
        help="session files, or folders of them",
    )
    parser.add_argument("-o", "--out", required=True, type=Path, help="file or folder to write")
    parser.add_argument(
        "-f", "--format", help="see below (default: by the ending of --out; .json is coco)"
    )
    parser.add_argument(
        "--images", type=Path, help="folder of the pictures, for cutouts and --copy-images"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument(
        "--merge", action="store_true", help="add to existing files, by picture and instance"
    )
    shape = parser.add_argument_group("shapes")
    shape.add_argument(
        "--polygons",
        action="store_true",
        help="polygons in place of masks, where they say the same",
    )
    shape.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="PX",
        help="pixels that a polygon's border may move (default: 0, exact)",
    )
    shape.add_argument(
        "--transform",
        type=float,
        nargs=6,
        metavar=("A", "B", "C", "D", "E", "F"),
        help="affine coordinates for geojson: A*x + B*y + C, D*x + E*y + F",
    )
    parser.add_argument(
        "--copy-images", action="store_true", help="copy the pictures along (yolo-seg, voc)"
    )
    network = parser.add_argument_group("sessions without masks")
    network.add_argument(
        "--predict", action="store_true", help="let the network compute them; needs --images"
    )
    network.add_argument("--model", default="lite", help="preset (default: lite)")
    network.add_argument("--checkpoint", help="weights file (default: those of the preset)")
    network.add_argument("--device", default="auto", help="cpu, cuda, … (default: auto)")


def run(args: argparse.Namespace) -> int:
    """Run ``dynamite export``."""
    if args.predict and args.images is None:
        raise ExportError("--predict needs the pictures: --images FOLDER")
    pictures = _predicted(args) if args.predict else None
    annotations = (
        AnnotationSet.from_sessions(args.sessions, args.images)
        if pictures is None
        else AnnotationSet(pictures)
    )
    written = export(
        annotations,
        args.out,
        args.format,
        overwrite=args.overwrite,
        merge=args.merge,
        polygons=args.polygons,
        tolerance=args.tolerance,
        transform=args.transform,
        copy_images=args.copy_images,
    )
    count = sum(len(picture.instances) for picture in annotations)
    print(
        f"{len(annotations)} pictures, {count} instances -> {len(written)} files in "
        f"{args.out if args.out.is_dir() else args.out.parent}"
    )
    return 0


def _predicted(args: argparse.Namespace) -> Iterator[AnnotatedPicture]:
    """Yield the pictures of all sessions; masks that a session does not carry are computed."""
    from ..images import load_image
    from ..importing.reading import pictures_in
    from ..network import make_predictor
    from .files import file_stem

    files = pictures_in(args.images)
    predictor: Any = None
    for source in args.sessions:
        for path, session in read_sessions(source):
            image = files.get(file_stem(session.image_name))
            try:
                yield AnnotatedPicture.from_session(session, image=image)
                continue
            except ExportError:
                if image is None:
                    raise ExportError(
                        f"{path}: no picture {session.image_name!r} in {str(args.images)!r}"
                    ) from None
            if predictor is None:
                predictor = make_predictor(args.model, args.checkpoint, args.device)
            state = session.state
            pixels = load_image(image)
            if pixels.shape[:2] != (state.height, state.width):
                raise ExportError(f"{str(image)!r} is not of the size of the session {path}")
            embedding = predictor.embed(pixels)
            predicted = predictor.predict(embedding, state.clicks, instances=state.instance_ids)
            logger.info("%s: masks computed by the network", path)
            yield AnnotatedPicture.from_session(session, predicted.with_edits(state), image=image)
