"""Deviations of this package's network from the golden vectors, name by name.

The network runs as in `Predictor`: `encode_image`, `prepare`, `decode_clicks`. Names are those of
the golden files, in the order of the computation: the first large deviation points at the fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import golden_rule
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dynamite_widget.model.config import ModelConfig, get_config
from dynamite_widget.model.conversion import to_reference
from dynamite_widget.model.dynamite import DynaMITe, build_model
from dynamite_widget.model.queries import sample_descriptors
from dynamite_widget.model.render import LogitsRenderer, MaskLogits
from dynamite_widget.model.resize import padded_size, preprocess
from dynamite_widget.model.structures import ClickTensors, PreparedFeatures, fuse

FOLDER = Path(__file__).resolve().parent

PRESETS = {
    "segformer-b0": "dynamite_mitb0_bs32_ep50",
    "swin-tiny": "dynamite_swin_tiny_bs32_ep50",
    "resnet50": "dynamite_R50_bs32_ep50",
    "hrnet32": "dynamite_hrnet32_bs32_ep50",
    "swin-large": "dynamite_swin_large_bs32_ep100",
}
ROUNDS = 4
# Logits reach 50, and float32 sums of 256 products of that size differ by 1e-5 to 2e-4.
AMBIGUOUS_LOGIT = 3e-4
# Rounding alone moves an encoder layer's output by up to 1e-5.
UNEXPLAINED = 2e-5

Array = NDArray[Any]


@dataclass(frozen=True)
class Deviation:
    """Largest and 99th-percentile absolute difference, or the share of wrong pixels."""

    largest: float
    p99: float


@dataclass(frozen=True)
class Limit:
    """What may be exceeded by no deviation of a kind of array."""

    largest: float = float("inf")
    p99: float = float("inf")

    def admits(self, deviation: Deviation) -> bool:
        """Whether `deviation` keeps both limits (NaN does not)."""
        return deviation.largest <= self.largest and deviation.p99 <= self.p99


def kind(name: str) -> str:
    """Group of arrays that share a limit: "features", "queries", "logits", "labels"."""
    last = name.split("/", 2)[-1]
    if last == "label_map":
        return "labels"
    if "round" not in name:
        return "features"
    return "queries" if last.startswith(("quer", "click", "desc")) else "logits"


LIMITS = {
    "A": {
        "features": Limit(1e-4),
        "queries": Limit(1e-4),
        "logits": Limit(1e-3),
        "labels": Limit(2e-4),
    },
    # One attention-mask bit that flips moves everything behind it a little.
    "B": {
        "features": Limit(1e-4),
        "queries": Limit(1e-4),
        "logits": Limit(p99=2e-2),
        "labels": Limit(5e-4),
    },
}


@cache
def golden(config_name: str) -> dict[str, Array]:
    """Arrays of ``golden_<config_name>.npz``."""
    with np.load(FOLDER / f"golden_{config_name}.npz") as file:
        # What was not stored for a round is present as an empty array.
        return {name: array for name, array in file.items() if array.size}


@cache
def golden_train() -> dict[str, Array]:
    """Arrays of ``golden_train_mitb0.npz``."""
    with np.load(FOLDER / "golden_train_mitb0.npz") as file:
        return dict(file)


@cache
def reference_entries(config_name: str) -> dict[str, tuple[tuple[int, ...], str, str]]:
    """Key → (shape, dtype, kind) of a published checkpoint."""
    text = (FOLDER / f"state_dict_{config_name}.json").read_text(encoding="utf-8")
    return {key: (tuple(shape), dtype, k) for key, shape, dtype, k in json.loads(text)["entries"]}


def fill(model: DynaMITe) -> None:
    """Fill all floating-point entries by the golden rule."""
    with torch.no_grad():
        for key, value in to_reference(model).items():
            if value.is_floating_point():
                value.copy_(torch.from_numpy(golden_rule.fill_value(key, tuple(value.shape))))


@lru_cache(maxsize=1)
def filled_model(preset: str) -> DynaMITe:
    """Network of a preset with golden weights, in evaluation mode (the last one is kept)."""
    model = build_model(get_config(preset)).eval()
    fill(model)
    return model


def case_config(config: ModelConfig, case: str) -> ModelConfig:
    """`config` with a resize rule that leaves the picture of case A as it is."""
    height, width, resized = golden_rule.CASES[case]
    if resized:
        return config
    return config.replace(short_side=min(height, width), max_long_side=max(height, width))


def clicks_until(case: str, last_round: int) -> list[tuple[int, int, int, int]]:
    """All (x, y, instance, t) of the rounds 0..last_round; original pixels, 0 = background."""
    script: Any = golden_rule.SCRIPT
    rows = [row for added in script[case][: last_round + 1] for row in added]
    return [
        (x, y, 0 if kind == "bg" else number + 1, t) for t, (kind, number, y, x) in enumerate(rows)
    ]


def click_tensors(case: str, last_round: int, size: tuple[int, int]) -> ClickTensors:
    """The same clicks in pixels of a network image of `size`."""
    height, width, _ = golden_rule.CASES[case]
    rows = clicks_until(case, last_round)
    return ClickTensors(
        torch.tensor([(y * size[0] / height, x * size[1] / width) for x, y, _, _ in rows]),
        torch.tensor([t for *_, t in rows]),
        torch.tensor([instance for _, _, instance, _ in rows]),
    )


@dataclass(frozen=True)
class Measurement:
    """Deviations by golden name in the order of the computation, and the mask bits that tipped."""

    deviations: dict[str, Deviation]
    tipped_bits: int


class Comparison:
    """Collects deviations from one golden file."""

    def __init__(self, expected: dict[str, Array]) -> None:
        self.expected = expected
        self.deviations: dict[str, Deviation] = {}

    def array(self, name: str, value: Any) -> None:
        """Compare samples and statistics of an array stored as shape, stats and sub."""
        # Axes of length 1 (the batch) are elsewhere in the reference.
        shape = [n for n in np.shape(value) if n != 1]
        wanted = [n for n in self.expected[f"{name}/shape"].tolist() if n != 1]
        assert shape == wanted, f"{name}: shape {shape}, expected {wanted}"
        sub = self.expected[f"{name}/sub"]
        flat = np.asarray(value).reshape(-1)
        found = flat[golden_rule.sub_idx(flat.size, len(sub))]
        difference = np.abs(found.astype(np.float64) - sub)
        mean, _, _, _, absolute = self.expected[f"{name}/stats"]
        moments = (
            abs(flat.mean(dtype=np.float64) - mean),
            abs(np.abs(flat).mean(dtype=np.float64) - absolute),
        )
        self._add(name, np.append(difference, moments))

    def full(self, name: str, value: Any) -> None:
        """Compare with an array stored completely, perhaps in half precision."""
        wanted = self.expected[name]
        assert np.shape(value) == wanted.shape, f"{name}: {np.shape(value)}, not {wanted.shape}"
        difference = np.abs(np.asarray(value, np.float64) - wanted.astype(np.float64))
        if wanted.dtype == np.float16:
            difference = np.maximum(difference - np.abs(np.spacing(wanted).astype(float)), 0)
        self._add(name, difference)

    def labels(self, name: str, value: Array) -> None:
        """Compare label maps: the deviation is the share of pixels that differ."""
        share = float((value != self.expected[name]).mean())
        self.deviations[name] = Deviation(share, share)

    def _add(self, name: str, difference: Array) -> None:
        p99 = float(np.quantile(difference, 0.99))
        self.deviations[name] = Deviation(float(difference.max()), p99)


@contextmanager
def _captured(model: DynaMITe, compare: Comparison, prefix: str) -> Iterator[None]:
    """Compare the outputs of the inner blocks while the network runs."""
    transformer = model.transformer
    queries = transformer.queries

    def output(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, result: compare.array(f"{prefix}/{name}", result)

    def inputs(name: str) -> Callable[..., None]:
        return lambda _module, arguments: compare.array(f"{prefix}/{name}", arguments[0])

    blocks = [
        (f"enc{i}/{label}", layer)
        for label, layers in (
            ("ca", transformer.encoder.cross_attention_layers),
            ("sa", transformer.encoder.self_attention_layers),
            ("ff", transformer.encoder.ffn_layers),
        )
        for i, layer in enumerate(layers)
    ]
    assert transformer.decoder is not None
    for i, (cross, ffn) in enumerate(transformer.decoder.layers()):
        blocks += [(f"dec{i}/ca", cross), (f"dec{i}/ff", ffn)]
    handles = [layer.register_forward_hook(output(name)) for name, layer in blocks]
    projection, sine = queries.queries_nonlinear_projection, queries.ca_qpos_sine_proj
    handles += [
        projection.register_forward_pre_hook(inputs("queries_in")),
        projection.register_forward_hook(output("queries_proj")),
        sine.register_forward_pre_hook(inputs("click_pe384")),
        sine.register_forward_hook(output("click_pe256")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def measure(preset: str, case: str, rounds: int = ROUNDS) -> Measurement:
    """Run all rounds of a case and compare everything that its golden file holds.

    A bit of an attention mask whose logit is within rounding of 0 may come out either way, on any
    two machines; it moves everything behind it. Such bits are found (`_tipped_bits`), set as in
    the golden run, and counted.

    Parameters
    ----------
    preset : str
        Key of `PRESETS`.
    case : {"A", "B"}
        Image.
    rounds : int
        Number of rounds, 1 to 4.

    Returns
    -------
    Measurement
    """
    model = filled_model(preset)
    compare = Comparison(golden(PRESETS[preset]))
    image = golden_rule.image(*golden_rule.CASES[case][:2])
    pixels, size = preprocess(image, case_config(model.config, case))
    tensor = torch.from_numpy(pixels)[None]
    compare.array(f"{case}/input", tensor)

    stages = _stage_names(compare.expected, case)

    def compare_maps(_module: Any, _inputs: Any, maps: list[Tensor]) -> None:
        for stage, level in zip(stages, maps, strict=True):
            compare.array(f"{case}/backbone/{stage}", level)

    handle = model.backbone.register_forward_hook(compare_maps)
    try:
        features = model.encode_image(tensor)
    finally:
        handle.remove()
    for level, feature_map in enumerate(features.multi_scale):
        compare.array(f"{case}/multi_scale/{level}", feature_map)
    compare.array(f"{case}/mask_features", features.mask_features)

    prepared = model.prepare(features)
    tipped_bits = 0
    for number in range(rounds):
        prefix = f"{case}/round{number}"
        clicks = click_tensors(case, number, size)
        tipped = _tipped_bits(model, prepared, clicks, compare.expected, prefix)
        tipped_bits += sum(map(len, tipped))
        if f"{prefix}/descriptors_full" in compare.expected:
            yx = clicks.ordered().yx[None]
            descriptors = sample_descriptors(features.multi_scale, yx, padded_size(*size))
            compare.full(f"{prefix}/descriptors_full", descriptors[0])
        last: list[Tensor] = []
        keep = model.transformer.encoder.ffn_layers[-1].register_forward_hook(
            lambda _module, _inputs, result, last=last: last.append(result)
        )
        with _captured(model, compare, prefix), _toggled(model, tipped):
            decoded = model.decode_clicks(prepared, [clicks], all_predictions=True)
        keep.remove()
        for index, prediction in enumerate(decoded.auxiliary):
            compare.array(f"{prefix}/aux_masks/{index}", prediction.logits)
        _, embedding = model.transformer.mask_embedding(last[0])
        head = (embedding @ features.mask_features.flatten(2)).unflatten(
            2, features.mask_features.shape[-2:]
        )
        compare.array(f"{prefix}/aux_masks/{len(decoded.auxiliary)}", head)
        _compare_final(compare, prefix, decoded.final, size, image.shape[:2])
    return Measurement(compare.deviations, tipped_bits)


Bit = tuple[int, int]


@contextmanager
def _toggled(model: DynaMITe, bits: Sequence[Sequence[Bit]]) -> Iterator[None]:
    """Invert bits (query, token) of the attention masks; one sequence per encoder layer."""
    transformer, layers = model.transformer, iter(bits)
    original = transformer._attention_mask

    def mask(*arguments: Any) -> Tensor:
        allowed = original(*arguments).clone()
        for query, token in next(layers):
            allowed[0, query, token] ^= True
        return allowed

    with mock.patch.object(transformer, "_attention_mask", mask):
        yield


def _tipped_bits(
    model: DynaMITe,
    prepared: PreparedFeatures,
    clicks: ClickTensors,
    expected: dict[str, Array],
    prefix: str,
) -> list[list[Bit]]:
    """Per encoder layer the bits within rounding of 0 that explain a deviation of its output."""
    transformer = model.transformer
    queries = transformer.queries(prepared.features, [clicks])
    x, result = queries.content, []
    for i in range(model.config.encoder_layers):
        level = i % 3
        name = f"{prefix}/enc{i}/ff"
        _, embedding = transformer.mask_embedding(x)
        closeness = (embedding @ prepared.level_mask_features[level])[0].abs()
        near = (closeness < AMBIGUOUS_LOGIT).nonzero()
        near = near[closeness[near[:, 0], near[:, 1]].argsort()][:12]
        arguments = (i, x, queries, prepared, level, None)
        bits: list[Bit] = []
        best, x = _layer(model, arguments, bits, name, expected)
        for query, token in near.tolist():
            if best < UNEXPLAINED:
                break
            trial = [*bits, (query, token)]
            deviation, output = _layer(model, arguments, trial, name, expected)
            if deviation < 0.7 * best:
                bits, best, x = trial, deviation, output
        result.append(bits)
    return result


def _layer(
    model: DynaMITe,
    arguments: tuple[Any, ...],
    bits: list[Bit],
    name: str,
    expected: dict[str, Array],
) -> tuple[float, Tensor]:
    """Deviation and output of an encoder layer with some bits of its mask inverted."""
    compare = Comparison(expected)
    with _toggled(model, [bits]):
        output = model.transformer._encoder_layer(*arguments)
    compare.array(name, output)
    return compare.deviations[name].largest, output


def _stage_names(expected: dict[str, Array], case: str) -> list[str]:
    names = {name.split("/")[2] for name in expected if name.startswith(f"{case}/backbone/")}
    return sorted(names)


def _compare_final(
    compare: Comparison,
    prefix: str,
    final: Any,
    size: tuple[int, int],
    original: tuple[int, int],
) -> None:
    """Compare the final logits, the fused ones at full resolution, and the label map."""
    logits = final.logits
    compare.array(f"{prefix}/pred_masks", logits)
    if f"{prefix}/pred_masks_full_f16" in compare.expected:
        compare.full(f"{prefix}/pred_masks_full_f16", logits[0])
    if f"{prefix}/fused_quarter_s2_f16" in compare.expected:
        fused, _ = fuse(final)
        compare.full(f"{prefix}/fused_quarter_s2_f16", fused[:, ::2, ::2])
    full = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
    full = full[:, :, : size[0], : size[1]]
    full = F.interpolate(full, original, mode="bilinear", align_corners=False)
    fused, _ = fuse(type(final)(full, final.channel_instance))
    compare.array(f"{prefix}/fused_fullres", fused)

    owners = tuple(final.channel_instance[0].tolist())
    renderer = LogitsRenderer(MaskLogits(logits[0], owners, size))
    compare.labels(f"{prefix}/label_map", renderer.label_map(*original))
    margin = renderer.margin(*original)
    quantiles = np.quantile(margin, [0, 0.001, 0.01, 0.1, 0.5, 0.9])
    compare.full(f"{prefix}/margin_quantiles", quantiles)


def excesses(case: str, deviations: dict[str, Deviation]) -> list[str]:
    """Lines naming every deviation beyond its limit."""
    return [
        f"{name}: largest {deviation.largest:.2e}, 99th percentile {deviation.p99:.2e}"
        for name, deviation in deviations.items()
        if not LIMITS[case][kind(name)].admits(deviation)
    ]


def largest(deviations: dict[str, Deviation]) -> dict[str, Deviation]:
    """Largest deviation of each kind."""
    result: dict[str, Deviation] = {}
    for name, deviation in deviations.items():
        known = result.get(kind(name), Deviation(0.0, 0.0))
        result[kind(name)] = Deviation(
            max(known.largest, deviation.largest), max(known.p99, deviation.p99)
        )
    return result
