"""A login in an address is found, and cut out of what is shown."""

import pytest

from alignflow.data.logins import has_login, without_logins


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@127.0.0.1:9/api", "http://...@127.0.0.1:9/api"),
        ("postgresql://u:p/w@h/db", "postgresql://...@h/db"),
        ("postgresql://u:p@w@h/db", "postgresql://...@h/db"),
        ("https://token@host", "https://...@host"),
        ("postgresql://h/db?user=a&password=b&x=1", "postgresql://h/db?user=a&password=...&x=1"),
        ("request to http://me:pw@h/x failed, see http://h/y", "request to http://...@h/x failed, see http://h/y"),
    ],
)
def test_a_login_is_cut_out(address, shown):
    assert has_login(address) and without_logins(address) == shown


@pytest.mark.parametrize("address", ["http://host:5000", "sqlite:////data/mlflow.db", "file:///a@b", "mail me@host"])
def test_an_address_without_one_stays_as_it_is(address):
    assert not has_login(address) and without_logins(address) == address
