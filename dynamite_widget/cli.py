"""The ``dynamite`` command: finds the sub command, reports errors in one line.

What a sub command does lives in its own module (``add_parser(subparsers)`` and ``run(args)``),
which is imported only when that command is asked for, so that ``dynamite --help`` is quick and the
training extra is not needed for anything else.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from dynamite_widget import __version__
from dynamite_widget.errors import DynaMITeError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One sub command: where it lives, and the extra that brings what it imports besides."""

    module: str
    help: str
    extra: str | None = None


COMMANDS = {
    "download": Command(
        "dynamite_widget.model.download", "fetch a published checkpoint", extra="download"
    ),
    "train": Command("dynamite_widget.training.cli", "train a network", extra="train"),
    "evaluate": Command("dynamite_widget.evaluation.cli", "measure a network with robot clicks"),
    "ablate": Command(
        "dynamite_widget.evaluation.ablate_cli",
        "train the network's switches briefly and compare them",
        extra="train",
    ),
    "export": Command("dynamite_widget.export.cli", "write saved sessions in other formats"),
    "annotate": Command(
        "dynamite_widget.annotator.cli", "annotate a folder of pictures in the browser"
    ),
    "precompute": Command(
        "dynamite_widget.annotator.cli_precompute", "embed a folder of pictures ahead"
    ),
    "import": Command("dynamite_widget.importing.cli", "make sessions of other tools' annotations"),
    "info": Command("dynamite_widget.info", "show versions, devices, weights and folders"),
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; only `command` (if any) is imported and has all its options."""
    parser = argparse.ArgumentParser(
        prog="dynamite",
        description="Interactive segmentation of many objects by clicks.",
    )
    parser.add_argument("--version", action="version", version=f"dynamite-widget {__version__}")
    parser.add_argument(
        "--debug", action="store_true", help="on errors, show where they happened (a traceback)"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, entry in COMMANDS.items():
        if name == command:
            importlib.import_module(entry.module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=entry.help, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code (0, 2 for errors, 130 for Ctrl+C).

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process if not given.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Accepted before and after the sub command, whose own parser does not know it.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    _log_to_stderr(debug)
    try:
        args = build_parser(command if command in COMMANDS else None).parse_args(arguments)
        code = importlib.import_module(COMMANDS[args.command].module).run(args)
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        if debug:
            raise
        print("dynamite: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DynaMITeError, OSError, ModuleNotFoundError) as error:
        if debug:
            raise
        print(f"dynamite: {_one_line(error, command)}", file=sys.stderr)
        return EXIT_ERROR


def _one_line(error: Exception, command: str | None) -> str:
    message = " ".join(str(error).split()) or type(error).__name__
    entry = COMMANDS.get(command or "")
    if isinstance(error, ModuleNotFoundError):
        message += f" (dynamite {command})"
        if entry is not None and entry.extra is not None:
            message += f"; perhaps: pip install 'dynamite-widget[{entry.extra}]'"
    return message


def _log_to_stderr(debug: bool) -> None:
    logger = logging.getLogger("dynamite_widget")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
