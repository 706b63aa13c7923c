"""Numbers that others published, shown beside measured ones and always marked "published".

Nothing in this file was measured here. `PAPER` is "Clicks as Queries" (CVPRW 2023); `README` is the
README of the authors' repository amitrana001/DynaMITe, whose released checkpoints differ from the
ones of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Clicks as Queries, CVPRW 2023"
README = "README of amitrana001/DynaMITe"


@dataclass(frozen=True)
class PublishedNoC:
    """Mean number of clicks (budget 20, training data COCO+LVIS) on one data set."""

    method: str
    backbone: str
    dataset: str
    noc85: float | None
    noc90: float | None
    source: str


@dataclass(frozen=True)
class PublishedMist:
    """Multi-instance results at IoU 85 %, ten clicks per object; IoU in percent."""

    method: str
    backbone: str
    strategy: str | None
    dataset: str
    nci: float
    nfo: int
    nfi: int
    iou: float
    source: str


@dataclass(frozen=True)
class PublishedAblation:
    """Swin-T, MIST on SBD, mean of three runs."""

    variant: str
    nci: float
    nfo: int
    nfi: int
    source: str = f"{PAPER}, Table 3"


_NOC_PAPER = """
RITM        | HRNet-32     | 1.46 1.56 | -    2.10 | 3.59 5.71 | -    -    | 4.11 5.34
f-BRS       | HRNet-32     | 1.54 1.69 | 1.64 2.44 | 4.37 7.26 | 2.35 3.44 | 5.17 6.50
PseudoClick | HRNet-32     | -    1.50 | -    2.08 | -    5.54 | -    -    | 3.79 5.11
DynaMITe    | HRNet-32     | 1.46 1.56 | 1.48 1.98 | 3.78 6.32 | 2.41 3.18 | 3.90 4.94
FocalClick  | SegFormer-B0 | 1.40 1.66 | 1.59 2.27 | 4.56 6.86 | 2.65 3.59 | 4.04 5.49
DynaMITe    | SegFormer-B0 | 1.50 1.60 | 1.52 2.02 | 3.97 6.58 | 2.39 3.36 | 3.92 5.16
FocalClick  | SegFormer-B3 | 1.44 1.50 | 1.55 1.92 | 3.53 5.59 | 2.32 3.12 | 3.61 4.90
DynaMITe    | Swin-T       | 1.48 1.58 | 1.34 1.97 | 3.81 6.38 | 2.31 3.21 | 3.81 5.00
DynaMITe    | Swin-L       | 1.62 1.72 | 1.39 1.90 | 3.32 5.64 | 2.19 2.88 | 3.80 5.09
"""
_NOC_PAPER_SETS = ("GrabCut", "Berkeley", "SBD", "COCO-MVal", "DAVIS")
_NOC_README = """
DynaMITe | ResNet-50    | 1.62 1.82 | 1.47 2.19 | 3.93 6.56 | 4.10 5.45 | 2.13 2.51 | 2.36 3.20
DynaMITe | HRNet-32     | 1.62 1.68 | 1.46 2.04 | 3.83 6.35 | 3.83 5.20 | 2.07 2.43 | 2.35 3.14
DynaMITe | SegFormer-B0 | 1.58 1.68 | 1.61 2.06 | 3.89 6.48 | 3.85 5.08 | 2.04 2.40 | 2.47 3.28
DynaMITe | Swin-T       | 1.64 1.78 | 1.39 1.96 | 3.75 6.32 | 3.87 5.23 | 1.94 2.27 | 2.24 3.14
DynaMITe | Swin-L       | 1.62 1.72 | 1.39 1.90 | 3.32 5.64 | 3.80 5.09 | 1.83 2.12 | 2.19 2.88
"""
_NOC_README_SETS = ("GrabCut", "Berkeley", "SBD", "DAVIS", "Pascal VOC", "COCO-MVal")
_MIST_PAPER = """
FocalClick | SegFormer-B0 |        | 7.31 19422 3004 73.7 | 4.26 1115 599 87.3 | 4.60 802 562 84.6
DynaMITe   | SegFormer-B0 | random | 6.07 13404 2438 84.8 | 2.77 551 319 90.6  | 3.29 537 350 87.8
DynaMITe   | Swin-T       | random | 6.04 12934 2451 85.0 | 2.70 522 322 90.7  | 3.13 520 348 88.0
DynaMITe   | Swin-L       | random | 5.74 11976 2259 85.2 | 2.45 422 247 90.9  | 3.07 501 339 88.7
"""
_MIST_README = """
DynaMITe | SegFormer-B0 | best   | 6.13 15219 2485 81.3 | 2.83 655 342 90.2 | 3.29 546 364 87.5
DynaMITe | SegFormer-B0 | random | 6.04 12986 2431 84.9 | 2.76 528 313 90.6 | 3.27 549 356 87.9
DynaMITe | SegFormer-B0 | worst  | 6.02 19758 2414 83.0 | 2.75 842 315 90.3 | 3.25 707 354 87.1
DynaMITe | Swin-L       | best   | 5.80 13876 2305 82.4 | 2.47 497 266 90.7 | 3.06 483 330 88.4
DynaMITe | Swin-L       | random | 5.70 11958 2242 85.3 | 2.42 428 249 91.0 | 3.03 479 320 88.8
DynaMITe | Swin-L       | worst  | 5.66 18133 2242 83.7 | 2.41 671 251 90.8 | 2.99 620 314 88.1
DynaMITe | Swin-T (mean of 3) | best | 6.05 14845 2453 82.0 | 2.71 616 328 90.0 | 3.16 499 344 88.0
"""
_MIST_SETS = ("COCO val2017", "SBD", "DAVIS 2017")


def _noc(table: str, datasets: tuple[str, ...], source: str) -> list[PublishedNoC]:
    rows = []
    for line in table.strip().splitlines():
        method, backbone, *cells = (cell.strip() for cell in line.split("|"))
        for dataset, cell in zip(datasets, cells, strict=True):
            low, high = (None if text == "-" else float(text) for text in cell.split())
            if low is not None or high is not None:
                rows.append(PublishedNoC(method, backbone, dataset, low, high, source))
    return rows


def _mist(table: str, source: str) -> list[PublishedMist]:
    rows = []
    for line in table.strip().splitlines():
        method, backbone, strategy, *cells = (cell.strip() for cell in line.split("|"))
        for dataset, cell in zip(_MIST_SETS, cells, strict=True):
            nci, nfo, nfi, iou = cell.split()
            rows.append(
                PublishedMist(
                    method,
                    backbone,
                    strategy or None,
                    dataset,
                    float(nci),
                    int(nfo),
                    int(nfi),
                    float(iou),
                    source,
                )
            )
    return rows


PUBLISHED_NOC = (
    *_noc(_NOC_PAPER, _NOC_PAPER_SETS, f"{PAPER}, Table 1"),
    *_noc(_NOC_README, _NOC_README_SETS, README),
)
PUBLISHED_MIST = (*_mist(_MIST_PAPER, f"{PAPER}, Table 2"), *_mist(_MIST_README, README))
PUBLISHED_ABLATION = (
    PublishedAblation("full", 2.74, 561, 335),
    PublishedAblation("no transformer decoder", 2.87, 640, 376),
    PublishedAblation("no static background queries", 2.80, 655, 356),
    PublishedAblation("no temporal code", 2.90, 631, 386),
    PublishedAblation("no spatial code", 2.75, 548, 330),
    PublishedAblation("no spatio-temporal code", 2.92, 637, 394),
)
PUBLISHED_RUNTIME = (
    "RTX 3090, mean over GrabCut: 17 ms at 1 click to 34 ms at 200 clicks, about 800 MB to 3.2 GB",
    f"{PAPER}, Figure 3",
)
