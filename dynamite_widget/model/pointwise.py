"""The interactive decoder on any set of pixels, chunk by chunk, for one picture while predicting.

Given the queries, every pixel passes through the decoder on its own ("Clicks as Queries", section
3.4). So a few pixels cost a few pixels, and a chunk small enough for the processor's cache can go
through all layers before the next one starts. In float32 it equals the layer-by-layer walk of
`InteractiveTransformer` up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .attention import Attention, FeedForwardLayer
from .parallel import cores, in_pieces, rounds_of_slices
from .position import sine_codes_of_axes

if TYPE_CHECKING:
    from .interactive import Decoder

__all__ = ["PointwiseDecoder"]

#: Pixels per core that go through all layers together: their activations fit into its cache.
CHUNK = 1024
#: Up to this many queries it is cheaper to fold the pixels' projections into the queries.
_FOLDED_QUERIES = 40


class PointwiseDecoder:
    """Decoder layers with the queries of one picture built in; a function of single pixels.

    Parameters
    ----------
    decoder : Decoder
        Its parameters.
    tokens : Tensor
        (h * w, d) pixels that the decoder starts from, row-major.
    size : tuple of int
        (h, w).
    content, located : Tensor
        (Q, d) final content of the queries, without and with their position code.
    dtype : torch.dtype
        Of the matrix products; sums over layers and norms are float32 regardless.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokens: Tensor,
        size: tuple[int, int],
        content: Tensor,
        located: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._tokens, self._size, self._dtype = tokens, size, dtype
        self._row_code, self._column_code = sine_codes_of_axes(
            *size, tokens.shape[1], tokens.device
        )
        attention = _folded if len(content) <= _FOLDED_QUERIES else _projected
        self._layers = [
            (
                attention(cross.multihead_attn, content, located, dtype),
                cross.norm,
                _perceptron(ffn, dtype),
                ffn.norm,
            )
            for cross, ffn in decoder.layers()
        ]

    def __call__(self, index: Tensor) -> Tensor:
        """Return the (n, d) float32 outputs of the n pixels at row-major positions `index`."""
        # One piece at a time is shared by PyTorch's threads.
        parts = rounds_of_slices(len(index), CHUNK if cores() > 1 else 2 * CHUNK)
        return torch.cat(in_pieces(self._chunk, [index[part] for part in parts]))

    def _chunk(self, index: Tensor) -> Tensor:
        width = self._size[1]
        y = self._tokens[index].float()
        code = torch.cat([self._row_code[index // width], self._column_code[index % width]], dim=1)
        for attend, norm_attended, perceive, norm_perceived in self._layers:
            y = norm_attended(attend((y + code).to(self._dtype)).float().add_(y))
            y = norm_perceived(perceive(y.to(self._dtype)).float().add_(y))
        return y


def _folded(
    attention: Attention, content: Tensor, located: Tensor, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Cross-attention to few queries as two products.

    The scores of all heads are one product of the pixels with a (d, heads * Q) matrix, and the
    weighted sum of the values is one with a (heads * Q, d) matrix.
    """
    dim, heads = attention.dim, attention.heads
    scale = (dim // heads) ** -0.5
    key = attention.project_key(located[None])[0] * scale  # (heads, Q, d / heads)
    value = attention.project_value(content[None])[0]
    project = attention.in_proj_weight[:dim].view(heads, -1, dim)
    bias = attention.in_proj_bias[:dim].view(heads, -1, 1)
    into = (key @ project).flatten(0, 1).to(dtype)
    into_bias = (key @ bias).flatten(0, 1).to(dtype)
    out_weight = attention.out_proj.weight.view(dim, heads, -1).permute(1, 2, 0)
    out = (value @ out_weight).flatten(0, 1).to(dtype)
    out_bias = attention.out_proj.bias.to(dtype)

    def attend(pixels: Tensor) -> Tensor:
        # Pixels last: a softmax over short rows takes ten times as long.
        scores = torch.addmm(into_bias, into, pixels.T).view(heads, -1, len(pixels))
        return torch.addmm(out_bias, scores.softmax(dim=1).flatten(0, 1).T, out)

    return attend


def _projected(
    attention: Attention, content: Tensor, located: Tensor, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Cross-attention with the pixels' own projections."""
    dim, heads = attention.dim, attention.heads
    key = attention.project_key(located[None]).to(dtype)
    value = attention.project_value(content[None]).to(dtype)
    into, into_bias = attention.in_proj_weight[:dim].to(dtype), attention.in_proj_bias[:dim]
    into_bias = into_bias.to(dtype)
    out, out_bias = attention.out_proj.weight.to(dtype), attention.out_proj.bias.to(dtype)

    def attend(pixels: Tensor) -> Tensor:
        query = F.linear(pixels, into, into_bias).view(1, len(pixels), heads, -1).transpose(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1)
        return F.linear(attended.flatten(1), out, out_bias)

    return attend


def _perceptron(ffn: FeedForwardLayer, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    up, up_bias = ffn.linear1.weight.to(dtype), ffn.linear1.bias.to(dtype)
    down, down_bias = ffn.linear2.weight.to(dtype), ffn.linear2.bias.to(dtype)

    def perceive(pixels: Tensor) -> Tensor:
        return F.linear(F.linear(pixels, up, up_bias).relu_(), down, down_bias)

    return perceive
