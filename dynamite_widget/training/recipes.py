"""Recipes: how each preset is trained. The published ones follow ARCHITECTURE 6.5."""

from __future__ import annotations

from dataclasses import replace

from dynamite_widget.training.augment import PAPER_AUGMENTATION, AugmentConfig
from dynamite_widget.training.clicks import PAPER_CLICKS, ClickConfig
from dynamite_widget.training.config import OptimiserConfig, TrainConfig
from dynamite_widget.training.losses import PAPER_LOSS, LossConfig

# Sources by file name: photographs with careful outlines up, narrow domains down. Sources that
# are not named here count 1.
LITE_SOURCES = (
    ("*coco*", 3.0),
    ("bsds*", 2.0),
    ("ccp*", 1.5),
    ("human*", 1.5),
    ("pennfudan*", 1.5),
    ("msrc*", 1.5),
    ("pets*", 1.5),
    ("nuclei*", 0.3),
    ("teeth*", 0.3),
    ("aerial*", 0.3),
    ("pigs*", 0.4),
    ("pallets*", 0.4),
    ("cigbutts*", 0.5),
    ("tools*", 0.6),
    ("waste-bottles*", 0.6),
    ("cartruck*", 0.5),
    ("dogcat*", 0.6),
    ("pugs*", 0.6),
)

LITE_RECIPE = TrainConfig(
    preset="lite",
    samples=42_000,
    batch_size=8,
    # Pictures are evaluated at 512: what was trained on small crops only does worse there.
    crops=((0.0, 256), (0.7, 384), (0.96, 512)),
    rounds=(0.3, 0.26, 0.2, 0.12, 0.07, 0.05),
    seed=1,
    zero_padding=True,
    precision="bf16",
    channels_last=True,
    source_weights=LITE_SOURCES,
    augment=AugmentConfig(),
    clicks=ClickConfig(
        extra=2,
        background_extra=3,
        decay=0.45,
        no_background=0.55,
        careless=0.15,
        exact=0.35,
        two=0.1,
        single=0.45,
        good_iou=0.93,
        max_objects=6,
        shuffle=True,
    ),
    loss=LossConfig(
        sampling="shared",
        points=1024,
        oversample=3.0,
        importance=0.5,
        boundary_points=768,
        click_points=192,
        auxiliary_points=1024,
        mask=2.0,
        dice=2.0,
        softmax=2.0,
        auxiliary=0.3,
        auxiliary_every=2,
        click_weight=2.0,
        click_radius_px=6.0,
    ),
    optimiser=OptimiserConfig(
        learning_rate=6e-4,
        backbone_factor=0.15,
        weight_decay=0.05,
        decay_vectors=False,
        clip_norm=1.0,
        schedule="cosine",
        warmup_samples=2000,
        final_factor=0.01,
        ema_decay=0.998,
        # Gradients of the early, large maps cost most and teach little.
        frozen=(r"backbone\.(.*\.)?(conv_stem|bn1|blocks[._][012])\.",),
        frozen_batch_norm=True,
        frozen_depthwise=True,
    ),
)

_PUBLISHED = TrainConfig(
    preset="swin-tiny",
    samples=184_375 * 32,
    batch_size=32,
    crops=((0.0, 1024),),
    rounds=(1.0, 1.0, 1.0, 1.0),
    precision="fp16",
    augment=PAPER_AUGMENTATION,
    clicks=PAPER_CLICKS,
    loss=PAPER_LOSS,
    optimiser=OptimiserConfig(milestones=(163_889 / 184_375, 177_546 / 184_375)),
)

RECIPES: dict[str, TrainConfig] = {
    "lite": LITE_RECIPE,
    "swin-tiny": _PUBLISHED,
    "segformer-b0": replace(
        _PUBLISHED,
        preset="segformer-b0",
        # the published training keeps the first stage of the encoder as it is
        optimiser=replace(
            _PUBLISHED.optimiser, frozen=(r"backbone\.(patch_embed1|block1|norm1)\.",)
        ),
    ),
    "hrnet32": replace(_PUBLISHED, preset="hrnet32"),
    "resnet50": replace(_PUBLISHED, preset="resnet50"),
    "swin-large": replace(
        _PUBLISHED,
        preset="swin-large",
        samples=368_750 * 32,
        optimiser=OptimiserConfig(milestones=(327_778 / 368_750, 355_092 / 368_750)),
    ),
}


def get_recipe(preset: str) -> TrainConfig:
    """Return the recipe of a preset.

    Raises
    ------
    ValueError
        If there is none; the message lists all.
    """
    if preset not in RECIPES:
        raise ValueError(f"no recipe for {preset!r}; there are recipes for {', '.join(RECIPES)}")
    return RECIPES[preset]


def finetuning(recipe: TrainConfig, *, samples: int = 2000) -> TrainConfig:
    """Return the recipe for fine-tuning trained weights on a user's pictures.

    The backbone and the pixel decoder stay as they are; the interactive transformer is trained at
    a quarter of the rate.
    """
    optimiser = replace(
        recipe.optimiser,
        learning_rate=recipe.optimiser.learning_rate / 4,
        schedule="cosine",
        warmup_samples=min(200, samples // 10),
        frozen=(r"backbone\.", r"pixel_decoder\."),
        frozen_batch_norm=True,
        ema_decay=0.99,
    )
    return replace(
        recipe,
        samples=samples,
        batch_size=min(recipe.batch_size, 8),
        crops=(recipe.crops[-1],),
        source_weights=(),
        optimiser=optimiser,
    )
