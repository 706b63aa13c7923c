"""Clicks become queries: ordering, sampling of descriptors, position codes, static background.

Clicks as Queries, section 3.2 (query initialisation, spatio-temporal code, background queries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ModelConfig
from .position import sine_code_1d
from .structures import ClickTensors, ImageFeatures, StagedClicks

_SINE_PARTS = {"spatio_temporal": 3, "spatial": 2, "temporal": 1}


@dataclass(frozen=True)
class QueryBatch:
    """Queries of a batch: clicks (padded to the longest picture), then background rows.

    Attributes
    ----------
    content, position : Tensor
        (B, Q, d): initial content X0 and position code E.
    yx : Tensor
        (B, N, 2) row and column of the N padded clicks in network-image pixels.
    owner : Tensor
        (B, Q) int64 on the CPU: instance id, 0 = background, -1 = padding.
    visible : Tensor or None
        (B, 1, 1, Q) bool, False for padding that nothing may attend to; None: all are visible.
    """

    content: Tensor
    position: Tensor
    yx: Tensor
    owner: Tensor
    visible: Tensor | None

    @property
    def clicks(self) -> int:
        """Number of click rows (with padding) before the background rows."""
        return self.yx.shape[1]


def sample_descriptors(multi_scale: Sequence[Tensor], yx: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample feature maps at clicks and average over the levels (equation 1).

    Parameters
    ----------
    multi_scale : sequence of Tensor
        (B, d, h, w) maps of any sizes.
    yx : Tensor
        (B, N, 2) clicks in pixels of the padded network image.
    size : tuple of int
        (Hp, Wp) of the padded network image.

    Returns
    -------
    Tensor
        (B, N, d). A click is a point: bilinear, zero outside, no pooling area.
    """
    y, x = yx.unbind(-1)
    grid = torch.stack([x * (2.0 / size[1]) - 1.0, y * (2.0 / size[0]) - 1.0], dim=-1)[:, None]
    sampled = [
        F.grid_sample(level, grid.to(level.dtype), align_corners=False)[:, :, 0]
        for level in multi_scale
    ]
    return torch.stack(sampled).mean(dim=0).transpose(1, 2)


