"""Two extensions of the mask head that the published checkpoints lack.

`RelativeTerm` adds a learned function of the offset between a pixel and a click to the logits of
that click. `RefineHead` looks at the fused logits of one instance, at its rivals and at the clicks
for and against it, and corrects the outline with a small convolutional network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Standard deviations, in network-image pixels, of the Gaussians of the distance to a click.
_RELATIVE_SIGMAS = (4.0, 12.0, 36.0, 108.0)
GUIDE_SIGMAS = (5.0, 20.0)
#: Logits that the refinement sees are clamped to this and divided by the unit.
LOGIT_LIMIT, LOGIT_UNIT = 10.0, 5.0
#: Offsets are divided by this many pixels to bring them to the order of 1.
_OFFSET_UNIT = 128.0


def pixel_axes(
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
        rows, columns = pixel_axes(padded_size, size, yx)
        dy = (rows - yx[..., :1]) / _OFFSET_UNIT
        dx = (columns - yx[..., 1:]) / _OFFSET_UNIT
        weight = self.weights(content)
        # All but the distance are sums of products of a function of the row and one of the column:
        # one small matrix product per click.
        down, across = [], []
        for i, sigma in enumerate(_RELATIVE_SIGMAS):
            precision = 0.5 * (_OFFSET_UNIT / sigma) ** 2
            down.append(torch.exp(-precision * dy**2) * weight[..., i : i + 1])
            across.append(torch.exp(-precision * dx**2))
        n = len(_RELATIVE_SIGMAS)
        down += [dy * weight[..., n + 1 : n + 2], weight[..., n + 2 :].expand_as(dy)]
        across += [torch.ones_like(dx), dx]
        distance = torch.sqrt((dy**2 + 1e-6)[..., :, None] + (dx**2)[..., None, :])
        separable = torch.stack(down, dim=-1) @ torch.stack(across, dim=-2)
        return torch.addcmul(separable, distance, weight[..., n : n + 1, None])


Convolve = Callable[[nn.Conv2d, Tensor], Tensor]


def _as_it_is(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return layer(x)


class _Residual(nn.Module):
    """Two 3 x 3 convolutions with an identity path."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, _as_it_is)

    def run(self, x: Tensor, convolve: Convolve) -> Tensor:
        """Apply it with other means of convolution."""
        return convolve(self.conv2, convolve(self.conv1, x).relu_()).add_(x).relu_()


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
        self.guide_conv = nn.Conv2d(3 + 2 * len(GUIDE_SIGMAS), width, 3, padding=1, bias=False)
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
        change = self.change(guides, shared)
        refined = []
        for picture, logits in enumerate(fused):
            own = [i for i, p in enumerate(pictures) if p == picture]
            refined.append(torch.cat([logits[:-1] + change[own], logits[-1:]]))
        return refined

    def change(self, guides: Tensor, context: Tensor, convolve: Convolve = _as_it_is) -> Tensor:
        """Return what to add to the logits.

        Parameters
        ----------
        guides : Tensor
            (n, 3 + 2 * sigmas, h, w): logits of the instance, its best rival, the background;
            Gaussians of the distances to its clicks and to those of others.
        context : Tensor
            (1 or n, width, h, w) crop of the output of `prepare`.
        convolve : callable
            Applies a convolution of this module.

        Returns
        -------
        Tensor
            (n, h, w).
        """
        x4 = convolve(self.guide_conv, guides).add_(context).relu_()
        x8 = convolve(self.down8, x4).relu_()
        x16 = convolve(self.down16, x8).relu_()
        for block in self.deep:
            x16 = cast(_Residual, block).run(x16, convolve)
        x8 = convolve(self.fuse8, _upsample(convolve(self.up8, x16), x8).add_(x8)).relu_()
        x4 = convolve(self.fuse4, _upsample(x8, x4).add_(x4)).relu_()
        return convolve(self.out, x4)[:, 0]

    def _guide(
        self,
        fused: Tensor,
        k: int,
        own_clicks: Tensor,
        other_clicks: Tensor,
        padded_size: tuple[int, int],
    ) -> Tensor:
        others = torch.cat([fused[:k], fused[k + 1 : -1]])
        rival = others.amax(dim=0) if len(others) else torch.full_like(fused[0], -LOGIT_LIMIT)
        logits = torch.stack([fused[k], rival, fused[-1]]).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        size = (fused.shape[-2], fused.shape[-1])
        maps = [
            _click_maps(clicks, padded_size, size, fused) for clicks in (own_clicks, other_clicks)
        ]
        return torch.cat([logits / LOGIT_UNIT, *maps])


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def _click_maps(
    yx: Tensor, padded_size: tuple[int, int], size: tuple[int, int], like: Tensor
) -> Tensor:
    """(len(sigmas), h, w): the highest Gaussian bump of any click, 0 without clicks."""
    if not len(yx):
        return like.new_zeros(len(GUIDE_SIGMAS), *size)
    rows, columns = pixel_axes(padded_size, size, yx)
    squared = (rows - yx[:, :1])[:, :, None] ** 2 + (columns - yx[:, 1:])[:, None, :] ** 2
    nearest = squared.amin(dim=0)
    return torch.stack([torch.exp(-nearest / (2 * s * s)) for s in GUIDE_SIGMAS]).to(like.dtype)
