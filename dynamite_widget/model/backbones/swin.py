"""Swin transformer as a feature pyramid (presets ``swin-tiny`` and ``swin-large``).

The layers and their weights are timm's. The walk through them is ours, because timm's forward
gives other numbers on pictures whose maps are no multiple of the window: it rolls the map before
padding it (published weights: pad, then roll), switches the shift off on maps of one window, and
has one norm after the last stage instead of one per stage.
"""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamite_widget.model.backbones.base import Backbone
from dynamite_widget.model.parallel import in_even_pieces

__all__ = ["SwinBackbone", "swin_large", "swin_tiny"]

_DIFFERENT_REGION = -100.0
_CACHED_MASKS = 16
_CHUNK = 2048  # tokens that go through half a block together on a core


class SwinBackbone(Backbone):
    """Swin stages with one LayerNorm per output.

    Parameters
    ----------
    variant : str
        timm model whose layers are used, for example ``swin_tiny_patch4_window7_224``.
    window : int
        Window size M; odd blocks are shifted by ``M // 2``.
    drop_path_rate : float
        Stochastic depth of the last block while training; grows linearly from 0.
    """

    adds_in_float32 = True

    def __init__(self, variant: str, window: int, drop_path_rate: float = 0.3) -> None:
        super().__init__()
        import timm

        net: Any = timm.create_model(
            variant, pretrained=False, num_classes=0, drop_path_rate=drop_path_rate
        )
        self.window = window
        self.patch_embed = net.patch_embed
        self.layers = net.layers
        widths = tuple(int(info["num_chs"]) for info in net.feature_info)
        assert len(widths) == 4
        self.channels = widths
        for index, width in enumerate(widths):
            self.add_module(f"norm{index}", nn.LayerNorm(width))
        for layer in self.layers:
            for block in layer.blocks:
                block.attn_mask = None  # timm's masks for its own picture size: never used here
        self._masks: dict[tuple[int, int, torch.device, torch.dtype], Tensor] = {}

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See `Backbone.forward`."""
        tokens = self.patch_embed.norm(_wide(self.patch_embed.proj(pixels)).permute(0, 2, 3, 1))
        maps = []
        for index, layer in enumerate(self.layers):
            tokens = _wide(layer.downsample(tokens))
            for position, block in enumerate(layer.blocks):
                shift = self.window // 2 if position % 2 else 0
                attended = self._window_attention(block.attn, block.norm1(tokens), shift)
                tokens = tokens + block.drop_path1(attended)
                tokens = self._perceptron(block, tokens)
            normed = self.get_submodule(f"norm{index}")(tokens)
            maps.append(normed.permute(0, 3, 1, 2))
        return maps

    def _perceptron(self, block: Any, tokens: Tensor) -> Tensor:
        """Second half of a block, with the identity path."""
        if not _in_chunks(tokens):
            return tokens + block.drop_path2(block.mlp(block.norm2(tokens)))
        flat = tokens.flatten(0, 2)
        output = torch.empty_like(flat)

        def perceive(part: slice) -> None:
            torch.add(flat[part], block.mlp(block.norm2(flat[part])), out=output[part])

        in_even_pieces(perceive, len(flat), _CHUNK)
        return output.view(tokens.shape)

    def _window_attention(self, attention: nn.Module, tokens: Tensor, shift: int) -> Tensor:
        """Attend within (shifted) windows of a (B, H, W, C) map; zero padding to whole windows."""
        batch, height, width, dim = tokens.shape
        window = self.window
        tokens = F.pad(tokens, (0, 0, 0, -width % window, 0, -height % window))
        rows, columns = tokens.shape[1] // window, tokens.shape[2] // window
        if shift:
            tokens = tokens.roll((-shift, -shift), (1, 2))
        windows = tokens.view(batch, rows, window, columns, window, dim).transpose(2, 3)
        mask = self._mask(rows, columns, tokens) if shift else None
        if _in_chunks(tokens):
            attended = torch.empty_like(windows, memory_format=torch.contiguous_format)

            def attend(part: slice) -> None:
                for picture, result in zip(windows, attended, strict=True):
                    own = (
                        None if mask is None else mask.unflatten(0, (rows, -1))[part].flatten(0, 1)
                    )
                    found = attention(picture[part].reshape(-1, window * window, dim), own)
                    result[part] = found.view(result[part].shape)

            in_even_pieces(attend, rows, max(1, _CHUNK // (columns * window * window)))
        else:
            attended = attention(windows.reshape(-1, window * window, dim), mask)
        tokens = attended.view(batch, rows, columns, window, window, dim).transpose(2, 3)
        tokens = tokens.reshape(batch, rows * window, columns * window, dim)
        if shift:
            tokens = tokens.roll((shift, shift), (1, 2))
        return tokens[:, :height, :width]

    def _mask(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Additive mask (windows, M*M, M*M) between tokens that the roll brought together."""
        key = (rows, columns, like.device, like.dtype)
        mask = self._masks.get(key)
        if mask is None:
            # A mask made while predicting may serve a training step later.
            with torch.inference_mode(False):
                mask = self._build_mask(rows, columns, like)
            if len(self._masks) >= _CACHED_MASKS:
                self._masks.clear()
            self._masks[key] = mask
        return mask

    def _build_mask(self, rows: int, columns: int, like: Tensor) -> Tensor:
        window, shift = self.window, self.window // 2

        def region(windows: int) -> Tensor:
            index = torch.arange(windows * window, device=like.device)
            start = windows * window
            return (index >= start - window).int() + (index >= start - shift).int()

        regions = region(rows)[:, None] * 3 + region(columns)
        regions = regions.view(rows, window, columns, window).transpose(1, 2)
        regions = regions.reshape(-1, window * window)
        different = regions[:, :, None] != regions[:, None, :]
        return different.to(like.dtype) * _DIFFERENT_REGION

    def reference_key(self, key: str) -> str:
        """See `Backbone.reference_key`; there, a stage downsamples at its end, not at its start."""
        return re.sub(
            r"^layers\.(\d+)\.downsample",
            lambda match: f"layers.{int(match[1]) - 1}.downsample",
            key,
        )

    def reference_constants(self) -> dict[str, Tensor]:
        """See `Backbone.reference_constants`: the index into the position bias of every block."""
        offsets = torch.arange(self.window)
        rows, columns = (axis.flatten() for axis in torch.meshgrid(offsets, offsets, indexing="ij"))
        index = (rows[:, None] - rows + self.window - 1) * (2 * self.window - 1)
        index = index + (columns[:, None] - columns + self.window - 1)
        return {
            f"layers.{i}.blocks.{j}.attn.relative_position_index": index.clone()
            for i, layer in enumerate(self.layers)
            for j in range(len(layer.blocks))
        }


def _in_chunks(tokens: Tensor) -> bool:
    """Whether to go block by block in pieces whose activations stay in a processor's cache."""
    return tokens.device.type == "cpu" and not torch.is_grad_enabled()


def _wide(tokens: Tensor) -> Tensor:
    """Under a CPU's autocast bring tokens back to float32: residual sums need its precision."""
    lowered = tokens.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return tokens.float() if lowered else tokens


def swin_tiny() -> SwinBackbone:
    """Swin-T, window 7: 27.5 M parameters."""
    return SwinBackbone("swin_tiny_patch4_window7_224", window=7)


def swin_large() -> SwinBackbone:
    """Swin-L, window 12: 195.2 M parameters."""
    return SwinBackbone("swin_large_patch4_window12_384", window=12)
