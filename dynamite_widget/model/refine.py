"""Two extensions of the mask head that the published checkpoints lack.

`RelativeTerm` adds a learned function of the offset between a pixel and a click to the logits of
that click. `RefineHead` looks at the fused logits of one instance, at its rivals and at the clicks
for and against it, and corrects the outline with a small convolutional network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .precision import fast_dtype

#: Standard deviations, in network-image pixels, of the Gaussians of the distance to a click.
_RELATIVE_SIGMAS = (4.0, 12.0, 36.0, 108.0)
_GUIDE_SIGMAS = (5.0, 20.0)
#: Offsets are divided by this many pixels to bring them to the order of 1.
_OFFSET_UNIT = 128.0
#: Where an instance is this much behind, no refinement makes it win.
_HOPELESS = 4.0
#: Stride-4 pixels around a refined region: what the network sees of its surroundings.
_WINDOW_MARGIN = 12


def _pixel_axes(
    padded_size: tuple[int, int], size: tuple[int, int], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows and columns, in network-image pixels, of the cell centres of a map."""
    axes = []
    for extent, cells in zip(padded_size, size, strict=True):
        step = extent / cells
        index = torch.arange(cells, device=like.device, dtype=torch.float32)
        axes.append((index + 0.5) * step - 0.5)
    return axes[0], axes[1]


