"""Numbers on the command line, checked where they are read."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Return a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def fraction(text: str) -> float:
    """Return a number in 0 … 1, 1 excluded."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be in 0 … 1, got {text}")
    return value


def threshold(text: str) -> float:
    """Return a number in 0 … 1; 85 is how the literature writes 0.85."""
    value = float(text)
    if value > 1:
        value /= 100
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be in 0 … 1, got {text}")
    return value
