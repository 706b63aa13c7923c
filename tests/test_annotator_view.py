"""The page: what its parts do and say. Without a browser; see ``tests/browser``."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotator_sets import annotate, make_pictures
from PIL import Image

from dynamite_widget.annotator.proposals import Proposal
from dynamite_widget.annotator.thumbnails import proposal_sheet, thumbnail
from dynamite_widget.annotator.view import GRID_TILES, STRIP_TILES
from dynamite_widget.errors import ImageError
from dynamite_widget.picture import load_picture
from dynamite_widget.rle import RLE
from dynamite_widget.session import ClickSession

ODD = "bb<b>x&.png"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamite_widget.annotator.view.REFRESH_DELAY_S", 0.0)


@pytest.fixture
def annotator(tmp_path: Path) -> Iterator[Any]:
    with annotate(tmp_path, names=f"a.png b.png {ODD} d.png") as made:
        yield made


@pytest.fixture
def page(annotator: Any) -> Any:
    return annotator.page


def settle(page: Any) -> None:
    assert page._commands.drain(60)
    assert page._thread.drain(60)


def test_displays_as_a_widget(annotator: Any) -> None:
    bundle = annotator._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data
    assert annotator.page is annotator.page


def test_buttons_and_keys_go_and_mark(annotator: Any, page: Any) -> None:
    page.done.click()
    page._do("skip")
    page._do("flag")
    settle(page)
    assert annotator.key == ODD
    assert "1 of 4 done · 1 skipped · 1 flagged · 2 left" in page.text.value
    assert page.flag.description == "⚑ Unflag"
    assert page.place.value == 3
    page._do("previous")
    settle(page)
    assert annotator.key == "b.png"
    page._do("nonsense")
    page._do("next")
    page._do("next")
    page._do("next")
    settle(page)
    assert "last picture" in page.alert.value


def test_the_kernel_takes_messages_while_a_picture_is_read(
    annotator: Any, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(page)
    read, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def slow(source: Any, name: str) -> Any:
        threads.append(threading.current_thread())
        read.set()
        assert go_on.wait(60)
        return load_picture(source, name)

    monkeypatch.setattr("dynamite_widget.annotator.desk.load_picture", slow)
    page.place.value = 4
    page.note.value = "of the first"
    page._do("flag")
    assert read.wait(60)
    assert annotator.key == "a.png"
    go_on.set()
    settle(page)
    assert annotator.key == "d.png"
    assert threading.main_thread() not in threads
    assert annotator.store.record("a.png").note == "of the first"
    assert annotator.store.record("d.png").flagged


def test_what_people_write_is_text(annotator: Any, page: Any) -> None:
    annotator.open(ODD)
    page.note.value = "<img src=x>"
    settle(page)
    assert annotator.current.record.note == "<img src=x>"
    for line in (page.name, page.text, page.alert, page.grid_text):
        assert "<b>" not in line.value
        assert "<img" not in line.value
    assert "bb&lt;b&gt;x&amp;" in page.name.value


def test_fields_jump_filter_and_search(annotator: Any, page: Any) -> None:
    page.place.value = 4
    settle(page)
    assert annotator.key == "d.png"
    annotator.mark("b.png", flagged=True)
    page.filter.value = "flagged"
    settle(page)
    assert annotator.key == "b.png"
    assert [tile["place"] for tile in page.strip.tiles] == [1]
    page.filter.value = "all"
    page.search.value = "no such name"
    settle(page)
    assert "No picture matches" in page.alert.value
    assert annotator.key == "b.png"
    annotator.open("a.png").click(1, 1, class_name="owl")
    annotator.flush()
    settle(page)
    assert "class:owl" in page.filter.options


def test_note_belongs_to_the_picture_it_was_written_on(annotator: Any, page: Any) -> None:
    page.note.value = "first"
    page._do("next")
    settle(page)
    assert page.note.value == ""
    page._do("previous")
    settle(page)
    assert page.note.value == "first"
    assert annotator.store.record("b.png").note == ""


def test_review_shows_masks_and_opens(annotator: Any, page: Any) -> None:
    item = annotator.open("a.png")
    item.click(2, 2)
    item.wait()
    annotator.flush()
    sent: list[tuple[int, bytes]] = []
    page.grid.send_picture = lambda place, version, data: sent.append((place, data))
    page.review.value = True
    settle(page)
    assert page.editor.layout.display == "none"
    assert [tile["name"] for tile in page.grid.tiles] == list(annotator.keys)
    page.grid._receive(page.grid, {"type": "want", "places": [0, 3, 99, "x"]}, [])
    assert page._pictures.drain(60)
    assert [place for place, _ in sent] == [0, 3]
    assert Image.open(io.BytesIO(sent[0][1])).size == (30, 20)
    page.grid._receive(page.grid, {"type": "open", "place": 3}, [])
    settle(page)
    assert annotator.key == "d.png"
    assert page.editor.layout.display is None
    page.grid._receive(page.grid, "damaged", [])


def test_long_sets_show_a_window(tmp_path: Path) -> None:
    names = " ".join(f"{n}.png" for n in range(60))
    with annotate(tmp_path, names=names) as annotator:
        page = annotator.page
        annotator.open(30)
        page._refresh()
        places = [tile["place"] for tile in page.strip.tiles]
        assert len(places) == STRIP_TILES
        assert 30 in places
        page.review.value = True
        settle(page)
        assert [tile["place"] for tile in page.grid.tiles] == list(range(GRID_TILES, 48))
        page._do("grid-on")
        settle(page)
        assert [tile["place"] for tile in page.grid.tiles] == list(range(48, 60))
        assert f"of {len(annotator)}" in page.grid_text.value


def test_proposals_are_shown_until_answered(annotator: Any, page: Any) -> None:
    annotator.propose(lambda item: {"boxes": [(1, 1, 9, 9), (12, 2, 18, 8)], "scores": [0.9, 0.4]})
    settle(page)
    assert page.keys.proposals
    assert "90% sure); 2 to answer" in page.sheet_text.value
    page.keys._receive(page.keys, {"type": "key", "command": "accept"}, [])
    page._do("reject")
    settle(page)
    assert not page.keys.proposals
    assert page.proposals.layout.display == "none"
    assert len(annotator.widget.instances) == 1


def test_read_only_says_so(tmp_path: Path) -> None:
    with annotate(tmp_path, read_only=True) as annotator:
        page = annotator.page
        assert "Read only" in page.alert.value
        assert page.done.disabled
        assert page.keys.read_only
        page._do("done")
        settle(page)
        assert "is open read only: opened read only" in page.alert.value


def test_thumbnails(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    pixels = np.full((900, 1200, 3), 200, np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(pixels).save(path, exif=exif)
    small = Image.open(io.BytesIO(thumbnail(path, None, 100)))
    assert small.size == (75, 100)
    session = ClickSession(900, 1200)
    mask = np.zeros((900, 1200), bool)
    mask[:, :600] = True
    session.new_instance("x", RLE.from_mask(mask))
    drawn = np.asarray(Image.open(io.BytesIO(thumbnail(pixels, session, 100)))).astype(int)
    assert np.abs(drawn[40, 20] - 200).max() > 30
    assert np.abs(drawn[40, 80] - 200).max() < 10
    make_pictures(tmp_path, "x.png")
    (tmp_path / "x.png").write_bytes(b"no")
    with pytest.raises(ImageError):
        thumbnail(tmp_path / "x.png", None)
    sheet = proposal_sheet(pixels, (Proposal(mask=RLE.from_mask(mask)), Proposal(point=(5, 5))))
    assert max(Image.open(io.BytesIO(sheet)).size) == 320
