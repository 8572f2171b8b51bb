"""Errors: one clear message, and the same error after a trip through JSON or pickle's protocol."""

import copy

import pytest

from alignflow.data.errors import (
    BY_NAME,
    LONGEST_QUOTE,
    AlignflowError,
    DamagedArtifactError,
    cut,
    from_json,
    quoted,
    to_json,
)


@pytest.mark.parametrize("name", BY_NAME)
def test_an_error_crosses_the_process_boundary_as_what_it_is(name):
    more = {"key": "sft-01"} if BY_NAME[name] is DamagedArtifactError else {}
    error = BY_NAME[name]("it broke", where="here", do="mend it", **more)
    for again in (from_json(to_json(error)), copy.copy(error)):
        assert type(again) is type(error) and str(again) == str(error) == "here: it broke\n  mend it"
        assert getattr(again, "key", "") == more.get("key", "") and again.exit_status == error.exit_status


def test_without_place_and_advice_the_message_is_what_happened():
    assert str(AlignflowError("it broke")) == "it broke"


@pytest.mark.parametrize("value", ["x" * 10_000, list(range(10_000)), 10**5000], ids=["text", "list", "number"])
def test_a_value_is_quoted_in_limited_length(value):
    assert len(quoted(value)) <= LONGEST_QUOTE + 30
    assert quoted("a'b") == repr("a'b") and cut("short") == "short"
