"""Colours of instances: distinguishable with colour-blind vision first, then simply many.

The first eight follow Okabe and Ito's colour-blind-safe set (without black, which vanishes on dark
pictures); later ones step the hue by the golden angle and alternate lightness. A colour is never
the only signal: every instance also has a number.
"""

from __future__ import annotations

import colorsys
import re

_FIRST = (
    "#e69f00",  # orange
    "#56b4e9",  # sky blue
    "#009e73",  # bluish green
    "#f0e442",  # yellow
    "#0072b2",  # blue
    "#d55e00",  # vermilion
    "#cc79a7",  # reddish purple
    "#b2e061",  # lime, in place of black
)
_GOLDEN_ANGLE = 0.381966011
_HEX = re.compile(r"#[0-9a-f]{6}")


def instance_colour(instance: int) -> str:
    """Return the colour ``"#rrggbb"`` of an instance id (>= 1); always the same for one id."""
    index = instance - 1
    if index < len(_FIRST):
        return _FIRST[index]
    step = index - len(_FIRST)
    hue = (0.07 + step * _GOLDEN_ANGLE) % 1.0
    lightness = (0.62, 0.42, 0.76)[step % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.78)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def is_colour(value: object) -> bool:
    """Tell whether `value` is a colour as this package writes it: ``"#rrggbb"``, lower case."""
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def to_rgb(colour: str) -> tuple[int, int, int]:
    """Return (red, green, blue), 0..255 each, of ``"#rrggbb"``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
