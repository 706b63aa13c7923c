"""Sine codes: of the cells of a feature map, and of normalised click coordinates.

Both share the frequencies ``10000 ** (-2 * (j // 2) / n)``; neither has parameters. What is done
with the codes (projections, learned additions) belongs to the modules that use them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sine_code_1d", "sine_code_2d", "sine_codes_of_axes"]

_TEMPERATURE = 10_000.0
_EPS = 1e-6


def _wavelengths(num_feats: int, device: torch.device | str | None, dtype: torch.dtype) -> Tensor:
    index = torch.arange(num_feats, device=device, dtype=dtype)
    return _TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / num_feats)


def _interleave(phase: Tensor) -> Tensor:
    """Sine of the even and cosine of the odd entries of the last axis."""
    return torch.stack((phase[..., 0::2].sin(), phase[..., 1::2].cos()), dim=-1).flatten(-2)


def sine_code_1d(values: Tensor, num_feats: int = 128) -> Tensor:
    """Code normalised values by sines and cosines, S(a) of DynaMITe's click code.

    Parameters
    ----------
    values : Tensor of shape (...), float
        Coordinates or times, usually in 0..1; one period of the highest frequency is 1.
    num_feats : int
        Entries per value, even.

    Returns
    -------
    Tensor of shape (..., num_feats)
        ``sin(2 pi a w_j)`` for even j, ``cos(2 pi a w_j)`` for odd j; dtype and device of `values`.
    """
    scaled = values * (2 * math.pi)
    return _interleave(scaled[..., None] / _wavelengths(num_feats, values.device, scaled.dtype))


def sine_code_2d(
    height: int,
    width: int,
    dim: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Code the cells of a `height` x `width` map by their row and column.

    Rows and columns count from 1 and are divided by the size of the map, so the code is relative
    to the (padded) picture.

    Parameters
    ----------
    height, width : int
        Size of the map in cells.
    dim : int
        Channels, a multiple of 4: the first half codes the row (y), the second the column (x).
    device, dtype
        Where and as what to return it; it is computed in float32.

    Returns
    -------
    Tensor of shape (dim, height, width)
    """
    half = dim // 2
    y, x = sine_codes_of_axes(height, width, dim, device)
    code = torch.cat(
        (
            y.T[:, :, None].expand(half, height, width),
            x.T[:, None, :].expand(half, height, width),
        )
    )
    return code.to(dtype)


def sine_codes_of_axes(
    height: int, width: int, dim: int, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Return the two halves of `sine_code_2d` by row and by column.

    Returns
    -------
    rows : Tensor of shape (height, dim / 2)
        float32, first half of the code of every cell of a row.
    columns : Tensor of shape (width, dim / 2)
        float32, second half of the code of every cell of a column.
    """
    wavelengths = _wavelengths(dim // 2, device, torch.float32)
    rows = torch.arange(1, height + 1, device=device, dtype=torch.float32)
    columns = torch.arange(1, width + 1, device=device, dtype=torch.float32)
    return (
        _interleave((rows / (height + _EPS) * (2 * math.pi))[:, None] / wavelengths),
        _interleave((columns / (width + _EPS) * (2 * math.pi))[:, None] / wavelengths),
    )
