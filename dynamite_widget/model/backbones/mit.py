"""MiT, the hierarchical encoder of SegFormer (preset ``segformer-b0``).

Own code, because timm has no MiT: its nearest relative (PVTv2) places its norms differently, uses
one epsilon for all of them and pools keys and values another way, so published weights would not
give the same numbers. Entry names equal those of the authors' checkpoints.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dynamite_widget.model.backbones.base import Backbone, DropPath

__all__ = ["MixTransformer", "mit_b0"]

# The checkpoints were trained with two different epsilons; mixing them up costs 1e-4 in the maps.
_EMBED_EPS = 1e-5
_BLOCK_EPS = 1e-6


class _PatchEmbed(nn.Module):
    """Overlapping strided convolution, then LayerNorm over channels."""

    def __init__(self, in_channels: int, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(dim, eps=_EMBED_EPS)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, int, int]:
        embedded = self.proj(feature_map)
        height, width = embedded.shape[-2:]
        return self.norm(embedded.flatten(2).transpose(1, 2)), height, width


class _Attention(nn.Module):
    """Self-attention whose keys and values come from a map reduced by `reduction`."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = reduction
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if reduction > 1:
            self.sr = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim, eps=_EMBED_EPS)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        batch, count, dim = tokens.shape
        query = self.q(tokens).view(batch, count, self.heads, -1).transpose(1, 2)
        source = tokens
        if self.reduction > 1:
            reduced = self.sr(tokens.transpose(1, 2).reshape(batch, dim, height, width))
            source = self.norm(reduced.flatten(2).transpose(1, 2))
        packed = self.kv(source).view(batch, -1, 2, self.heads, dim // self.heads)
        key, value = packed.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).reshape(batch, count, dim))


class _DepthwiseConv(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        batch, _, dim = tokens.shape
        feature_map = tokens.transpose(1, 2).reshape(batch, dim, height, width)
        return self.dwconv(feature_map).flatten(2).transpose(1, 2)


class _MixFFN(nn.Module):
    """Feed-forward block with a depth-wise convolution in place of a position code."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = _DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(tokens), height, width)))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_BLOCK_EPS)
        self.attn = _Attention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim, eps=_BLOCK_EPS)
        self.mlp = _MixFFN(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), height, width))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens), height, width))


class MixTransformer(Backbone):
    """SegFormer encoder.

    Parameters
    ----------
    widths, depths, heads, reductions : tuple of 4 int
        Channels, blocks, attention heads and key/value reduction of the four stages.
    drop_path_rate : float
        Stochastic depth of the last block while training; grows linearly from 0.

    Notes
    -----
    The first stage is frozen (no gradient), as in the published training.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int],
        depths: tuple[int, int, int, int],
        heads: tuple[int, int, int, int],
        reductions: tuple[int, int, int, int] = (8, 4, 2, 1),
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = widths
        last = sum(depths) - 1
        rates = [drop_path_rate * index / last for index in range(last + 1)]
        in_channels = 3
        for index, (dim, depth) in enumerate(zip(widths, depths, strict=True)):
            kernel, stride = (7, 4) if index == 0 else (3, 2)
            stage_rates, rates = rates[:depth], rates[depth:]
            blocks = [_Block(dim, heads[index], reductions[index], rate) for rate in stage_rates]
            self.add_module(
                f"patch_embed{index + 1}", _PatchEmbed(in_channels, dim, kernel, stride)
            )
            self.add_module(f"block{index + 1}", nn.ModuleList(blocks))
            self.add_module(f"norm{index + 1}", nn.LayerNorm(dim, eps=_BLOCK_EPS))
            in_channels = dim
        for name in ("patch_embed1", "block1", "norm1"):
            self.get_submodule(name).requires_grad_(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See `Backbone.forward`."""
        maps = []
        feature_map = pixels
        for index in range(1, 5):
            tokens, height, width = self.get_submodule(f"patch_embed{index}")(feature_map)
            blocks = self.get_submodule(f"block{index}")
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                tokens = block(tokens, height, width)
            tokens = self.get_submodule(f"norm{index}")(tokens)
            # The normalised map is both the output and the input of the next stage.
            feature_map = tokens.transpose(1, 2).unflatten(2, (height, width)).contiguous()
            maps.append(feature_map)
        return maps


def mit_b0() -> MixTransformer:
    """MiT-B0: 3.3 M parameters, widths 32, 64, 160, 256."""
    return MixTransformer((32, 64, 160, 256), (2, 2, 2, 2), (1, 2, 5, 8))
