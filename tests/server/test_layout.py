"""What lies in the home is its owner's alone, and is there the next time."""

import stat

import pytest

from alignflow.data.errors import UserError
from alignflow.data.host import this_host
from alignflow.data.sharing import Sharing
from alignflow.server.layout import Home
from alignflow.server.settings import ServerSettings


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_directories_and_files_are_private_even_where_they_were_not(store):
    home = Home(store.root)
    home.logs.mkdir(parents=True, mode=0o755)
    home.make()
    home.remember(ServerSettings())
    home.login()
    assert {mode(path) for path in (home.root, home.prefect, home.logs, home.processes)} == {0o700}
    home.login_file.chmod(0o644)
    home.login()
    assert mode(home.login_file) == mode(home.settings_file) == 0o600


def test_the_login_is_random_and_made_once(home, tmp_path):
    other = Home(tmp_path / "other")
    other.make()
    assert home.login() == home.login() != other.login()
    user, _, password = home.login().partition(":")
    assert user == "alignflow" and len(password) >= 24 and home.login_file.read_text().strip() == home.login()


def test_settings_come_back(home):
    assert home.settings() == ServerSettings()
    settings = ServerSettings(
        port=4300, database="postgresql+asyncpg://me:s3cret@localhost/runs", allowed_hosts=("a", "b")
    )
    home.remember(settings)
    assert home.settings() == settings
    assert [path.name for path in home.root.iterdir() if path.is_file()] == ["server.json"], "no temporary file is left"


def test_settings_that_cannot_be_read_are_told_with_their_file(home):
    home.settings_file.write_text('{"port": "many"}')
    with pytest.raises(UserError, match="cannot read the remembered settings") as raised:
        home.settings()
    assert str(home.settings_file) in str(raised.value)


def test_hosts_that_share_a_store_have_no_sqlite_file_in_common(store):
    home = Home(store.root)
    assert home.prefect.name == "home"
    store.share(Sharing())
    assert home.prefect.name == f"home-{this_host().file_name}" and home.login_file == store.root / "prefect" / "login"
