"""Random edits, valid and not: the session stays sound, undo is exact, files round-trip."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamite_widget.errors import SessionError
from dynamite_widget.rle import RLE
from dynamite_widget.session import ClickSession
from dynamite_widget.session_state import check_state

HEIGHT, WIDTH = 5, 7

small = st.integers(-1, 7)
odd = st.one_of(
    small,
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=3),
    st.integers(),
    st.just(np.int64(2)),
    st.lists(small, max_size=2),
)


def either(good):
    """Mostly good values, some nonsense."""
    return st.one_of(good, good, good, odd)


ids = either(st.integers(0, 5))
names = either(st.sampled_from(["cat", "mug", "dog ", ""]))
masks = st.one_of(
    st.none(),
    st.builds(
        lambda seed: RLE.from_mask(np.random.default_rng(seed).random((HEIGHT, WIDTH)) > 0.5),
        st.integers(0, 9),
    ),
    st.just(RLE.from_mask(np.zeros((2, 2)))),
)
columns, rows = either(st.integers(-1, WIDTH)), either(st.integers(-1, HEIGHT))
times = either(st.integers(0, 12))

intent = st.one_of(
    st.tuples(
        st.just("click"),
        st.fixed_dictionaries(
            {"x": columns, "y": rows, "instance": st.one_of(ids, st.just("new"))},
            optional={"class_name": names},
        ),
    ),
    st.tuples(st.just("move_click"), st.fixed_dictionaries({"t": times, "x": columns, "y": rows})),
    st.tuples(st.just("remove_click"), st.fixed_dictionaries({"t": times})),
    st.tuples(st.just("new_instance"), st.fixed_dictionaries({"class_name": names, "mask": masks})),
    st.tuples(st.just("remove_instance"), st.fixed_dictionaries({"instance": ids})),
    st.tuples(st.just("set_class"), st.fixed_dictionaries({"instance": ids, "class_name": names})),
    st.tuples(st.just("select"), st.fixed_dictionaries({"instance": ids})),
    st.tuples(
        st.just("lock"),
        st.fixed_dictionaries({"instance": ids, "locked": either(st.booleans()), "mask": masks}),
    ),
    st.tuples(
        st.just("set_visible"),
        st.fixed_dictionaries({"instance": ids, "visible": either(st.booleans())}),
    ),
    st.tuples(st.just("set_mask"), st.fixed_dictionaries({"instance": ids, "mask": masks})),
    st.tuples(
        st.just("paint"),
        st.fixed_dictionaries(
            {
                "instance": ids,
                "mode": either(st.sampled_from(["add", "erase"])),
                "radius": either(st.floats(0.5, 20)),
                "points": either(st.lists(st.tuples(columns, rows), max_size=4)),
            }
        ),
    ),
    st.tuples(st.just("reset"), st.just({})),
    st.tuples(st.sampled_from(["clack", "", "undo!"]), st.just({})),
    st.tuples(st.just("click"), st.dictionaries(st.sampled_from(["x", "z"]), small, max_size=2)),
)
step = st.one_of(intent, intent, intent, st.just(("undo", None)), st.just(("redo", None)))


def perform(session, steps):
    """Apply steps as far as they fit, checking after each; return the errors' count."""
    refused = 0
    for name, args in steps:
        before = session.state
        if args is None:
            getattr(session, name)()
        else:
            try:
                session.apply(name, **args)
            except SessionError:
                refused += 1
                assert session.state is before
        check_state(session.state)
    return refused


@settings(max_examples=150, deadline=None)
@given(st.lists(step, max_size=40))
def test_no_sequence_of_edits_breaks_a_session(steps):
    session = ClickSession(HEIGHT, WIDTH, ["cat"])
    perform(session, steps)
    again = ClickSession.from_json(session.to_json())
    assert again.state == session.state
    assert again.can_undo == session.can_undo
    assert again.can_redo == session.can_redo
    states = session.states()
    for expected in reversed(states[:-1]):
        assert session.undo()
        assert again.undo()
        assert session.state == again.state == expected
    assert not session.undo()
    assert not session.can_undo
    # Selections are no steps, so what redo leads to may differ in the active instance alone.
    for _ in range(len(states) - 1):
        assert session.redo()
        assert again.redo()
        assert session.state == again.state


@settings(max_examples=100, deadline=None)
@given(st.lists(intent.filter(lambda i: i[0] != "select"), max_size=30), st.integers(0, 30))
def test_undo_then_redo_is_exact(steps, back):
    session = ClickSession(HEIGHT, WIDTH)
    perform(session, steps)
    states = session.states()
    count = min(back, len(states) - 1)
    for _ in range(count):
        session.undo()
    assert session.state == states[-1 - count]
    for _ in range(count):
        session.redo()
    assert session.state == states[-1]
    assert session.states() == states


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=20), st.lists(step, max_size=20))
def test_a_loaded_session_goes_on_like_the_original(first, then):
    session = ClickSession(HEIGHT, WIDTH, ["cat"])
    perform(session, first)
    again = ClickSession.from_json(session.to_json())
    assert perform(session, then) == perform(again, then)
    assert again.state == session.state
    assert again.states() == session.states()
