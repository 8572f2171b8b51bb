"""Whether runs go to a server, and what Prefect is told before it is imported."""

import os

import pytest

from alignflow.cli import settings
from alignflow.cli.settings import LOGIN, become_client, names_a_server, on_a_server


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", dict(os.environ, PREFECT_HOME=str(tmp_path)))
    os.environ.pop("PREFECT_API_URL", None)


def test_a_server_is_named_by_the_environment_or_a_profile(tmp_path):
    assert not names_a_server()
    (tmp_path / "profiles.toml").write_text('[profiles.mine]\nPREFECT_API_URL = "http://there/api"\n')
    assert names_a_server() and not on_a_server()
    os.environ["PREFECT_API_URL"] = "http://here/api"
    assert on_a_server()


def test_a_login_is_in_no_environment_that_a_child_inherits():
    with pytest.raises(KeyError), become_client({LOGIN: "ada:pass", "PREFECT_API_URL": "http://here/api"}):
        assert os.environ[LOGIN] == "ada:pass"
        raise KeyError
    assert LOGIN not in os.environ and os.environ["PREFECT_API_URL"] == "http://here/api"


def test_a_server_that_does_not_answer_is_an_error():
    with pytest.raises(settings.StageError, match="no Prefect server answers"):
        settings._check_server("http://127.0.0.1:1/api")
