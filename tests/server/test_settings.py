"""What `up` is told: what is kept, what is refused, and with which words."""

import socket
from urllib.parse import unquote

import pytest
import sqlalchemy

from alignflow.data.errors import UserError
from alignflow.server.settings import ServerSettings, changed, check_port, encoded, without_secrets


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_nothing(host):
    assert changed(ServerSettings(), {"host": host}).loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "gpu.example"])
def test_another_address_needs_tls_or_a_word(host, tls):
    with pytest.raises(UserError, match="other machines can reach this address"):
        changed(ServerSettings(), {"host": host})
    assert changed(ServerSettings(), {"host": host, "insecure": True}).scheme == "http"
    certificate, key = tls
    assert changed(ServerSettings(), {"host": host, "tls_certificate": certificate, "tls_key": key}).scheme == "https"


def test_the_word_holds_for_the_address_that_it_was_given_with():
    opened = changed(ServerSettings(), {"host": "192.0.2.7", "insecure": True, "port": 4300})
    assert changed(opened, {"port": 4301}) == opened.model_copy(update={"port": 4301})
    with pytest.raises(UserError, match="other machines can reach"):
        changed(opened, {"host": "192.0.2.8"})
    assert not changed(opened, {"host": "127.0.0.1"}).insecure


def test_what_is_not_given_stays():
    remembered = ServerSettings(port=4300, database="postgresql+asyncpg://me@localhost/runs", gpu_pool=True)
    assert changed(remembered, {"port": None, "host": None, "gpu_pool": None}) == remembered
    assert changed(remembered, {"database": "sqlite"}).database == "sqlite"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 0}, "--port"),
        ({"port": 70000}, "--port"),
        ({"database": "mysql://me@localhost/runs"}, "unknown kind of database"),
        ({"tls_certificate": "/nowhere/c.pem"}, "TLS needs both files"),
        ({"tls_certificate": "/nowhere/c.pem", "tls_key": "/nowhere/k.pem"}, "no such file"),
    ],
)
def test_what_cannot_work_is_refused(given, message):
    with pytest.raises(UserError) as raised:
        changed(ServerSettings(), given)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("database", "seen"),
    [
        ("postgresql+asyncpg://me:s3cret@localhost/runs", "postgresql+asyncpg://***@localhost/runs"),
        ("postgresql://me:s3cret@s3cret@db.example:5433/runs", "postgresql://***@db.example:5433/runs"),
        ("postgresql://me:s3/s3#s3@[::1]:5433/runs", "postgresql://***@[::1]:5433/runs"),
        ("postgresql://me:s3/s3?s3#s3@[::1]:5433/runs", "postgresql://***"),
        ("postgresql://me:a@localhost/runs?password=b@s3cret", "postgresql://***"),
        (
            "postgresql://me:s3cret@localhost/runs?password=s3cret&sslmode=require",
            "postgresql://***@localhost/runs?***",
        ),
        ("postgresql:///runs?password=s3@cret", "postgresql://***"),
        ("postgresql://me:s3cret", "postgresql://***"),
        ("postgresql://localhost/runs", "postgresql://localhost/runs"),
        ("me:s3cret@localhost/runs", "***"),
        ("host=localhost password=s3cret", "***"),
        ("sqlite", "sqlite"),
    ],
)
def test_a_login_is_never_shown(database, seen):
    settings = ServerSettings(database=database)
    assert settings.shown_database == seen and "s3" not in seen
    with pytest.raises(UserError) as raised:
        changed(settings, {"database": database.replace("postgresql", "mysql").replace("sqlite", "other")})
    assert "s3" not in str(raised.value)


@pytest.mark.parametrize("password", ["s3cret", "s3@cret", "s3%40cret", "s3:/?#cret"])
def test_no_error_of_a_driver_shows_a_login(password):
    database = f"postgresql://me:{password}@localhost/runs?password=other5"
    said = f"cannot connect to {encoded(database)} ({database}): {password!r}, {unquote(password)}, other5"
    assert "s3" not in without_secrets(said, database) and "other5" not in without_secrets(said, database)


def test_every_parser_reads_a_password_alike():
    read = sqlalchemy.make_url(encoded("postgresql+asyncpg://me:p@ss/w?r#d@localhost:1/runs"))
    assert (read.username, read.password, read.host, read.port, read.database) == (
        "me",
        "p@ss/w?r#d",
        "localhost",
        1,
        "runs",
    )
    assert encoded("postgresql://me:p%40ss@localhost/runs") == "postgresql://me:p%40ss@localhost/runs", (
        "what is encoded stays"
    )
    assert encoded("postgresql://me:a@localhost/runs?password=b@c") == "postgresql://me:a@localhost/runs?password=b@c"
    assert encoded("sqlite") == "sqlite" and encoded("postgresql:///runs") == "postgresql:///runs"


def test_a_port_that_is_taken_is_refused_and_another_one_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match="another program listens") as raised:
            check_port(ServerSettings(port=port))
    assert "--port" in str(raised.value)
    check_port(ServerSettings(port=port))


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(UserError, match="no such address"):
        check_port(ServerSettings(host="192.0.2.7", port=4299))


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:4200"),
        ({"host": "0.0.0.0", "port": 80}, "http://127.0.0.1:80"),
        ({"host": "::1"}, "http://[::1]:4200"),
        ({"host": "192.0.2.7", "tls_certificate": "c"}, "https://192.0.2.7:4200"),
    ],
)
def test_clients_on_this_machine_find_it(settings, url):
    assert ServerSettings(**settings).url == url
