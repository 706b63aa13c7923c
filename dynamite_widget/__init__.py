"""Interactive segmentation of many objects by clicks, in Jupyter and from Python.

Public names are imported when first used: ``import dynamite_widget`` needs only the standard
library and stays fast; the network (torch, timm) is loaded when a model is.

>>> from dynamite_widget import Click, Predictor, load_model
>>> predictor = Predictor(load_model())
>>> embedding = predictor.embed("picture.jpg")
>>> segmentation = predictor.predict(embedding, [Click(x=120, y=80, instance=1)])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dynamite_widget.lazy import import_name

if TYPE_CHECKING:
    from dynamite_widget import errors
    from dynamite_widget.annotator.dataset import DatasetAnnotator
    from dynamite_widget.controller import AnnotationController
    from dynamite_widget.images import load_image
    from dynamite_widget.model.checkpoints import load_model
    from dynamite_widget.model.predictor import Predictor
    from dynamite_widget.segmentation import Segmentation
    from dynamite_widget.session import Click, ClickSession
    from dynamite_widget.teaching import ClickReplay, challenge, explain
    from dynamite_widget.widget import DynaMITeWidget

__version__ = "0.1.0"

__all__ = [
    "AnnotationController",
    "Click",
    "ClickReplay",
    "ClickSession",
    "DatasetAnnotator",
    "DynaMITeWidget",
    "Predictor",
    "Segmentation",
    "__version__",
    "challenge",
    "errors",
    "explain",
    "load_image",
    "load_model",
]

# Public name -> module that defines it.
_HOMES = {
    "AnnotationController": "controller",
    "Click": "session",
    "ClickReplay": "teaching.replay",
    "ClickSession": "session",
    "DatasetAnnotator": "annotator.dataset",
    "DynaMITeWidget": "widget",
    "Predictor": "model.predictor",
    "Segmentation": "segmentation",
    "challenge": "teaching.contest",
    "explain": "teaching.explanation",
    "load_image": "images",
    "load_model": "model.checkpoints",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module(f"{__name__}.errors")
    value = import_name(__name__, _HOMES, name)
    globals()[name] = value  # the next access does not come here any more
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