class RelativeTerm(nn.Module):
    """Logits from the offset to the click: Gaussians of the distance, the distance, the offset."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weights = nn.Linear(dim, len(_RELATIVE_SIGMAS) + 3)
        nn.init.normal_(self.weights.weight, std=0.01)
        with torch.no_grad():
            # Starts as a mild preference for the surroundings of the click.
            self.weights.bias.copy_(torch.tensor([1.0, 1.0, 1.0, 0.5, -0.5, 0.0, 0.0]))

    def forward(
        self, content: Tensor, yx: Tensor, padded_size: tuple[int, int], size: tuple[int, int]
    ) -> Tensor:
        """Evaluate the term on a map.

        Parameters
        ----------
        content : Tensor
            (B, N, d) normalised content of the click queries.
        yx : Tensor
            (B, N, 2) clicks in network-image pixels.
        padded_size, size : tuple of int
            Network image and map to evaluate on.

        Returns
        -------
        Tensor
            (B, N, *size).
        """
        rows, columns = _pixel_axes(padded_size, size, yx)
        dy = (rows - yx[..., :1]) / _OFFSET_UNIT
        dx = (columns - yx[..., 1:]) / _OFFSET_UNIT
        weight = self.weights(content)[..., None, None]
        total: Tensor | float = 0.0
        for i, sigma in enumerate(_RELATIVE_SIGMAS):
            # A Gaussian of the distance is separable: two small exponentials, one outer product.
            precision = 0.5 * (_OFFSET_UNIT / sigma) ** 2
            column = torch.exp(-precision * dy**2)[..., :, None] * weight[..., i, :, :]
            total = total + column * torch.exp(-precision * dx**2)[..., None, :]
        n = len(_RELATIVE_SIGMAS)
        distance = torch.sqrt(dy[..., :, None] ** 2 + dx[..., None, :] ** 2 + 1e-6)
        total = total + weight[..., n, :, :] * distance
        total = total + weight[..., n + 1, :, :] * dy[..., :, None]
        return total + weight[..., n + 2, :, :] * dx[..., None, :]


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with an identity path."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class RefineHead(nn.Module):
    """A small U-shaped network that corrects the logits of one instance.

    Its input is the instance's fused logits, the best rival instance, the background and the clicks
    for and against, beside a click-independent context of the picture. The first convolution is
    linear, so the context's share is computed once per picture.
    """

    def __init__(self, width: int, dim: int, detail_channels: int) -> None:
        super().__init__()
        self.detail = nn.Conv2d(detail_channels, width, 1)
        self.context = nn.Conv2d(dim, width, 1)
        self.context_conv = nn.Conv2d(width, width, 3, padding=1)
        self.guide_conv = nn.Conv2d(3 + 2 * len(_GUIDE_SIGMAS), width, 3, padding=1, bias=False)
        self.down8 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.down16 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.deep = nn.Sequential(_Residual(2 * width, 1), _Residual(2 * width, 2))
        self.up8 = nn.Conv2d(2 * width, width, 1)
        self.fuse8 = nn.Conv2d(width, width, 3, padding=1)
        self.fuse4 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.out = nn.Conv2d(width // 2, 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def prepare(self, mask_features: Tensor, detail: Tensor | None) -> Tensor:
        """Return the picture's share of the first convolution, (B, width, Hp / 4, Wp / 4)."""
        assert detail is not None
        return self.context_conv(F.relu(self.context(mask_features) + self.detail(detail)))

    def forward(
        self,
        fused: Sequence[Tensor],
        rows: Sequence[tuple[int, int]],
        row_clicks: Sequence[tuple[Tensor, Tensor]],
        context: Tensor,
        padded_size: tuple[int, int],
    ) -> list[Tensor]:
        """Refine all instances of all pictures in one batch.

        Parameters
        ----------
        fused : sequence of Tensor
            Per picture (K + 1, h, w) logits, background last.
        rows : sequence of (picture, instance index)
            What to refine, in order.
        row_clicks : sequence of (for, against)
            Per row the (n, 2) clicks of the instance and those of all others.
        context : Tensor
            Output of `prepare`.
        padded_size : tuple of int
            Network image.

        Returns
        -------
        list of Tensor
            Per picture (K + 1, h, w); the background's logits are unchanged.
        """
        guides = torch.stack(
            [
                self._guide(fused[picture], k, *clicks, padded_size)
                for (picture, k), clicks in zip(rows, row_clicks, strict=True)
            ]
        )
        pictures = [picture for picture, _ in rows]
        shared = context if len(context) == 1 else context[pictures]
        change = self._change(guides, shared)
        refined = []
        for picture, logits in enumerate(fused):
            own = [i for i, p in enumerate(pictures) if p == picture]
            refined.append(torch.cat([logits[:-1] + change[own], logits[-1:]]))
        return refined

    def refine_near(
        self,
        fused: Tensor,
        clicks: Sequence[tuple[Tensor, Tensor]],
        context: Tensor,
        padded_size: tuple[int, int],
    ) -> Tensor:
        """Refine each instance of one picture only around the pixels that it may own.

        Elsewhere its logits stay as they are: it would have to gain more than `_HOPELESS` there.
        Products run in bfloat16 where the processor has it.

        Parameters
        ----------
        fused : Tensor
            (K + 1, h, w) logits, background last; h and w are multiples of 4.
        clicks : sequence of (for, against)
            Per instance as in `forward`.
        context, padded_size
            As in `forward`.

        Returns
        -------
        Tensor
            (K + 1, h, w).
        """
        refined = fused.clone()
        lower = fast_dtype(fused.dtype) == torch.bfloat16
        best = fused.amax(dim=0)
        for k, own_and_others in enumerate(clicks):
            window = _window(fused[k] > best - _HOPELESS)
            if window is None:
                continue
            rows, columns = window
            guide = self._guide(fused, k, *own_and_others, padded_size)[None]
            # Channels last is a third faster here.
            crops = [
                whole[:, :, rows, columns].contiguous(memory_format=torch.channels_last)
                for whole in (guide, context)
            ]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
                change = self._change(crops[0], crops[1])
            refined[k, rows, columns] += change[0]
        return refined

    def _change(self, guides: Tensor, context: Tensor) -> Tensor:
        """(n, guides, h, w) and (1 or n, width, h, w) → (n, h, w) corrections."""
        x4 = F.relu(self.guide_conv(guides) + context)
        x8 = F.relu(self.down8(x4))
        x16 = self.deep(F.relu(self.down16(x8)))
        x8 = F.relu(self.fuse8(x8 + _upsample(self.up8(x16), x8)))
        x4 = F.relu(self.fuse4(x4 + _upsample(x8, x4)))
        return self.out(x4)[:, 0]

    def _guide(
        self,
        fused: Tensor,
        k: int,
        own_clicks: Tensor,
        other_clicks: Tensor,
        padded_size: tuple[int, int],
    ) -> Tensor:
        others = torch.cat([fused[:k], fused[k + 1 : -1]])
        rival = others.amax(dim=0) if len(others) else torch.full_like(fused[0], -10.0)
        logits = torch.stack([fused[k], rival, fused[-1]]).clamp(-10.0, 10.0) / 5.0
        size = (fused.shape[-2], fused.shape[-1])
        maps = [
            _click_maps(clicks, padded_size, size, fused) for clicks in (own_clicks, other_clicks)
        ]
        return torch.cat([logits, *maps])


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


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def _click_maps(
    yx: Tensor, padded_size: tuple[int, int], size: tuple[int, int], like: Tensor
) -> Tensor:
    """(len(sigmas), h, w): the highest Gaussian bump of any click, 0 without clicks."""
    if not len(yx):
        return like.new_zeros(len(_GUIDE_SIGMAS), *size)
    rows, columns = _pixel_axes(padded_size, size, yx)
    squared = (rows - yx[:, :1])[:, :, None] ** 2 + (columns - yx[:, 1:])[:, None, :] ** 2
    nearest = squared.amin(dim=0)
    return torch.stack([torch.exp(-nearest / (2 * s * s)) for s in _GUIDE_SIGMAS]).to(like.dtype)
