"""`from alignflow.models.losses import NAME`: every loss of the catalogue, and what a loss of one's own needs."""

import importlib
import subprocess
import sys

import pytest

from alignflow.data import catalogue
from alignflow.models import losses

PACKAGE = "alignflow.models.losses."
OFFLINE = [
    row.address for row in catalogue.METHODS.values() if row.learns_from().feeds and row.address.startswith(PACKAGE)
]


@pytest.mark.parametrize("address", sorted(set(OFFLINE)))
def test_every_loss_of_the_catalogue_is_there_by_its_name(address):
    module, _, name = address.partition(":")
    function = getattr(importlib.import_module(module), name)
    assert getattr(losses, name) is function and callable(function)


def test_names_are_sorted_and_there():
    assert sorted(losses.__all__) == losses.__all__ and all(hasattr(losses, name) for name in losses.__all__)


def test_the_name_of_a_method_is_its_function_whatever_was_imported_before():
    """`dpo` is a module of the package, too."""
    code = "import alignflow.models.losses.dpo; from alignflow.models.losses import dpo; assert dpo.__name__ == 'dpo' and callable(dpo)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
