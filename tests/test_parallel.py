"""Pieces of one computation on several cores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_speed import SMALL, maps, some_clicks
from torch.nn import functional

from dynamite_widget.cancelling import Cancelled, interruptible
from dynamite_widget.model import attention, interactive
from dynamite_widget.model.attention import CrossAttentionLayer
from dynamite_widget.model.parallel import cores, even_slices, in_pieces, one_core

T = TypeVar("T")
R = TypeVar("R")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def on_two_cores(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    with one_core():
        return in_pieces(function, items)


def test_pieces_run_at_the_same_time_on_one_core_each() -> None:
    meeting = threading.Barrier(2)

    def piece(item: int) -> tuple[int, int, int, int]:
        meeting.wait(30)  # broken unless two threads are in here
        return item, threading.get_ident(), torch.get_num_threads(), cores()

    results = on_two_cores(piece, [5, 6])
    assert [item for item, *_ in results] == [5, 6]
    assert len({thread for _, thread, *_ in results}) == 2
    assert all((threads, pieces) == (1, 1) for *_, threads, pieces in results)
    assert torch.get_num_threads() == 2


def test_without_one_core_pieces_wait_for_each_other_on_all_cores() -> None:
    here, caller = [], threading.get_ident()

    def piece(item: int) -> int:
        here.append((item, threading.get_ident(), torch.get_num_threads(), cores()))
        return -item

    assert in_pieces(piece, [5, 6]) == [-5, -6]
    assert here == [(5, caller, 2, 1), (6, caller, 2, 1)]


def test_results_keep_the_order_of_the_items() -> None:
    assert on_two_cores(lambda n: n * n, range(50)) == [n * n for n in range(50)]
    assert on_two_cores(lambda n: n, []) == []


def test_one_core_is_a_matter_of_this_thread() -> None:
    elsewhere: list[int] = []
    with one_core(), one_core():
        assert torch.get_num_threads() == 1
        assert cores() == 2
        other = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert elsewhere == [2]
    assert torch.get_num_threads() == 2


def test_pieces_know_how_the_caller_computes() -> None:
    def modes(_: int) -> tuple[bool, bool, bool, torch.dtype]:
        meeting.wait(30)
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        return (
            torch.is_inference_mode_enabled(),
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            product.dtype,
        )

    meeting = threading.Barrier(2)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert on_two_cores(modes, [0, 1]) == [(True, False, True, torch.bfloat16)] * 2
    with torch.no_grad():
        assert on_two_cores(modes, [0, 1]) == [(False, False, False, torch.float32)] * 2
    assert on_two_cores(modes, [0, 1]) == [(False, True, False, torch.float32)] * 2


def test_pieces_of_pieces_wait_for_nobody() -> None:
    inner = on_two_cores(lambda n: sum(in_pieces(lambda m: m * n, range(4))), range(8))
    assert inner == [6 * n for n in range(8)]


@pytest.mark.parametrize("bad", [0, 1, 7])
def test_an_error_of_a_piece_is_raised(bad: int) -> None:
    meeting = threading.Barrier(2)

    def piece(n: int) -> int:
        if n < 2:
            meeting.wait(30)
        if n == bad:
            raise ValueError(f"piece {n}")
        return n

    with pytest.raises(ValueError, match=f"piece {bad}"):
        on_two_cores(piece, range(8))
    assert torch.get_num_threads() == 2
    assert cores() == 1
    assert on_two_cores(lambda n: n, range(3)) == [0, 1, 2]


def test_whoever_is_in_a_hurry_comes_between_pieces_and_may_end_them() -> None:
    done: list[int] = []
    found: list[list[int]] = []

    def hurry() -> None:
        found.append(on_two_cores(lambda n: n + cores(), range(4)))
        if len(found) == 3:
            raise Cancelled

    with interruptible(hurry), pytest.raises(Cancelled):
        on_two_cores(done.append, range(10_000))
    assert found == [[1, 2, 3, 4]] * 3
    assert len(done) < 10_000
    before = len(done)
    on_two_cores(lambda n: n, range(3))
    assert len(done) == before  # nobody goes on with what was ended


def test_many_threads_share_the_helpers() -> None:
    sums: list[int] = []

    def click() -> None:
        with torch.inference_mode():
            for _ in range(20):
                sums.append(sum(on_two_cores(lambda n: int(torch.full((9,), n).sum()), range(10))))

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [405] * 80


@given(st.integers(0, 300), st.integers(1, 40))
def test_even_slices_cover_a_range_evenly(length: int, count: int) -> None:
    parts = even_slices(length, count)
    assert [n for part in parts for n in range(length)[part]] == list(range(length))
    sizes = [part.stop - part.start for part in parts]
    assert len(sizes) == max(1, min(length, count))
    assert max(sizes) - min(sizes) <= 1


def test_heads_on_several_cores_attend_as_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = CrossAttentionLayer(32, 4), torch.randn(1, 12, 32)
    memory, allowed = torch.randn(1, 40, 32), torch.rand(1, 1, 12, 40) > 0.5
    attn = layer.multihead_attn
    shapes: list[tuple[int, ...]] = []
    kernel = functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        shapes.append(tuple(query.shape))
        return kernel(query, *args, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    with torch.inference_mode(), one_core():
        tensors = attn.project_query(x), attn.project_key(memory), attn.project_value(memory)
        whole = layer(x, *tensors, allowed)
        monkeypatch.setattr(attention, "_FEWEST_SCORES", 1)
        parts = layer(x, *tensors, allowed)
    torch.testing.assert_close(parts, whole)
    assert shapes == [(1, 4, 12, 8), (1, 2, 12, 8), (1, 2, 12, 8)]


@pytest.mark.parametrize("preset", ["small", "relative"])
def test_queries_on_several_cores_see_what_they_see_on_one(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = replace(SMALL, relative_mask=preset == "relative")
    transformer = interactive.InteractiveTransformer(config, 8).eval()
    cut = interactive.InteractiveTransformer._attention_mask

    def masks(fewest: int) -> list[torch.Tensor]:
        seen: list[torch.Tensor] = []

        def watched(*args: Any) -> torch.Tensor:
            seen.append(cut(*args))
            return seen[-1]

        with monkeypatch.context() as patch, torch.inference_mode(), one_core():
            patch.setattr(interactive, "_FEWEST_LOGITS", fewest)
            patch.setattr(interactive.InteractiveTransformer, "_attention_mask", watched)
            transformer.decode(transformer.prepare(maps()), [some_clicks(6, 2)], False)
        return seen

    whole, parts = masks(10**9), masks(1)
    assert len(whole) == len(parts) == config.encoder_layers
    for a, b in zip(whole, parts, strict=True):
        assert 0 < a.float().mean() < 1
        assert a.shape == b.shape
        assert (a == b).float().mean() > 0.999  # products of other shapes round differently
