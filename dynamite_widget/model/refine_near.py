"""`RefineHead` on a CPU, each instance only around the pixels that it may own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .parallel import in_pieces
from .precision import fast_dtype
from .ranking import two_best
from .refine import GUIDE_SIGMAS, LOGIT_LIMIT, LOGIT_UNIT, RefineHead, pixel_axes

#: Where an instance is this much behind, no refinement makes it win.
_HOPELESS = 3.0
#: Stride-4 pixels around a refined region: what the network sees of its surroundings.
_WINDOW_MARGIN = 12


def refine_near(
    head: RefineHead,
    fused: Tensor,
    yx: Tensor,
    channels: Tensor,
    context: Tensor,
    padded_size: tuple[int, int],
) -> Tensor:
    """Refine each instance of one picture within a window.

    Outside its logits stay as they are: it would have to gain more than `_HOPELESS` there. Products
    run in bfloat16 where the processor has it.

    Parameters
    ----------
    head : RefineHead
        Its parameters.
    fused : Tensor
        (K + 1, h, w) logits, background last; h and w are multiples of 4.
    yx : Tensor
        (N, 2) clicks in network-image pixels.
    channels : Tensor
        (N,) channel of `fused` that each click speaks for.
    context, padded_size
        As in `RefineHead.forward`.

    Returns
    -------
    Tensor
        (K + 1, h, w).
    """
    refined = fused.clone()
    dtype = fast_dtype(fused.dtype)
    convolve = _Convolutions(head, dtype)
    context = context.to(dtype, memory_format=torch.channels_last)
    best, second, winner = two_best(fused[:-1])
    leader = torch.maximum(best, fused[-1])
    closeness = -_squared_distances(fused, yx, channels, padded_size)
    closest, next_closest, closest_channel = two_best(closeness)

    def change_of(k: int, window: tuple[slice, slice]) -> Tensor:
        logits, others = fused[k][window], closeness[k][window]
        rival = torch.where(winner[window] == k, second[window], best[window])
        foreign = torch.where(closest_channel[window] == k, next_closest[window], closest[window])
        guide = torch.stack([logits, rival, fused[-1][window]]).clamp_(-LOGIT_LIMIT, LOGIT_LIMIT)
        bumps = [
            torch.exp(near / (2 * sigma**2)) for near in (others, foreign) for sigma in GUIDE_SIGMAS
        ]
        guides = torch.cat([guide / LOGIT_UNIT, torch.stack(bumps)])[None]
        change = head.change(
            guides.to(dtype, memory_format=torch.channels_last),
            context[:, :, window[0], window[1]],
            convolve,
        )
        return change[0]

    windows = [(k, _window(fused[k] > leader - _HOPELESS)) for k in range(len(fused) - 1)]
    found = [(k, window) for k, window in windows if window is not None]
    found.sort(key=lambda item: -_area(item[1]))
    for (k, window), change in zip(
        found, in_pieces(lambda item: change_of(*item), found), strict=True
    ):
        refined[k][window] += change
    return refined


class _Convolutions:
    """Convolutions of a module in another type and with channels last, a third faster here."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._parameters = {
            layer: (
                layer.weight.to(dtype, memory_format=torch.channels_last),
                None if layer.bias is None else layer.bias.to(dtype),
            )
            for layer in module.modules()
            if isinstance(layer, nn.Conv2d)
        }

    def __call__(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        weight, bias = self._parameters[layer]
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation)


def _squared_distances(
    fused: Tensor, yx: Tensor, channels: Tensor, padded_size: tuple[int, int]
) -> Tensor:
    """(K + 1, h, w): squared distance to the nearest click of each channel; inf without any."""
    rows, columns = pixel_axes(padded_size, (fused.shape[-2], fused.shape[-1]), yx)
    down, across = (rows - yx[:, :1]) ** 2, (columns - yx[:, 1:]) ** 2
    nearest = torch.full_like(fused, torch.inf)
    for channel in channels.unique().tolist():
        own = channels == channel
        nearest[channel] = (down[own][:, :, None] + across[own][:, None, :]).amin(dim=0)
    return nearest


def _area(window: tuple[slice, slice]) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _window(pixels: Tensor) -> tuple[slice, slice] | None:
    """Rows and columns of a (h, w) map that hold all True pixels and a margin; None without any.

    Ends lie on multiples of 4, so that the strides of the network fall on the same pixels.
    """
    window = []
    for axis in (1, 0):
        found = pixels.any(dim=axis).nonzero()[:, 0]
        if not len(found):
            return None
        first, last = int(found[0]) - _WINDOW_MARGIN, int(found[-1]) + 1 + _WINDOW_MARGIN
        window.append(slice(max(0, first // 4 * 4), min(pixels.shape[1 - axis], -(-last // 4) * 4)))
    return window[0], window[1]
