"""Regions that no click reaches are taken away from an instance."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynamite_widget.model.components import keep_clicked_regions
from dynamite_widget.model.structures import ClickTensors

Spots = list[tuple[int, int, int]]


def clicks(*spots: tuple[int, int, int]) -> ClickTensors:
    """Clicks of (row, column, instance) in cells of four network pixels."""
    y, x, instance = (list(values) for values in zip(*spots, strict=True))
    yx = torch.tensor([y, x], dtype=torch.float32).T * 4 + 1.5
    return ClickTensors(yx, torch.arange(len(spots)), torch.tensor(instance))


def logits_of(labels: list[str], channels: int) -> torch.Tensor:
    """Logits 2 where a digit names the channel, -2 elsewhere."""
    wanted = torch.tensor([[int(c) for c in row] for row in labels])
    return torch.stack([(wanted == k) * 4.0 - 2.0 for k in range(channels)])


def labels_of(logits: torch.Tensor) -> list[str]:
    return ["".join(str(int(v)) for v in row) for row in logits.argmax(0)]


def test_a_distant_region_goes_to_the_background() -> None:
    logits = logits_of(["11001", "11001", "00000"], 2)
    kept = keep_clicked_regions(logits, (0, 1), clicks((0, 0, 1)))
    assert labels_of(kept) == ["11000", "11000", "00000"]
    assert labels_of(logits) == ["11001", "11001", "00000"], "the input is left alone"
    margin = kept.topk(2, dim=0).values.diff(dim=0).abs()[0]
    assert margin[0, 4] < 1 < margin[0, 0], "what was dropped counts as doubtful"


def test_every_clicked_region_stays() -> None:
    logits = logits_of(["11001", "11001", "00000"], 2)
    assert keep_clicked_regions(logits, (0, 1), clicks((0, 0, 1), (1, 4, 1))) is logits


def test_corners_connect() -> None:
    logits = logits_of(["1000", "0100", "0011"], 2)
    assert keep_clicked_regions(logits, (0, 1), clicks((0, 0, 1))) is logits


def test_an_instance_that_its_clicks_miss_keeps_its_mask() -> None:
    logits = logits_of(["1101", "0000"], 2)
    assert keep_clicked_regions(logits, (0, 1), clicks((1, 0, 1))) is logits


def test_clicks_of_others_do_not_count() -> None:
    logits = logits_of(["1102", "1101", "0000"], 3)
    kept = keep_clicked_regions(logits, (0, 1, 2), clicks((0, 0, 1), (0, 3, 2), (1, 3, 0)))
    assert labels_of(kept) == ["1102", "1100", "0000"]


def test_what_falls_to_another_instance_must_be_reached_by_it() -> None:
    logits = logits_of(["1100210", "1100010"], 3)
    logits[2, :, 5] = 1.0  # second best in the region that instance 1 loses
    kept = keep_clicked_regions(logits, (0, 1, 2), clicks((0, 0, 1), (0, 4, 2)))
    assert labels_of(kept) == ["1100220", "1100020"], "it touches instance 2"
    kept = keep_clicked_regions(logits, (0, 1, 2), clicks((0, 0, 1), (1, 1, 2)))
    assert labels_of(kept)[1] == "1100020", "instance 2 is never reached, so it keeps what it has"


def test_ignored_channels_stay_out() -> None:
    logits = logits_of(["1101"], 3)
    logits[2] = 9.0
    kept = keep_clicked_regions(logits, (0, 1, -1), clicks((0, 0, 1)))
    assert labels_of(kept[:2]) == ["1100"]


@given(
    seed=st.integers(0, 2**32 - 1),
    spots=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 10), st.integers(0, 3)),
        min_size=1,
        max_size=8,
        unique_by=lambda spot: spot[:2],
    ),
)
def test_only_losses_and_never_of_what_is_clicked(seed: int, spots: Spots) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 9, 11)))
    before = logits.clone()
    kept = keep_clicked_regions(logits, (0, 1, 2, 3), clicks(*spots))
    assert torch.equal(logits, before)
    assert (kept <= before).all()
    assert torch.equal(kept[0], before[0])
    for y, x, instance in spots:
        if before[:, y, x].argmax() == instance:
            assert kept[:, y, x].argmax() == instance
