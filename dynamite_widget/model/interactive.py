"""The interactive transformer: queries attend to the picture, pixels attend to the queries.

Clicks as Queries, sections 3.2-3.4. Split in two: `prepare` computes all that depends on the
picture alone, `decode` what a click changes. Nothing here knows about backbones or label maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cancelling import give_way
from .adaptive import adaptive_logits, fuse_spans, group_spans
from .config import ModelConfig
from .layers import Decoder, Encoder, MaskEmbedding
from .parallel import in_slices
from .pointwise import PointwiseDecoder
from .position import sine_code_2d
from .precision import fast_dtype, in_float32
from .queries import ClickQueries, QueryBatch
from .refine import RefineHead, RelativeTerm
from .refine_near import refine_near
from .structures import (
    ClickTensors,
    Decoded,
    ImageFeatures,
    Prediction,
    PreparedFeatures,
    StagedClicks,
    fuse,
)

__all__ = ["Decoder", "InteractiveTransformer"]

_LEVELS = 3
#: Maps with fewer pixels are evaluated completely.
_FEWEST_PIXELS = 4096
#: Beyond this many channels those of an instance are fused before maps are enlarged, not after:
#: labels differ only where an outline passes from one click's channel to another's.
_MOST_CHANNELS = 128
#: Logits from which on queries are split over the cores.
_FEWEST_LOGITS = 2**17


def _tokens(x: Tensor) -> Tensor:
    """(B, d, h, w) → (B, h * w, d), row-major."""
    return x.flatten(2).transpose(1, 2)


class InteractiveTransformer(nn.Module):
    """Queries from clicks, encoder, decoder and mask head.

    Parameters
    ----------
    config : ModelConfig
        Sizes and switches.
    detail_channels : int
        Channels of the backbone's stride-4 map (for the refinement head, when configured).
    """

    def __init__(self, config: ModelConfig, detail_channels: int) -> None:
        super().__init__()
        d = config.hidden_dim
        self.config = config
        self.queries = ClickQueries(config)
        self.level_embed = nn.Embedding(_LEVELS, d)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config) if config.decoder_layers else None
        self.layer_norm = nn.LayerNorm(d)
        self.mask_embed = MaskEmbedding(d)
        self.relative = RelativeTerm(d) if config.relative_mask else None
        self.refine = (
            RefineHead(config.refine_width, d, detail_channels) if config.refine_width else None
        )

    # ---- once per picture -------------------------------------------------------------------

    def prepare(self, features: ImageFeatures) -> PreparedFeatures:
        """Compute every product of the picture that the clicks do not change."""
        d = self.config.hidden_dim
        sources, located, level_masks = [], [], []
        for index, level in enumerate(features.multi_scale):
            height, width = level.shape[-2:]
            source = _tokens(level) + self.level_embed.weight[index]
            code = sine_code_2d(height, width, d, level.device).flatten(1).T
            sources.append(source)
            located.append(source + code.to(source.dtype))
            resized = F.interpolate(
                features.mask_features, (height, width), mode="bilinear", align_corners=False
            )
            level_masks.append(resized.flatten(2))
        keys, values = [], []
        for i in range(self.config.encoder_layers):
            attn = self.encoder.cross(i).multihead_attn
            keys.append(attn.project_key(located[i % _LEVELS]))
            values.append(attn.project_value(sources[i % _LEVELS]))

        tokens = None
        if self.decoder is not None:
            if self.config.decoder_stride == 8:
                tokens = _tokens(F.avg_pool2d(features.mask_features, 2)).contiguous()
            else:
                tokens = _tokens(features.mask_features).contiguous()
                # One copy of the largest map serves as tokens and as channels of a map.
                shared = tokens.transpose(1, 2).unflatten(-1, features.mask_features.shape[-2:])
                features = replace(features, mask_features=shared)
        context = None
        if self.refine is not None:
            context = self.refine.prepare(features.mask_features, features.detail)
        return PreparedFeatures(
            features,
            tuple(keys),
            tuple(values),
            tuple(level_masks),
            tokens,
            context,
        )

    # ---- once per change of the clicks ------------------------------------------------------

    def decode(
        self,
        prepared: PreparedFeatures,
        clicks: Sequence[ClickTensors],
        all_predictions: bool,
        exact: bool = True,
        on_preview: Callable[[Prediction], object] | None = None,
    ) -> Decoded:
        """Run encoder, decoder and mask head for all clicks of each picture.

        With `exact` False the pixels whose label is not in doubt may be interpolated, and products
        may be computed in bfloat16 where the processor has it (see `adaptive.py`). `on_preview` is
        called before the last encoder layer and the decoder run, with the last masks of the encoder
        that training supervises (B, Q, Hp / 8, Wp / 8).
        """
        staged = self.queries.stage(clicks).to(prepared.features.mask_features.device)
        return self.decode_staged(prepared, staged, all_predictions, exact, on_preview)

    def decode_staged(
        self,
        prepared: PreparedFeatures,
        staged: StagedClicks,
        all_predictions: bool = False,
        exact: bool = True,
        on_preview: Callable[[Prediction], object] | None = None,
    ) -> Decoded:
        """Do as `decode` with clicks that are on the device already.

        On accelerators, without a refinement head, it waits for nothing there and depends on the
        clicks through ``staged.rows`` alone (and on whether their padding is hidden).
        """
        queries = self.queries.build(prepared.features, staged)
        owner, visible = queries.owner, queries.visible
        if visible is None:
            # In the paper's batches padding takes part as background.
            owner = owner.clamp(min=0)

        x, predictions = queries.content, []
        for i in range(self.config.encoder_layers):
            level = i % _LEVELS
            if all_predictions:
                predictions.append(Prediction(self._full_logits(x, queries, prepared), owner))
            if on_preview is not None and i == self.config.encoder_layers - 1:
                # What follows the last layer is trained as input of the decoder, not as masks.
                embedded = self.mask_embedding(x)
                finest = self._level_logits(embedded, queries, prepared, _LEVELS - 1)
                on_preview(Prediction(finest, owner))
            x = self._encoder_layer(i, x, queries, prepared, level, visible)

        if visible is None and self._goes_by_pixels(prepared, all_predictions):
            return Decoded(self._pixelwise(x, queries, prepared, owner, exact))
        final = Prediction(self._decoded_logits(x, queries, prepared, visible, exact), owner)
        if self.refine is None:
            return Decoded(final, tuple(predictions))
        if all_predictions:
            predictions.append(final)
        return Decoded(self._refined(final, queries, prepared, exact), tuple(predictions))

    def _encoder_layer(
        self,
        i: int,
        x: Tensor,
        queries: QueryBatch,
        prepared: PreparedFeatures,
        level: int,
        visible: Tensor | None,
    ) -> Tensor:
        give_way()
        with in_float32(x.device):
            precise = x if x.device.type == "cpu" else x.to(self.layer_norm.weight.dtype)
            allowed = self._attention_mask(precise, queries, prepared, level)
        cross = self.encoder.cross(i)
        query = cross.multihead_attn.project_query(x + queries.position)
        x = cross(x, query, prepared.keys[i], prepared.values[i], allowed[:, None])
        x = self.encoder.self_attention_layers[i](x, queries.position, visible)
        return self.encoder.ffn_layers[i](x)

    def mask_embedding(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised content and the mask embedding of queries, both (B, Q, d)."""
        normed = self.layer_norm(x)
        return normed, self.mask_embed(normed)

    def _attention_mask(
        self, x: Tensor, queries: QueryBatch, prepared: PreparedFeatures, level: int
    ) -> Tensor:
        """(B, Q, tokens) bool, True = may attend: where the query's own resized logit is >= 0."""
        with torch.no_grad():
            embedded = self.mask_embedding(x.detach())

            def allow(part: slice) -> Tensor:
                logits = self._level_logits(embedded, queries, prepared, level, part)
                allowed = logits.flatten(2) >= 0
                # A query that may look nowhere looks everywhere.
                return allowed | ~allowed.any(dim=-1, keepdim=True)

            tokens = prepared.level_mask_features[level].shape[-1]
            count = x.shape[1]
            return in_slices(allow, count, count * tokens >= _FEWEST_LOGITS)

    def _level_logits(
        self,
        embedded: tuple[Tensor, Tensor],
        queries: QueryBatch,
        prepared: PreparedFeatures,
        level: int,
        part: slice = slice(None),
    ) -> Tensor:
        """(B, Q, h, w) logits of (part of) the queries at the size of an attention level."""
        size = prepared.features.multi_scale[level].shape[-2:]
        return self._logits(
            embedded, queries, prepared, prepared.level_mask_features[level], size, part
        )

    def _logits(
        self,
        embedded: tuple[Tensor, Tensor],
        queries: QueryBatch,
        prepared: PreparedFeatures,
        pixels: Tensor,
        size: tuple[int, int] | torch.Size,
        part: slice = slice(None),
    ) -> Tensor:
        """(B, Q, h, w) logits of (part of) the queries for (B, d, h * w) features of pixels."""
        normed, embedding = embedded
        logits = (embedding[:, part] @ pixels).unflatten(-1, size)
        if self.relative is not None:
            logits = logits + self._relative_logits(normed, queries, prepared, size, part)
        return logits

    def _relative_logits(
        self,
        normed: Tensor,
        queries: QueryBatch,
        prepared: PreparedFeatures,
        size: tuple[int, int] | torch.Size,
        part: slice = slice(None),
    ) -> Tensor:
        assert self.relative is not None
        content = normed[:, : queries.clicks][:, part]
        term = self.relative(content, queries.yx[:, part], prepared.padded_size, tuple(size))
        return F.pad(term, (0, 0, 0, 0, 0, normed[:, part].shape[1] - content.shape[1]))

    def _full_logits(
        self,
        x: Tensor,
        queries: QueryBatch,
        prepared: PreparedFeatures,
        mask_features: Tensor | None = None,
    ) -> Tensor:
        """(B, Q, Hp / 4, Wp / 4) logits of the mask head."""
        if mask_features is None:
            mask_features = prepared.features.mask_features
        size = mask_features.shape[-2:]
        embedded = self.mask_embedding(x)
        return self._logits(embedded, queries, prepared, mask_features.flatten(2), size)

    def _decoded_logits(
        self,
        x: Tensor,
        queries: QueryBatch,
        prepared: PreparedFeatures,
        visible: Tensor | None,
        exact: bool,
    ) -> Tensor:
        mask_features = prepared.features.mask_features
        if self.decoder is not None:
            assert prepared.decoder_tokens is not None
            height, width = size = [
                side * 4 // self.config.decoder_stride for side in mask_features.shape[-2:]
            ]
            if not exact and visible is None and self._is_one_on_cpu(prepared):
                pixels = self._pixel_decoder(x, queries, prepared, (height, width), exact)
                y = pixels(torch.arange(height * width))[None]
            else:
                y = self._decode_layers(x, queries, prepared, (height, width), visible)
            if self.config.decoder_stride == 8:
                return self._logits_at_twice_the_stride(x, y, queries, prepared, (height, width))
            mask_features = y.transpose(1, 2).unflatten(-1, size)
        return self._full_logits(x, queries, prepared, mask_features)

    def _logits_at_twice_the_stride(
        self,
        x: Tensor,
        y: Tensor,
        queries: QueryBatch,
        prepared: PreparedFeatures,
        size: tuple[int, int],
    ) -> Tensor:
        """Enlarge what a decoder of (h, w) pixels changed: (B, Q, 2 * h, 2 * w) logits.

        The mask head is linear, and so is enlarging: it is done to few logits instead of many
        features.
        """
        assert prepared.decoder_tokens is not None
        embedded, changed = self.mask_embedding(x), (y - prepared.decoder_tokens).transpose(1, 2)
        full_size = prepared.features.mask_features.shape[-2:]
        pixels = prepared.features.mask_features.flatten(2)

        def logits_of(part: slice) -> Tensor:
            change = (embedded[1][:, part] @ changed).unflatten(-1, size)
            enlarged = F.interpolate(change, scale_factor=2, mode="bilinear", align_corners=False)
            return self._logits(embedded, queries, prepared, pixels, full_size, part) + enlarged

        count = x.shape[1]
        return in_slices(logits_of, count, count * pixels.shape[-1] >= _FEWEST_LOGITS)

    def _decode_layers(
        self,
        x: Tensor,
        queries: QueryBatch,
        prepared: PreparedFeatures,
        size: tuple[int, int],
        visible: Tensor | None,
    ) -> Tensor:
        """Run the decoder layer by layer on all pixels: (B, h * w, d)."""
        assert self.decoder is not None
        assert prepared.decoder_tokens is not None
        code = sine_code_2d(*size, x.shape[-1], x.device).flatten(1).T.to(x.dtype)
        y, located = prepared.decoder_tokens, x + queries.position
        for cross, ffn in self.decoder.layers():
            attn = cross.multihead_attn
            query = attn.project_query(y + code)
            y = cross(y, query, attn.project_key(located), attn.project_value(x), visible)
            y = ffn(y)
        return y

    def _pixel_decoder(
        self,
        x: Tensor,
        queries: QueryBatch,
        prepared: PreparedFeatures,
        size: tuple[int, int],
        exact: bool,
    ) -> PointwiseDecoder:
        assert self.decoder is not None
        assert prepared.decoder_tokens is not None
        return PointwiseDecoder(
            self.decoder,
            prepared.decoder_tokens[0],
            size,
            x[0],
            (x + queries.position)[0],
            x.dtype if exact else fast_dtype(x.dtype),
        )

    def _is_one_on_cpu(self, prepared: PreparedFeatures) -> bool:
        """Whether one picture is predicted, not trained on, on a CPU in float32."""
        pixels = prepared.features.mask_features
        return (
            len(pixels) == 1
            and pixels.device.type == "cpu"
            and pixels.dtype == torch.float32
            and not torch.is_grad_enabled()
        )

    def _goes_by_pixels(self, prepared: PreparedFeatures, all_predictions: bool) -> bool:
        """Whether one picture is predicted on a CPU by a decoder at the stride of the masks."""
        return (
            self.decoder is not None
            and self.config.decoder_stride == 4
            and self.refine is None
            and not all_predictions
            and self._is_one_on_cpu(prepared)
        )

    def _pixelwise(
        self,
        x: Tensor,
        queries: QueryBatch,
        prepared: PreparedFeatures,
        owner: Tensor,
        exact: bool,
    ) -> Prediction:
        """Run decoder and mask head for one picture, pixel by pixel."""
        height, width = size = prepared.features.mask_features.shape[-2:]
        normed, embedding = self.mask_embedding(x)
        relative: Tensor | None = None
        if self.relative is not None:
            relative = self._relative_logits(normed, queries, prepared, size).flatten(2)[0]
        ids, spans = group_spans(owner[0].tolist())
        fused = not exact and len(owner[0]) > _MOST_CHANNELS
        decoder = self._pixel_decoder(x, queries, prepared, (height, width), exact)

        def evaluate(index: Tensor) -> Tensor:
            logits = embedding[0] @ decoder(index).T
            if relative is not None:
                logits = logits + relative[:, index]
            return fuse_spans(logits, spans) if fused else logits

        if exact or height * width < _FEWEST_PIXELS:
            logits = evaluate(torch.arange(height * width)).unflatten(-1, size)
        else:
            centres = (queries.yx[0] + 0.5) / 4 - 0.5
            each = [slice(i, i + 1) for i in range(len(ids))] if fused else spans
            logits = adaptive_logits(evaluate, each, (height, width), centres)
        if fused:
            owner = torch.tensor([ids])
        return Prediction(logits[None], owner)

    def _refined(
        self, coarse: Prediction, queries: QueryBatch, prepared: PreparedFeatures, exact: bool
    ) -> Prediction:
        """Fuse the queries of each instance and refine instance by instance."""
        assert self.refine is not None
        assert prepared.refine_context is not None
        groups = [fuse(coarse, i) for i in range(len(coarse.logits))]
        most = max(len(instances) for _, instances in groups)
        owners = torch.full((len(groups), most + 1), -1, dtype=torch.int64)
        owners[:, most] = 0
        for i, (_, instances) in enumerate(groups):
            owners[i, : len(instances)] = torch.tensor(instances)
        context, padded_size = prepared.refine_context, prepared.padded_size
        if exact or len(groups) > 1 or coarse.logits.device.type != "cpu":
            rows, row_clicks = [], []
            for i, (_, instances) in enumerate(groups):
                clicks = queries.owner[i, : queries.clicks]
                for k, instance in enumerate(instances):
                    own = clicks == instance
                    rows.append((i, k))
                    row_clicks.append((queries.yx[i, own], queries.yx[i, (clicks >= 0) & ~own]))
            maps = [fused for fused, _ in groups]
            refined = self.refine(maps, rows, row_clicks, context, padded_size)
        else:
            fused, instances = groups[0]
            clicks = queries.owner[0, : queries.clicks]
            channels = torch.full_like(clicks, len(instances))
            for k, instance in enumerate(instances):
                channels[clicks == instance] = k
            near = refine_near(self.refine, fused, queries.yx[0], channels, context, padded_size)
            refined = [near]
        height, width = coarse.logits.shape[-2:]
        out = refined[0].new_full((len(groups), most + 1, height, width), -1e4)
        for i, logits in enumerate(refined):
            out[i, : len(logits) - 1] = logits[:-1]
            out[i, most] = logits[-1]
        return Prediction(out, owners)
