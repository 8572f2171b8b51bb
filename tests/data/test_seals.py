"""A small file carries its own digest: whatever byte of it changes, it is not taken for what was written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.seals import SealError, UnsealedError, check_text, sealed, sealed_text, unsealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_is_sealed_comes_back(value):
    assert unsealed(sealed(value)) == value


@given(JSON, st.data())
def test_no_changed_byte_goes_unnoticed(value, data):
    content = bytearray(sealed(value))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealError) as raised:
        unsealed(bytes(content))
    assert not isinstance(raised.value, UnsealedError), "a damaged file is not taken for one of an older alignflow"


def test_json_without_a_seal_is_told_from_damage():
    with pytest.raises(UnsealedError):
        unsealed(b'{"a": 1}')


@given(st.data())
def test_a_text_whose_last_field_is_its_seal_is_bound_to_every_byte(data):
    content = bytearray(sealed_text('{\n "metric": 0.25,\n "seal": ""\n}').encode())
    check_text(bytes(content))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealError):
        check_text(bytes(content))
