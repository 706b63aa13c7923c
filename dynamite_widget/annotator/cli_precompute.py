"""``dynamite precompute``: embeds the pictures of a folder ahead of annotating them."""

from __future__ import annotations

import argparse
import logging
import re
from typing import Any

from ..errors import DataError
from .cli import add_source, output_folder
from .embeddings import DEFAULT_BUDGET_BYTES
from .precomputing import precompute

logger = logging.getLogger(__name__)

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def add_parser(subparsers: Any) -> None:
    """Add the parser of ``dynamite precompute``."""
    parser = subparsers.add_parser(
        "precompute",
        help="embed a folder of pictures ahead",
        description="Keeps what the network computes of each picture in OUT/embeddings, where the "
        "annotator finds it, so that pictures open at once. May be interrupted and run again.",
    )
    add_source(parser)
    parser.add_argument(
        "--budget",
        default=f"{DEFAULT_BUDGET_BYTES >> 30}G",
        metavar="SIZE",
        help="disk space to use, such as 500M or 20G (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Run ``dynamite precompute``."""
    output = output_folder(args)
    done = precompute(
        args.source,
        output / "embeddings",
        model=args.model,
        checkpoint=args.checkpoint,
        device=args.device,
        budget_bytes=read_size(args.budget),
        progress=True,
        images=args.images,
        pattern=args.pattern,
        without=[output],
    )
    logger.info(
        "%d pictures embedded, %d were there already; %.2f GB in %s",
        done.computed,
        done.known,
        done.size_bytes / 1e9,
        output / "embeddings",
    )
    if done.left_out:
        logger.info("%d left out: the budget of %s is used up", done.left_out, args.budget)
    if done.unreadable:
        logger.info("%d cannot be read", len(done.unreadable))
    return 0


def read_size(text: str) -> int:
    """Return the bytes of "500M", "1.5 GB", "20G"; DataError if it is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    if match is None:
        raise DataError(f"a size is a number with K, M, G or T, such as 20G; got {text!r:.40}")
    return int(float(match[1]) * _UNITS[match[2]])
