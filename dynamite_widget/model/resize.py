"""The test-time resize rule: from a picture to the network image and back to its pixels.

Section 1 of the architecture: short side to a fixed length unless the long side would become too
long, PIL bilinear with anti-aliasing on uint8, normalise, zero-pad to multiples of 32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .config import ModelConfig

#: Network images are padded to multiples of the coarsest stride.
PAD_MULTIPLE = 32


def network_size(
    height: int, width: int, short_side: int | None = 800, max_long_side: int = 1333
) -> tuple[int, int]:
    """Return the size (h', w') that a picture is resized to before padding.

    Parameters
    ----------
    height, width : int
        Size of the picture in pixels, >= 1.
    short_side : int or None
        Length of the short side in pixels; None: the long side becomes `max_long_side`.
    max_long_side : int
        Largest length of the long side in pixels.

    Returns
    -------
    tuple of int
        (h', w'), each at least 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a picture has at least 1 x 1 pixels, got {height} x {width}")
    if short_side is None:
        scale = max_long_side / max(height, width)
        new_height, new_width = scale * height, scale * width
    else:
        scale = short_side / min(height, width)
        # The short side is exact: scale * height may miss it by a rounding error.
        if height < width:
            new_height, new_width = float(short_side), scale * width
        else:
            new_height, new_width = scale * height, float(short_side)
        longest = max(new_height, new_width)
        if longest > max_long_side:
            scale = max_long_side / longest
            new_height, new_width = new_height * scale, new_width * scale
    # Elongated pictures (1 x 5000) would vanish on their short side.
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def network_size_for(config: ModelConfig, height: int, width: int) -> tuple[int, int]:
    """Return (h', w') of a picture under the rule of a model configuration."""
    return network_size(height, width, config.short_side, config.max_long_side)


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Return (Hp, Wp), the next multiples of 32 of a network size."""
    return (
        -(-height // PAD_MULTIPLE) * PAD_MULTIPLE,
        -(-width // PAD_MULTIPLE) * PAD_MULTIPLE,
    )


def preprocess(
    image: NDArray[np.uint8], config: ModelConfig
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Turn a picture into network input.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
        RGB.
    config : ModelConfig
        Resize rule, mean and standard deviation.

    Returns
    -------
    pixels : (3, Hp, Wp) float32 array
        Normalised; zeros right of and below the picture.
    size : tuple of int
        (h', w'), the part that holds the picture.
    """
    height, width = network_size_for(config, *image.shape[:2])
    if (height, width) != image.shape[:2]:
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    pixels = np.zeros((3, *padded_size(height, width)), np.float32)
    mean = np.asarray(config.pixel_mean, np.float32)
    std = np.asarray(config.pixel_std, np.float32)
    for channel in range(3):
        values = image[:, :, channel].astype(np.float32)
        np.divide(values - mean[channel], std[channel], out=pixels[channel, :height, :width])
    return pixels, (height, width)
