"""Multi-head attention with separable steps, and the feed-forward block of every transformer here.

Keys and values can be projected ahead of time, which `torch.nn.MultiheadAttention` does not offer:
everything that does not depend on the clicks is computed once per picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .parallel import in_slices

#: Pairs of query and key of a head below which splitting the heads over the cores costs time.
_FEWEST_SCORES = 2**15


def _explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None
) -> Tensor:
    """Attention as two products and a softmax.

    With the few queries of this network the backward pass of the fused CPU kernel is four to ten
    times slower in bfloat16.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if allowed is not None:
        scores = scores + torch.where(allowed, 0.0, -torch.inf).to(scores.dtype)
    return scores.float().softmax(dim=-1).to(value.dtype) @ value


def _fused_attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
    """Attention by the library's kernel; if it is large, the heads on several cores."""

    def attend(part: slice) -> Tensor:
        return F.scaled_dot_product_attention(
            query[:, part], key[:, part], value[:, part], attn_mask=allowed
        )

    scores = query.shape[-2] * key.shape[-2]
    return in_slices(attend, query.shape[1], scores >= _FEWEST_SCORES)


class Attention(nn.Module):
    """Scaled dot-product attention with one packed input projection.

    Parameter names follow `torch.nn.MultiheadAttention` (rows of ``in_proj_weight``: query, key,
    value), so published state dicts load unchanged.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def _project(self, x: Tensor, part: int) -> Tensor:
        rows = slice(part * self.dim, (part + 1) * self.dim)
        y = F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        batch, tokens, _ = y.shape
        return y.view(batch, tokens, self.heads, -1).transpose(1, 2)

    def project_query(self, x: Tensor) -> Tensor:
        """(B, N, d) → (B, heads, N, d / heads)."""
        return self._project(x, 0)

    def project_key(self, x: Tensor) -> Tensor:
        """(B, N, d) → (B, heads, N, d / heads)."""
        return self._project(x, 1)

    def project_value(self, x: Tensor) -> Tensor:
        """(B, N, d) → (B, heads, N, d / heads)."""
        return self._project(x, 2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
        """Attend with projected tensors.

        Parameters
        ----------
        query, key, value : Tensor
            (B, heads, N or M, d / heads).
        allowed : Tensor or None
            Boolean, broadcastable to (B, heads, N, M); True = may attend.

        Returns
        -------
        Tensor
            (B, N, d), after the output projection.
        """
        if query.device.type == "cpu" and torch.is_grad_enabled():
            y = _explicit_attention(query, key, value, allowed)
        else:
            y = _fused_attention(query, key, value, allowed)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class SelfAttentionLayer(nn.Module):
    """Post-norm self-attention: ``LN(x + MHA(x + pos, x + pos, x))``."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, pos: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(B, N, d) → (B, N, d); `pos` is added to queries and keys, never to the content."""
        attn, located = self.self_attn, x + pos
        y = attn.attend(
            attn.project_query(located), attn.project_key(located), attn.project_value(x), allowed
        )
        return self.norm(x + y)


class CrossAttentionLayer(nn.Module):
    """Post-norm cross-attention over keys and values that are projected beforehand."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """``LN(x + MHA(query, key, value))`` with projected query, key and value."""
        return self.norm(x + self.multihead_attn.attend(query, key, value, allowed))


class FeedForwardLayer(nn.Module):
    """Post-norm two-layer perceptron with ReLU: ``LN(x + W2 relu(W1 x))``."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) → (B, N, d)."""
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))
