"""Certificates and the names that they are for."""

import pytest

from alignflow.data.errors import UserError
from alignflow.server.settings import ServerSettings, changed


@pytest.mark.parametrize(
    ("host", "taken"), [("runs.example", True), ("Gpu.Example", True), ("a.runs.example", False), ("192.0.2.8", False)]
)
def test_a_certificate_must_name_the_address_that_commands_use(host, taken, tls):
    given = {"host": host, "tls_certificate": tls[0], "tls_key": tls[1]}
    if taken:
        assert changed(ServerSettings(), given).host == host
    else:
        with pytest.raises(UserError, match=f"the certificate is not valid for {host}"):
            changed(ServerSettings(), given)
