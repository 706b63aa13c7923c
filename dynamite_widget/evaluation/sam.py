"""Segment-anything models of Hugging Face transformers as something to evaluate (extra ``sam``).

They know one object; `multi.MultiInstanceAdapter` makes several of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import CheckpointError
from ..session import Click


@dataclass
class _Embedding:
    """A picture as the model sees it, and the low-resolution logits of the clicks so far."""

    features: Any
    shape: tuple[int, int]
    sizes: dict[str, Any]  # what undoing the resizing needs
    scale: tuple[float, float]  # network pixels per picture pixel: x, y
    memory: dict[tuple[Click, ...], Any] = field(default_factory=dict)


class SamPredictor:
    """A SAM-family model driven by clicks, as its authors drive it.

    The first click is answered with the best of the model's several masks; each further prediction
    gets all clicks and the logits of the one before.

    Parameters
    ----------
    model : transformers model
        ``SamModel``, ``Sam2Model``, or another with their ``get_image_embeddings`` and
        ``forward``.
    processor : transformers processor
        That belongs to it: resizes pictures, and masks back.
    device : str
        "auto" takes CUDA where there is one.
    """

    def __init__(self, model: Any, processor: Any, device: str = "auto") -> None:
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.to(device).eval()
        self.processor = processor
        self.device = device

    @classmethod
    def from_pretrained(cls, name: str, device: str = "auto") -> SamPredictor:
        """Load a model by its name on the hub, or from a folder.

        Parameters
        ----------
        name : str
            Such as ``facebook/sam-vit-base`` or ``facebook/sam2.1-hiera-tiny``.

        Raises
        ------
        ModuleNotFoundError
            If transformers is not installed.
        CheckpointError
            If the model is none of this kind, or cannot be read or fetched.
        """
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "SAM models need transformers: pip install 'dynamite-widget[sam]'"
            ) from error
        try:
            config = transformers.AutoConfig.from_pretrained(name)
            # The configuration of a SAM 2 checkpoint may be that of its video model.
            kind = config.model_type.removesuffix("_video")
            classes = {"sam": "Sam", "sam2": "Sam2"}
            if kind not in classes:
                raise CheckpointError(
                    f"{name!r} is a {config.model_type!r} model; expected one of "
                    + ", ".join(classes)
                )
            model = getattr(transformers, f"{classes[kind]}Model").from_pretrained(name)
            processor = getattr(transformers, f"{classes[kind]}Processor").from_pretrained(name)
        except (OSError, ValueError) as error:
            where = "folder" if Path(name).exists() else "model on the hub"
            raise CheckpointError(f"{where} {name!r} cannot be loaded: {error}") from error
        return cls(model, processor, device)

    def embed(self, image: NDArray[np.uint8]) -> _Embedding:
        """Return the picture's features."""
        import torch

        inputs = self.processor(images=Image.fromarray(image), return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.device)
        with torch.inference_mode():
            features = self.model.get_image_embeddings(pixels)
        height, width = image.shape[:2]
        names = ("original_sizes", "reshaped_input_sizes")
        sizes = {name: inputs[name] for name in names if name in inputs}
        # SAM keeps the aspect and pads, SAM 2 squeezes the picture into a square.
        resized = sizes.get("reshaped_input_sizes", [pixels.shape[-2:]])[0]
        scale = (float(resized[1]) / width, float(resized[0]) / height)
        return _Embedding(features, (height, width), sizes, scale)

    def predict(
        self, embedding: _Embedding, clicks: Sequence[Click], instances: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return the label map of one instance; clicks of others count as background."""
        if len(instances) != 1:
            raise ValueError(
                f"SAM segments one instance, got {len(instances)}; use MultiInstanceAdapter"
            )
        (instance,) = instances
        own = tuple(
            Click(x=c.x, y=c.y, instance=int(c.instance == instance), t=c.t) for c in clicks
        )
        logits = self._logits(embedding, own)
        if logits is None:
            return np.zeros(embedding.shape, np.int32)
        masks = self.processor.post_process_masks([logits.cpu()], **embedding.sizes)[0]
        return np.asarray(masks[0, 0], bool).astype(np.int32) * instance

    def _logits(self, embedding: _Embedding, clicks: tuple[Click, ...]) -> Any:
        """Return (1, 1, h, w) logits of the model's size, None before the first foreground click.

        A list of clicks that was asked for already is not computed again, so that only the last
        click of a growing list costs anything.
        """
        import torch

        if not any(click.instance for click in clicks):
            return None
        if clicks in embedding.memory:
            return embedding.memory[clicks]
        before = self._logits(embedding, clicks[:-1])
        x_scale, y_scale = embedding.scale
        points = [[click.x * x_scale, click.y * y_scale] for click in clicks]
        labels = [click.instance for click in clicks]
        with torch.inference_mode():
            output = self.model(
                image_embeddings=embedding.features,
                input_points=torch.tensor([[points]], dtype=torch.float32, device=self.device),
                input_labels=torch.tensor([[labels]], dtype=torch.int64, device=self.device),
                input_masks=before,
                multimask_output=before is None,
            )
        best = int(output.iou_scores[0, 0].argmax())
        logits = output.pred_masks[:, 0, best : best + 1].float()
        embedding.memory[clicks] = logits
        return logits
