"""``dynamite info``: what is installed and what this machine offers, for people and bug reports."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from dynamite_widget import __version__

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "anywidget", "ipywidgets", "jupyterlab")
PACKAGE_DIR = Path(__file__).resolve().parent


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``info`` sub command."""
    parser = subparsers.add_parser(
        "info",
        help="show versions, devices, weights and folders",
        description="Show versions, devices, bundled weights and folders.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print what `collect` finds."""
    facts = collect()
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    print(f"dynamite-widget {facts['version']} in {facts['package_dir']}")
    print(f"Python {facts['python']} on {facts['platform']}")
    print("libraries: " + ", ".join(f"{k} {v or '-'}" for k, v in facts["libraries"].items()))
    print("devices:   " + "; ".join(facts["devices"]))
    print("presets:   " + ", ".join(facts["presets"]))
    print("weights:   " + (_file_list(facts["bundled_weights"]) or "none bundled"))
    front_end = _file_list(facts["front_end"])
    print("front end: " + (front_end or "not built (in a git checkout: make js)"))
    print(f"cache:     {facts['cache_dir']} ({_file_list(facts['cached']) or 'empty'})")
    return 0


def collect() -> dict[str, Any]:
    """Return the facts as plain data; sizes in bytes."""
    from dynamite_widget.model.config import PRESETS
    from dynamite_widget.model.download import cache_dir

    cache = cache_dir()
    return {
        "version": __version__,
        "package_dir": str(PACKAGE_DIR),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "devices": _devices(),
        "presets": list(PRESETS),
        "bundled_weights": _sizes(PACKAGE_DIR / "weights", "*.safetensors"),
        "front_end": _sizes(PACKAGE_DIR / "static", "widget.*"),
        "cache_dir": str(cache),
        "cached": _sizes(cache, "*"),
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> list[str]:
    import torch

    devices = [
        f"cuda:{index} {torch.cuda.get_device_name(index)}"
        for index in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append("mps")
    devices.append(f"cpu ({torch.get_num_threads()} threads)")
    return devices


def _sizes(folder: Path, pattern: str) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in sorted(folder.glob(pattern)) if p.is_file()}


def _file_list(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items())
