"""A home in the test's store, and a certificate that signed itself."""

import pytest
from tls_support import make_certificate

from alignflow.server.layout import Home


@pytest.fixture
def home(store):
    found = Home(store.root)
    found.make()
    return found


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))
