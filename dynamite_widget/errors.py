"""Exceptions of the package: one root, one class per concern.

Argument errors stay ``TypeError`` / ``ValueError``; everything else derives from `DynaMITeError`.
"""

from __future__ import annotations


class DynaMITeError(Exception):
    """Root of every exception that this package defines."""


class ImageError(DynaMITeError, ValueError):
    """A picture cannot be used: wrong shape, damaged file, NaN values, too large."""


class SessionError(DynaMITeError, ValueError):
    """An intent does not fit the session: unknown instance, click outside the picture, bad file."""


class ExportError(DynaMITeError, ValueError):
    """A result cannot be written in, or read from, the format asked for."""


class DataError(DynaMITeError, ValueError):
    """A data set is unusable: missing pictures, malformed annotations, empty masks."""


class CheckpointError(DynaMITeError, RuntimeError):
    """Weights cannot be loaded: missing file, unsafe pickle, keys of another network."""
