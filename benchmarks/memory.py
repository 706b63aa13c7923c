"""Peak memory of full-resolution results: a 24-megapixel picture with 50 instances.

Draws label map, margin, masks, areas and boxes of one `Segmentation` from stride-4 logits, as after
a prediction, and reports the peak of the whole process. Fails above the limit (1.5 GB). With
``--embeddings``: bytes that the embedding of such a picture holds, per preset, in float32; counted
on PyTorch's meta device. They are bounded whatever the picture, as network images are.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from contextlib import nullcontext
from unittest import mock

import torch
from torch.nn import functional as F

from dynamite_widget.model.config import PRESETS, get_config
from dynamite_widget.model.dynamite import build_model
from dynamite_widget.model.render import LogitsRenderer, MaskLogits
from dynamite_widget.model.resize import network_size, network_size_for, padded_size
from dynamite_widget.segmentation import Segmentation


def peak_bytes() -> int:
    """Peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def make_logits(instances: int, clicks_each: int, size: tuple[int, int]) -> MaskLogits:
    """Blobs on a grid: every instance owns a region, the background the rest."""
    height, width = (side // 4 for side in padded_size(*size))
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    generator = torch.Generator().manual_seed(0)
    columns = max(1, round(instances**0.5))
    rows = -(-instances // columns)
    maps, owners = [], []
    for n in range(instances):
        cy, cx = (n // columns + 0.5) / rows, (n % columns + 0.5) / columns
        for _ in range(clicks_each):
            noise = F.interpolate(
                torch.randn(1, 1, 12, 16, generator=generator), size=(height, width), mode="bicubic"
            )[0, 0]
            maps.append(6 - 14 * torch.hypot((y - cy) * rows, (x - cx) * columns) + noise)
            owners.append(n + 1)
    maps += [torch.zeros(height, width)] * 9
    return MaskLogits(torch.stack(maps), (*owners, *[0] * 9), size)


def embedding_bytes(preset: str, height: int, width: int) -> int:
    """Bytes of the embedding of a picture of this size, in float32."""
    config = get_config(preset)
    with torch.device("meta"):
        model = build_model(config).eval()
    pixels = torch.zeros(
        1, 3, *padded_size(*network_size_for(config, height, width)), device="meta"
    )
    # The meta device knows no autocast.
    plain = mock.patch.object(torch, "autocast", return_value=nullcontext())
    with torch.inference_mode(), plain:
        return model.prepare(model.encode_image(pixels)).nbytes


def print_embeddings(height: int, width: int, as_json: bool) -> int:
    rows = {preset: embedding_bytes(preset, height, width) for preset in PRESETS}
    print(f"embedding of a {width} x {height} picture")
    for preset, size in rows.items():
        print(f"{preset:<14}{size / 2**20:8.0f} MiB")
    if as_json:
        print(json.dumps({"height": height, "width": width, "bytes": rows}))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--clicks-each", type=int, default=2)
    parser.add_argument("--embeddings", action="store_true", help="bytes of embeddings instead")
    parser.add_argument("--limit-gb", type=float, default=1.5)
    parser.add_argument("--json", action="store_true", help="print one last line of JSON")
    arguments = parser.parse_args()
    if arguments.embeddings:
        return print_embeddings(arguments.height, arguments.width, arguments.json)
    size = network_size(arguments.height, arguments.width)
    logits = make_logits(arguments.instances, arguments.clicks_each, size)
    before = peak_bytes()
    segmentation = Segmentation(
        arguments.height,
        arguments.width,
        range(1, arguments.instances + 1),
        LogitsRenderer(logits),
    )
    del logits
    print(f"{'':<12}{'seconds':>9}{'peak GB of the process':>26}")
    print(f"{'start':<12}{'':>9}{before / 1e9:26.3f}")
    for name in ("label_map", "margin", "areas", "boxes", "masks", "scores"):
        start = time.perf_counter()
        value = getattr(segmentation, name)
        seconds = time.perf_counter() - start
        print(f"{name:<12}{seconds:9.2f}{peak_bytes() / 1e9:26.3f}   {value.shape} {value.dtype}")
    # Reading masks must not fill them in, either.
    total = int(sum(int(mask.sum()) for mask in segmentation.masks))
    assert total == int(segmentation.areas.sum())
    peak = peak_bytes() / 1e9
    print(f"{'read masks':<12}{'':>9}{peak:26.3f}")
    if arguments.json:
        print(
            json.dumps(
                {
                    "megapixels": arguments.height * arguments.width / 1e6,
                    "instances": arguments.instances,
                    "start_gb": round(before / 1e9, 3),
                    "peak_gb": round(peak, 3),
                    "limit_gb": arguments.limit_gb,
                }
            )
        )
    return int(peak > arguments.limit_gb)


if __name__ == "__main__":
    sys.exit(main())
