"""Public names of packages, imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def import_name(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Return a public name of a package from the module that defines it.

    Parameters
    ----------
    package : str
        Dotted name of the package.
    homes : mapping of str to str
        Public name -> dotted name of its module, relative to the package.
    name : str
        The name asked for.

    Raises
    ------
    AttributeError
        If the package has no such name.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
