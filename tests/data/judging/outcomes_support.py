"""Outcomes for tests of figures about judges."""

from hypothesis import strategies as st

from alignflow.data.judging.outcomes import Outcome


def outcome(gold, given, swapped=None, row="", lengths=(10, 10), **more):
    """A pair with a label: the mean of both orders; `given` alone stands for both."""
    other = given if swapped is None else swapped
    return Outcome(
        row or f"{gold}{given}{other}", (given + other) / 2, (given, other), gold=gold, lengths=lengths, **more
    )


def rows_of(found):
    """The same outcomes, each of a prompt of its own."""
    return [Outcome(**{**vars(one), "row": str(place)}) for place, one in enumerate(found)]


SHARES = st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.6, 0.9, 1.0])
OUTCOMES = st.lists(
    st.builds(
        outcome,
        st.sampled_from([0.0, 0.5, 1.0]),
        SHARES,
        SHARES,
        lengths=st.tuples(st.integers(1, 99), st.integers(1, 99)),
        families=st.tuples(st.sampled_from(["gpt", "llama"]), st.sampled_from(["gpt", "llama"])),
    ),
    min_size=1,
    max_size=12,
).map(rows_of)
