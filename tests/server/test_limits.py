"""Limits that the server inherits are raised as far as this user may."""

import resource

import pytest

from alignflow.server import limits
from alignflow.server.errors import ServerError


@pytest.fixture
def system(monkeypatch):
    """The limits of a process, by kind: (soft, hard)."""
    values = {
        resource.RLIMIT_NOFILE: (1024, 4096),
        resource.RLIMIT_FSIZE: (resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    }
    monkeypatch.setattr(resource, "getrlimit", values.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", values.__setitem__)
    return values


def test_enough_stays_as_it_is(system):
    before = dict(system)
    limits.raise_limits()
    assert system == before


def test_too_few_files_become_as_many_as_are_wanted_or_allowed(system):
    system[resource.RLIMIT_NOFILE] = (64, resource.RLIM_INFINITY)
    limits.raise_limits()
    assert system[resource.RLIMIT_NOFILE][0] == limits.WANTED_FILES
    system[resource.RLIMIT_NOFILE] = (64, 500)
    limits.raise_limits()
    assert system[resource.RLIMIT_NOFILE] == (500, 500)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(resource.RLIMIT_NOFILE, "open files is 16"), (resource.RLIMIT_FSIZE, "file size is 16 bytes")],
)
def test_a_hard_limit_that_is_too_low_is_an_error(system, kind, said):
    system[kind] = (16, 16)
    with pytest.raises(ServerError, match=said):
        limits.raise_limits()
