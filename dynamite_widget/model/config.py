"""Configurations of the network: one frozen data class and the registry of named presets.

A preset is data, never code: the modules beside this file read sizes and switches from
`ModelConfig`.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

PositionalCode = Literal["spatio_temporal", "temporal", "spatial", "none"]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of one DynaMITe network.

    Parameters
    ----------
    name : str
        Preset name, for messages and checkpoint metadata.
    backbone : str
        Key of the backbone registry (`dynamite_widget.model.backbones`).
    hidden_dim : int
        Width d of queries, mask features and pixel-decoder tokens (256 in the paper).
    heads : int
        Attention heads of every attention.
    pixel_decoder : {"deformable", "fpn"}
        Multi-scale deformable attention (paper) or the convolutional pyramid of ``lite``.
    pixel_decoder_layers, pixel_decoder_ffn, pixel_decoder_points : int
        Encoder layers, hidden width of their FFN, sampling points per head and level.
    fpn_levels : int
        Convolutional pyramid steps below stride 8: 1, or 2 for the HRNet checkpoints.
    encoder_layers, encoder_ffn : int
        Interactive encoder (paper: 9 layers, FFN 2048).
    decoder_layers, decoder_ffn : int
        Interactive decoder; 0 layers switches it off (paper, Table 3).
    decoder_stride : {4, 8}
        Resolution at which the decoder's pixel tokens live; the paper's is 4.
    static_queries : int
        Learned background queries K (paper: 9); 0 switches them off (Table 3).
    positional : {"spatio_temporal", "temporal", "spatial", "none"}
        Position code of the click queries (Table 3).
    time_scale : int
        Clicks indices are divided by ``max(t_max, time_scale)``.
    short_side, max_long_side : int or None
        Test-time resize rule: short side to ``short_side`` unless the long side would exceed
        ``max_long_side``. With ``short_side`` None the long side becomes ``max_long_side``.
    identity_codes : int
        Extension (a): number of learned instance identities, 0 = off. The background has one more.
    relative_mask : bool
        Extension (b): relative-coordinate term in the mask head.
    refine_width : int
        Extension (d): width of the convolutional refinement of fused logits, 0 = off.
    connected_instances : bool
        Extension (e): regions that none of an instance's clicks reaches are taken away from it.
    mask_padding_queries : bool
        Hide batch-padding queries from attention. The paper's batches let them take part as
        background (only while training: a single image is never padded).
    """

    name: str
    backbone: str
    hidden_dim: int = 256
    heads: int = 8
    pixel_decoder: Literal["deformable", "fpn"] = "deformable"
    pixel_decoder_layers: int = 6
    pixel_decoder_ffn: int = 1024
    pixel_decoder_points: int = 4
    fpn_levels: int = 1
    encoder_layers: int = 9
    encoder_ffn: int = 2048
    decoder_layers: int = 5
    decoder_ffn: int = 512
    decoder_stride: Literal[4, 8] = 4
    static_queries: int = 9
    positional: PositionalCode = "spatio_temporal"
    time_scale: int = 500
    short_side: int | None = 800
    max_long_side: int = 1333
    pixel_mean: tuple[float, float, float] = (123.675, 116.280, 103.530)
    pixel_std: tuple[float, float, float] = (58.395, 57.120, 57.375)
    identity_codes: int = 0
    relative_mask: bool = False
    refine_width: int = 0
    connected_instances: bool = False
    mask_padding_queries: bool = False

    def __post_init__(self) -> None:
        if self.hidden_dim % self.heads or self.hidden_dim % 4:
            raise ValueError(
                f"hidden_dim must be a multiple of 4 and of heads={self.heads}, "
                f"got {self.hidden_dim}"
            )
        if self.encoder_layers < 1 or self.decoder_layers < 0 or self.static_queries < 0:
            raise ValueError(
                "encoder_layers must be >= 1, decoder_layers and static_queries >= 0; got "
                f"{self.encoder_layers}, {self.decoder_layers}, {self.static_queries}"
            )

    def replace(self, **changes: Any) -> ModelConfig:
        """Return a copy with some fields changed (the ablation switches, for example)."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, for checkpoint metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ModelConfig:
        """Build a configuration from `to_dict` output (lists become tuples)."""
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        return cls(**plain)


PRESETS: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        ModelConfig("swin-tiny", "swin_tiny"),
        ModelConfig("swin-large", "swin_large"),
        ModelConfig("segformer-b0", "mit_b0"),
        ModelConfig("hrnet32", "hrnet_w32", fpn_levels=2),
        ModelConfig("resnet50", "resnet50"),
        ModelConfig(
            "lite",
            "efficientnet_lite0",
            hidden_dim=128,
            pixel_decoder="fpn",
            pixel_decoder_layers=2,
            pixel_decoder_ffn=256,
            encoder_layers=6,
            encoder_ffn=512,
            decoder_layers=2,
            decoder_ffn=256,
            decoder_stride=8,
            short_side=None,
            max_long_side=512,
            identity_codes=64,
            relative_mask=True,
            refine_width=32,
            connected_instances=True,
            mask_padding_queries=True,
            time_scale=64,
            # What the ImageNet weights of this backbone were trained with.
            pixel_mean=(127.0, 127.0, 127.0),
            pixel_std=(128.0, 128.0, 128.0),
        ),
    )
}


def get_config(name: str) -> ModelConfig:
    """Return the preset called `name`.

    Raises
    ------
    ValueError
        If there is no such preset; the message lists all and the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown preset {name!r}; known presets: {', '.join(PRESETS)}.{hint}")
