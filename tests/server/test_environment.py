"""The environments: nothing phones home, everything asks for the login, nothing of another server leaks in."""

import pytest

from alignflow.server.environment import MARK, client_environment, server_environment, worker_environment
from alignflow.server.settings import ServerSettings


def test_the_server_is_closed_quiet_and_keeps_its_leases(home):
    found = server_environment(home, ServerSettings(port=4300))
    assert (
        found.items()
        >= {
            "PREFECT_HOME": str(home.prefect),
            "PREFECT_SERVER_API_PORT": "4300",
            "PREFECT_SERVER_API_AUTH_STRING": home.login(),
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "DO_NOT_TRACK": "1",
        }.items()
    )
    origins = found["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"].split(",")
    assert "http://127.0.0.1:4300" in origins and "*" not in origins
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in found


@pytest.mark.parametrize("url", ["postgresql://me:s@localhost/runs", "postgresql+asyncpg://me:s@localhost/runs"])
def test_a_database_gets_the_driver_that_prefect_needs(home, url):
    found = server_environment(home, ServerSettings(database=url))
    assert found["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://me:s@localhost/runs"


def test_clients_find_the_server_and_show_the_login(home):
    found = client_environment(home, ServerSettings(port=4300))
    assert found["PREFECT_API_URL"] == "http://127.0.0.1:4300/api" and found["PREFECT_API_AUTH_STRING"] == home.login()
    assert found["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30" and found["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"
    assert "PREFECT_API_SSL_CERT_FILE" not in found


def test_clients_trust_a_certificate_that_signed_itself(home, tls):
    found = client_environment(home, ServerSettings(tls_certificate=tls[0], tls_key=tls[1]))
    assert found["PREFECT_API_URL"].startswith("https://") and found["PREFECT_API_SSL_CERT_FILE"] == str(tls[0])


def test_flow_runs_use_the_store_and_can_be_found(home):
    found = worker_environment(home, ServerSettings())
    assert found["ALIGNFLOW_HOME"] == str(home.store) and found[MARK] == str(home.root)


def test_what_was_set_for_another_server_stays_out(home, monkeypatch):
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_PROFILE"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("MINE", "kept")
    for found in (server_environment(home, ServerSettings()), worker_environment(home, ServerSettings())):
        assert "elsewhere" not in found.values() and found["MINE"] == "kept"


@pytest.mark.parametrize(
    "name", ["ALIGNFLOW_DATABASE", "PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_PASSWORD"]
)
def test_a_databases_password_reaches_no_worker_and_no_run(home, monkeypatch, name):
    monkeypatch.setenv(name, "postgresql://me:s3cret@localhost/runs")
    given = ServerSettings(database="postgresql://me:s3cret@localhost/runs")
    assert "s3cret" not in str(worker_environment(home, given))
    assert "ALIGNFLOW_DATABASE" not in server_environment(home, given)
