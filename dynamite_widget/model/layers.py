"""Parts of the interactive transformer: mask embedding, layers of encoder and decoder.

How they are run is in `interactive.py`; parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from .attention import CrossAttentionLayer, FeedForwardLayer, SelfAttentionLayer
from .config import ModelConfig

__all__ = ["Decoder", "Encoder", "MaskEmbedding"]


class MaskEmbedding(nn.Module):
    """Three linear layers with ReLU between them: content of a query → its mask embedding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, Q, d) → (B, Q, d)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Encoder(nn.Module):
    """Masked cross-attention to one pyramid level, self-attention, FFN; levels in turn."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, heads, n = config.hidden_dim, config.heads, config.encoder_layers
        self.cross_attention_layers = nn.ModuleList(CrossAttentionLayer(d, heads) for _ in range(n))
        self.self_attention_layers = nn.ModuleList(SelfAttentionLayer(d, heads) for _ in range(n))
        self.ffn_layers = nn.ModuleList(FeedForwardLayer(d, config.encoder_ffn) for _ in range(n))

    def cross(self, i: int) -> CrossAttentionLayer:
        """Cross-attention of layer `i`."""
        return cast(CrossAttentionLayer, self.cross_attention_layers[i])


class Decoder(nn.Module):
    """Pixel tokens cross-attend to the click descriptors; pointwise in the pixels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, heads, n = config.hidden_dim, config.heads, config.decoder_layers
        self.cross_attention_layers = nn.ModuleList(CrossAttentionLayer(d, heads) for _ in range(n))
        self.ffn_layers = nn.ModuleList(FeedForwardLayer(d, config.decoder_ffn) for _ in range(n))

    def layers(self) -> Iterator[tuple[CrossAttentionLayer, FeedForwardLayer]]:
        """Cross-attention and FFN of each layer."""
        for cross, ffn in zip(self.cross_attention_layers, self.ffn_layers, strict=True):
            yield cast(CrossAttentionLayer, cross), cast(FeedForwardLayer, ffn)
