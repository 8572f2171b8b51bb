"""A fence for answers: a code that no answer can contain, because it is made from the answers."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence

_DIGITS = 12  # 48 bits: too many to guess, few enough for the context of a small model


def fence_of(key: str, conversation: Sequence[Mapping[str, str]], *texts: str) -> str:
    """The code before and after each text of one question: 12 hex digits.

    It is a keyed hash of everything that it encloses. To forge it, the author of an answer would have to find a text that has its own
    hash in it; a rerun finds the same code, so that rows can come from the journal and results have the same bytes. Both
    orders of a pair have the same code. A code that is in one of the texts by chance is skipped.

    Args:
        key: Identifies the judge: its prompt and model.
        conversation: The messages before the answers.
        texts: The other texts that it encloses, such as the two answers, in any order.
    """
    enclosing = [
        *(part for message in conversation for part in (message["role"], message["content"])),
        *sorted(texts),
    ]
    secret = hashlib.sha256(key.encode()).digest()
    content = json.dumps(enclosing).encode()
    enclosed = "\n".join(enclosing).lower()
    for count in itertools.count():
        code = hashlib.blake2b(content, key=secret, salt=count.to_bytes(16, "big")).hexdigest()[:_DIGITS]
        if code not in enclosed:
            return code
    raise AssertionError("unreachable: the count has no end")
