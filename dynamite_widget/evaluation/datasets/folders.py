"""The classical sets of interactive segmentation, in the folder layouts that people have."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DataError
from ..samples import Sample, make_sample
from .base import (
    Entry,
    EvaluationDataset,
    check_sizes,
    files_by_stem,
    need,
    read_index_map,
    read_picture,
)

RITM_HELP = (
    "The README of the GitHub project SamsungLabs/ritm_interactive_segmentation has links to "
    "prepared archives of GrabCut, Berkeley, DAVIS and COCO-MVal."
)
SBD_HELP = (
    "SBD: download benchmark.tgz (Semantic Boundaries Dataset and Benchmark, Hariharan et al.); "
    "the folder meant is benchmark_RELEASE/dataset."
)
DAVIS_HELP = "DAVIS: download 'DAVIS 2017 TrainVal 480p' from https://davischallenge.org."
VOC_HELP = (
    "Pascal VOC: download VOCtrainval_11-May-2012.tar from the VOC 2012 site of the University of "
    "Oxford; the folder meant is VOCdevkit/VOC2012."
)


def open_paired(
    name: str,
    root: str | Path,
    pictures: str,
    masks: str,
    *,
    ignore_value: int | None = None,
) -> EvaluationDataset:
    """Open folders of pictures and masks with equal names, one object per picture.

    Parameters
    ----------
    name : str
        For reports.
    root : path
        Holds the folders `pictures` and `masks`.
    ignore_value : int, optional
        Mask value of pixels of unknown label (128 for GrabCut and Berkeley). Then values above it
        are the object; otherwise all values above 0.

    Raises
    ------
    DataError
        If a folder or the mask of a picture is missing.
    """
    base = Path(root)
    picture_files = files_by_stem(need(base / pictures, f"pictures of {name}", RITM_HELP))
    mask_files = files_by_stem(need(base / masks, f"masks of {name}", RITM_HELP))
    missing = [stem for stem in picture_files if stem not in mask_files]
    if missing:
        raise DataError(
            f"{len(missing)} pictures of {name} have no mask in {str(base / masks)!r}, first "
            f"{missing[0]!r}. {RITM_HELP}"
        )
    if not picture_files:
        raise DataError(f"no picture in {str(base / pictures)!r}. {RITM_HELP}")
    return EvaluationDataset(
        name,
        [
            Entry(stem, partial(_read_paired, name, stem, path, mask_files[stem], ignore_value))
            for stem, path in picture_files.items()
        ],
    )


def _read_paired(
    name: str, stem: str, picture: Path, mask: Path, ignore_value: int | None
) -> Sample:
    image = read_picture(picture)
    values = read_index_map(mask)
    check_sizes(stem, image, values)
    if ignore_value is None:
        return make_sample(stem, image, [values > 0], source=name)
    return make_sample(
        stem, image, [values > ignore_value], ignore=values == ignore_value, source=name
    )


def open_sbd(root: str | Path, split: str = "val") -> EvaluationDataset:
    """Open SBD: ``img/*.jpg``, ``inst/*.mat``, ``cls/*.mat`` and ``val.txt`` below `root`."""
    base = Path(root)
    listing = need(base / f"{split}.txt", f"the list of SBD {split} pictures", SBD_HELP)
    need(base / "img", "pictures of SBD", SBD_HELP)
    need(base / "inst", "instance masks of SBD", SBD_HELP)
    entries = []
    for name in listing.read_text().split():
        picture = need(base / "img" / f"{name}.jpg", "an SBD picture", SBD_HELP)
        masks = need(base / "inst" / f"{name}.mat", "SBD instance masks", SBD_HELP)
        entries.append(Entry(name, partial(_read_sbd, name, picture, masks)))
    return EvaluationDataset("SBD", entries)


def _read_sbd(name: str, picture: Path, masks: Path) -> Sample:
    from scipy.io import loadmat

    image = read_picture(picture)
    try:
        content = loadmat(masks, squeeze_me=True, struct_as_record=False)["GTinst"]
        numbers = np.asarray(content.Segmentation, np.int32)
        categories = np.atleast_1d(np.asarray(content.Categories, np.int32))
    except (OSError, KeyError, ValueError, AttributeError, NotImplementedError) as error:
        raise DataError(f"{str(masks)!r} is no SBD instance file: {error}") from error
    check_sizes(name, image, numbers)
    ids = [int(v) for v in np.unique(numbers) if v > 0]
    return make_sample(
        name,
        image,
        [numbers == v for v in ids],
        class_names=[
            _voc_class(int(categories[v - 1])) if v <= len(categories) else "" for v in ids
        ],
        source_ids=ids,
        source="SBD",
    )


def open_voc(root: str | Path, split: str = "val") -> EvaluationDataset:
    """Open Pascal VOC: ``JPEGImages``, ``SegmentationObject``, ``ImageSets/Segmentation``.

    Boundary pixels (palette index 255) are ignored. ``SegmentationClass``, if there, names classes.
    """
    base = Path(root)
    listing = need(
        base / "ImageSets" / "Segmentation" / f"{split}.txt", "the list of VOC pictures", VOC_HELP
    )
    entries = []
    for name in listing.read_text().split():
        picture = need(base / "JPEGImages" / f"{name}.jpg", "a VOC picture", VOC_HELP)
        masks = need(base / "SegmentationObject" / f"{name}.png", "VOC object masks", VOC_HELP)
        classes = base / "SegmentationClass" / f"{name}.png"
        entries.append(Entry(name, partial(_read_voc, name, picture, masks, classes)))
    return EvaluationDataset("Pascal VOC", entries)


def _read_voc(name: str, picture: Path, masks: Path, classes: Path) -> Sample:
    image = read_picture(picture)
    numbers = read_index_map(masks)
    check_sizes(name, image, numbers)
    class_map = read_index_map(classes) if classes.exists() else None
    ids = [int(v) for v in np.unique(numbers) if 0 < v < 255]
    names = []
    for value in ids:
        inside = class_map[numbers == value] if class_map is not None else np.zeros(0, np.int32)
        inside = inside[(inside > 0) & (inside < 255)]
        names.append(_voc_class(int(np.bincount(inside).argmax())) if inside.size else "object")
    return make_sample(
        name,
        image,
        [numbers == value for value in ids],
        class_names=names,
        source_ids=ids,
        ignore=numbers == 255,
        source="Pascal VOC",
    )


def open_davis_frames(
    root: str | Path,
    year: int = 2017,
    split: str = "val",
    *,
    merge_objects: bool = False,
) -> EvaluationDataset:
    """Open every frame of every DAVIS video as a picture of its own.

    Parameters
    ----------
    root : path
        Holds ``JPEGImages/480p``, ``Annotations/480p`` and ``ImageSets/<year>``.
    year : {2016, 2017}
        Which list of videos; with 2016 all objects of a frame are one.
    merge_objects : bool
        Make one object of all, for 2017 too.

    Notes
    -----
    The source of a picture is its video.
    """
    base = Path(root)
    listing = need(
        base / "ImageSets" / str(year) / f"{split}.txt", "the list of DAVIS videos", DAVIS_HELP
    )
    merge = merge_objects or year == 2016
    entries = []
    for video in listing.read_text().split():
        frames = need(base / "JPEGImages" / "480p" / video, f"frames of {video!r}", DAVIS_HELP)
        masks = need(base / "Annotations" / "480p" / video, f"masks of {video!r}", DAVIS_HELP)
        for stem, picture in files_by_stem(frames).items():
            mask = need(masks / f"{stem}.png", "the mask of a DAVIS frame", DAVIS_HELP)
            key = f"{video}/{stem}"
            entries.append(Entry(key, partial(_read_davis, key, video, picture, mask, merge)))
    return EvaluationDataset(f"DAVIS {year}", entries)


def _read_davis(key: str, video: str, picture: Path, mask: Path, merge: bool) -> Sample:
    image = read_picture(picture)
    numbers = read_index_map(mask)
    check_sizes(key, image, numbers)
    if merge:
        numbers = (numbers > 0).astype(np.int32)
    ids = [int(v) for v in np.unique(numbers) if 0 < v < 255]
    return make_sample(key, image, [numbers == v for v in ids], source_ids=ids, source=video)


_VOC_NAMES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
)
VOC_CLASSES = tuple(_VOC_NAMES.split())


def _voc_class(index: int) -> str:
    return VOC_CLASSES[index] if 0 <= index < len(VOC_CLASSES) else f"class {index}"
