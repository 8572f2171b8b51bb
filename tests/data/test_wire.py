import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignflow.data.wire import LONGEST, receive, send

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def ends():
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_sent_is_received(message):
    mine, other = socket.socketpair()
    with mine, other:
        send(mine, message)
        assert receive(other) == message


def test_messages_keep_their_order_and_their_borders(ends):
    mine, other = ends
    for number in range(3):
        send(mine, {"number": number})
    assert [receive(other)["number"] for _ in range(3)] == [0, 1, 2]


def test_a_closed_connection_is_no_message(ends):
    mine, other = ends
    mine.close()
    assert receive(other) is None


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\x00\x00",
        struct.pack("!Q", 10) + b"{}",
        struct.pack("!Q", 2) + b"[]",
        struct.pack("!Q", 3) + b"{x}",
        struct.pack("!Q", LONGEST + 1),
    ],
    ids=["half a length", "half a message", "no object", "no JSON", "too long"],
)
def test_what_is_no_whole_message_is_an_error(ends, bytes_sent):
    mine, other = ends
    mine.sendall(bytes_sent)
    mine.close()
    with pytest.raises(ConnectionError):
        receive(other)
