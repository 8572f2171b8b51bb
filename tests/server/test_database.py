"""The database that a server is to use is tried before it starts."""

import pytest

from alignflow.data.errors import UserError
from alignflow.server.database import check_database
from alignflow.server.settings import ServerSettings


def test_sqlite_needs_no_check():
    check_database(ServerSettings())


def test_one_that_does_not_answer_is_refused_without_its_password():
    settings = ServerSettings(database="postgresql://ada:geheim123@127.0.0.1:1/runs")
    with pytest.raises(UserError, match="the database cannot be used") as raised:
        check_database(settings)
    assert "geheim123" not in str(raised.value) and "127.0.0.1" in str(raised.value)
