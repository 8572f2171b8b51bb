"""Logins in addresses: what finds them, and what cuts them out of a text that people or files get to see."""

from __future__ import annotations

import re

LOGIN = re.compile(r"://([^/\s@]*:\S*|[^/\s@]+)@")
"""A URL with a login in it; a password may hold a raw `/` or `@`."""
SECRET_FIELD = re.compile(r"(?P<name>\b(?:password|passwd|pwd|token|api_?key|secret)=)[^&\s]+", re.IGNORECASE)
"""A secret among the fields behind the `?` of an address."""


def has_login(address: str) -> bool:
    """Whether an address holds a login or a secret."""
    return bool(LOGIN.search(address) or SECRET_FIELD.search(address))


def without_logins(text: str) -> str:
    """The text, with dots in place of each login and secret of its addresses."""
    return SECRET_FIELD.sub(r"\g<name>...", LOGIN.sub("://...@", text))
