"""Messages between processes of one machine: JSON objects, each after its length in bytes. Standard library alone.

vLLM's process reads this file too, from another interpreter that has no alignflow.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

LONGEST = 1 << 30
"""Bytes of one message at most: a longer one is not ours."""
_LENGTH = struct.Struct("!Q")


def send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    """Write one message; raises OSError where nobody reads any more."""
    content = json.dumps(message).encode()
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Read one message; None where the other side closed before one began.

    Raises:
        ConnectionError: the other side ended in the middle of one, or what it sent is no message.
    """
    head = _exactly(connection, _LENGTH.size)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > LONGEST:
        raise ConnectionError(f"a message of {length:,} bytes")
    content = _exactly(connection, length)
    if len(content) < length:
        raise ConnectionError("the other side ended in the middle of a message")
    try:
        message = json.loads(content)
    except ValueError as error:
        raise ConnectionError(f"no message: {error}") from None
    if not isinstance(message, dict):
        raise ConnectionError("a message that is no JSON object")
    return message


def _exactly(connection: socket.socket, length: int) -> bytes:
    """`length` bytes; none where the other side closed before the first."""
    parts, missing = [], length
    while missing:
        part = connection.recv(min(missing, 1 << 20))
        if not part:
            if missing < length:
                raise ConnectionError("the other side ended in the middle of a message")
            return b""
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