class ClickQueries(nn.Module):
    """Builds the query batch; its parameters live in the interactive transformer's name space."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.hidden_dim
        self.config = config
        self.query_embed = nn.Parameter(torch.randn(d) * 0.02)
        if config.static_queries:
            self.static_bg_pe = nn.Parameter(torch.randn(config.static_queries, d) * 0.02)
            self.static_bg_query = nn.Parameter(torch.randn(config.static_queries, d) * 0.02)
        # A zero row that is never trained: it pads batches and is the background query of last
        # resort when there are no static ones.
        self.bg_query = nn.Parameter(torch.zeros(d), requires_grad=False)
        self.queries_nonlinear_projection = nn.Sequential(
            nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d)
        )
        parts = _SINE_PARTS.get(config.positional, 0)
        if parts:
            features = d // 2 if parts > 1 else d
            self.ca_qpos_sine_proj = nn.Linear(parts * features, d)
        if config.identity_codes:
            # Row 0 is the background's.
            self.identity_embed = nn.Embedding(config.identity_codes + 1, d)
            nn.init.normal_(self.identity_embed.weight, std=0.5)

    def forward(self, features: ImageFeatures, clicks: Sequence[ClickTensors]) -> QueryBatch:
        """Turn the clicks of each picture into queries.

        Parameters
        ----------
        features : ImageFeatures
            Of B pictures.
        clicks : sequence of ClickTensors
            One per picture, any order; every picture needs at least one click.
        """
        return self.build(features, self.stage(clicks).to(features.mask_features.device))

    @property
    def static_rows(self) -> int:
        """Number of background rows after the clicks."""
        return self.config.static_queries or 1

    def stage(self, clicks: Sequence[ClickTensors], rows: int | None = None) -> StagedClicks:
        """Put the clicks of each picture in order, on the CPU.

        Parameters
        ----------
        clicks : sequence of ClickTensors
            On the CPU, one per picture, any order.
        rows : int, optional
            Pad to this number of clicks, and hide the padding. By default to the longest picture.
        """
        ordered = [c.ordered() for c in clicks]
        longest = max(len(c.t) for c in ordered) if rows is None else rows
        batch = len(ordered)
        table = torch.zeros(batch, longest, 5)
        owner = torch.full((batch, longest), -1, dtype=torch.int64)
        for i, c in enumerate(ordered):
            n = len(c.t)
            table[i, :n, :2] = c.yx
            table[i, :n, 2] = c.t.float() / max(int(c.t.max()) if n else 0, self.config.time_scale)
            owner[i, :n] = c.instance
        if self.config.identity_codes:
            table[..., 3] = self._identities(owner)
        real = owner >= 0
        table[..., 4] = real
        hides = self.config.mask_padding_queries and not bool(real.all())
        owner = F.pad(owner, (0, self.static_rows), value=0)
        return StagedClicks(table, owner, hides or rows is not None)

    def build(self, features: ImageFeatures, staged: StagedClicks) -> QueryBatch:
        """Make queries of clicks that are on the device; waits for nothing there."""
        rows = staged.rows
        batch, longest = rows.shape[:2]
        yx, real = rows[..., :2], rows[..., 4:] != 0
        padded = ~real

        content = sample_descriptors(features.multi_scale, yx, features.padded_size)
        content = torch.where(padded, self.bg_query.to(content.dtype), content)
        code = self._click_code(yx, rows[..., 2], padded, features)
        position = (self.query_embed + code).expand(batch, longest, -1)

        # Static rows carry their own position code, without the common vector.
        static: Tensor = self.bg_query[None]
        static_position: Tensor = self.query_embed[None]
        if self.config.static_queries:
            static, static_position = self.static_bg_query, self.static_bg_pe
        content = torch.cat([content, static.to(content.dtype).expand(batch, -1, -1)], dim=1)
        position = torch.cat([position, static_position.expand(batch, -1, -1)], dim=1)
        content = self.queries_nonlinear_projection(content)
        if self.config.identity_codes:
            codes = F.pad(rows[..., 3].long(), (0, self.static_rows))
            identity = self.identity_embed(codes)
            content, position = content + identity, position + identity
        visible = None
        if staged.hides_padding:
            visible = F.pad(real[..., 0], (0, self.static_rows), value=True)[:, None, None]
        return QueryBatch(content, position, yx, staged.owner, visible)

    def _click_code(
        self, yx: Tensor, t_hat: Tensor, padded: Tensor, features: ImageFeatures
    ) -> Tensor | float:
        kind = self.config.positional
        if kind == "none":
            return 0.0
        d = self.config.hidden_dim
        height, width = features.padded_size
        values = {
            "spatio_temporal": [yx[..., 0] / height, yx[..., 1] / width, t_hat],
            "spatial": [yx[..., 0] / height, yx[..., 1] / width],
            "temporal": [t_hat],
        }[kind]
        num_feats = d // 2 if len(values) > 1 else d
        sine = torch.cat([sine_code_1d(v, num_feats) for v in values], dim=-1)
        return self.ca_qpos_sine_proj(sine.masked_fill(padded, 0.0))

    def _identities(self, owner: Tensor) -> Tensor:
        """Row of the identity table per query: 0 background, else a code of the instance.

        Identities are names without meaning: training permutes them per picture.
        """
        codes = self.config.identity_codes
        rows = torch.where(owner > 0, (owner - 1) % codes + 1, 0)
        if self.training:
            for i in range(len(rows)):
                shuffled = F.pad(torch.randperm(codes) + 1, (1, 0), value=0)
                rows[i] = shuffled[rows[i]]
        return rows
