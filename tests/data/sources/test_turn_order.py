"""The order of turns."""

import pytest

from alignflow.data.records import assistant, user
from alignflow.data.sources.base import RowError
from alignflow.data.sources.turn_order import ordered

SYSTEM = [{"role": "system", "content": "s"}]


@pytest.mark.parametrize(
    "turns", [user("q"), [*user("q"), *assistant("a")], [*SYSTEM, *user("q"), *assistant("a"), *user("r")]]
)
def test_user_and_assistant_take_turns_after_a_system_turn_or_none(turns):
    assert ordered(turns) == turns


@pytest.mark.parametrize(
    "turns",
    [
        [],
        SYSTEM,
        assistant("a"),
        [*user("q"), *user("r")],
        [*user("q"), *assistant("a"), *assistant("b")],
        [*user("q"), *SYSTEM],
        [*SYSTEM, *SYSTEM, *user("q")],
    ],
)
def test_any_other_order_is_refused(turns):
    with pytest.raises(RowError, match="wrong_role_order"):
        ordered(turns)
