"""``dynamite annotate``: opens the annotator on a folder of pictures, in JupyterLab or Voila."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..session_json import write_atomically

NOTEBOOK = "annotate.ipynb"


def add_parser(subparsers: Any) -> None:
    """Add the parser of ``dynamite annotate``."""
    parser = subparsers.add_parser(
        "annotate",
        help="annotate a folder of pictures in the browser",
        description="Makes a notebook with the annotator and opens it. What was annotated before "
        "is there again; several runs on the same output go on where the last one ended.",
    )
    add_source(parser)
    parser.add_argument(
        "--classes", default="", metavar="A,B,…", help="class names, in the order of the digit keys"
    )
    parser.add_argument(
        "--propose", type=Path, metavar="FILE", help="annotations of any tool to accept one by one"
    )
    serving = parser.add_argument_group("serving")
    serving.add_argument(
        "--voila", action="store_true", help="show the annotator alone, with Voila (if installed)"
    )
    serving.add_argument("--no-browser", action="store_true", help="serve, open no browser")
    serving.add_argument("--port", type=int, help="port of the server")
    serving.add_argument(
        "--notebook-only", action="store_true", help="write the notebook, start nothing"
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add what ``annotate`` and ``precompute`` have in common."""
    parser.add_argument("source", metavar="FOLDER", help="folder, 'pattern/*.jpg', or COCO file")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        help="where sessions and results go (default: FOLDER-annotations, beside it)",
    )
    parser.add_argument("--images", type=Path, help="folder of the pictures of a COCO file")
    parser.add_argument("--pattern", help="only names that match, such as '*.png'")
    parser.add_argument("--model", default="lite", help="preset (default: lite)")
    parser.add_argument("--checkpoint", help="weights file (default: those of the preset)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: auto)")


def run(args: argparse.Namespace) -> int:
    """Run ``dynamite annotate``."""
    from .sources import open_source

    output = output_folder(args)
    source = open_source(args.source, images=args.images, pattern=args.pattern, without=[output])
    if not source.keys:
        raise DataError(f"there are no pictures in {args.source!r}")
    notebook = write_notebook(args, output)
    print(f"{len(source.keys)} pictures; results go to {output}")
    if args.notebook_only:
        print(notebook)
        return 0
    try:
        return subprocess.call(server_command(args, notebook))
    except KeyboardInterrupt:
        return 0  # how one ends a server


def output_folder(args: argparse.Namespace) -> Path:
    """Return the output folder: the one given, or one beside the pictures."""
    if args.out is not None:
        return Path(args.out).expanduser().absolute()
    path = Path(args.source).expanduser().absolute()
    while any(sign in path.name for sign in "*?["):
        path = path.parent
    stem = path.name.removesuffix(".gz").removesuffix(".json") or "pictures"
    return path.with_name(f"{stem}-annotations")


def write_notebook(args: argparse.Namespace, output: Path) -> Path:
    """Write the notebook; one that is there and was changed by a person is kept."""
    path = output / NOTEBOOK
    cell = code(args, output)
    content = {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": "annotate",
                "metadata": {},
                "outputs": [],
                "source": cell.splitlines(keepends=True),
            }
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    if path.exists() and _was_changed(path):
        print(f"{path} was changed by hand and is opened as it is; options are not put into it")
        return path
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1).encode())
    return path


def code(args: argparse.Namespace, output: Path) -> str:
    """Return the cell that shows the annotator."""
    source = Path(args.source).expanduser().absolute()
    classes = [name.strip() for name in args.classes.split(",") if name.strip()]
    options: dict[str, Any] = {
        "classes": classes or None,
        "images": None if args.images is None else str(Path(args.images).absolute()),
        "pattern": args.pattern,
        "model": None if args.model == "lite" else args.model,
        "checkpoint": args.checkpoint,
        "device": None if args.device == "auto" else args.device,
    }
    given = "".join(f"    {name}={value!r},\n" for name, value in options.items() if value)
    propose = ""
    if args.propose is not None:
        propose = f"annotator.propose({str(args.propose.absolute())!r})\n"
    return (
        "from dynamite_widget import DatasetAnnotator\n\n"
        f"annotator = DatasetAnnotator(\n    {str(source)!r},\n    {str(output)!r},\n{given})\n"
        f"{propose}annotator"
    )


def server_command(args: argparse.Namespace, notebook: Path) -> list[str]:
    """Return the command that serves the notebook.

    Raises
    ------
    DataError
        If neither JupyterLab nor Voila is installed, or Voila is asked for and is not.
    """
    has_lab, has_voila = (importlib.util.find_spec(n) is not None for n in ("jupyterlab", "voila"))
    if args.voila and not has_voila:
        raise DataError("Voila is not installed: pip install voila, or leave out --voila")
    if args.voila or (has_voila and not has_lab):
        command = [sys.executable, "-m", "voila", str(notebook)]
        port = "--port"
    elif has_lab:
        command = [sys.executable, "-m", "jupyterlab", str(notebook)]
        port = "--ServerApp.port"
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
    else:
        raise DataError("JupyterLab is not installed: pip install 'dynamite-widget[demo]'")
    if args.no_browser:
        command.append("--no-browser")
    if args.port is not None:
        command.append(f"{port}={args.port}")
    return command


def _was_changed(path: Path) -> bool:
    """Tell whether somebody put more into a notebook than we did."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        texts = ["".join(cell["source"]).strip() for cell in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    written = [text for text in texts if text]
    return len(written) != 1 or not written[0].startswith(
        "from dynamite_widget import DatasetAnnotator\n\nannotator = DatasetAnnotator("
    )
