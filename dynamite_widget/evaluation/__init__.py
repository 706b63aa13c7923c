"""Robot annotators, protocols, data sets, baselines and reports: "how good is it, on my data?".

Public names are imported lazily; nothing here imports torch unless our own network is loaded.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "RobotAnnotator": "robot",
    "HumanLikeAnnotator": "robot",
    "paint_by_area": "robot",
    "STRATEGIES": "strategies",
    "Sample": "samples",
    "ObjectInfo": "samples",
    "make_sample": "samples",
    "EvaluationPredictor": "predictors",
    "CallablePredictor": "predictors",
    "load_predictor": "predictors",
    "iou": "metrics",
    "instance_ious": "metrics",
    "number_of_clicks": "metrics",
    "summarise": "summaries",
    "EvaluationDataset": "datasets",
    "open_evaluation_dataset": "datasets",
    "RunSettings": "runner",
    "run_evaluation": "runner",
    "write_report": "report",
    "measure_runtime": "runtime",
    "CostEstimate": "cost",
    "estimate_cost": "cost",
    "MultiInstanceAdapter": "multi",
    "SamPredictor": "sam",
    "make_baseline": "baselines",
    "AblationSettings": "ablation",
    "run_ablation": "ablation",
    "write_ablation": "ablation_report",
    "run_noc": "noc",
    "evaluate_noc": "noc",
    "run_mist": "mist",
    "evaluate_mist": "mist",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
