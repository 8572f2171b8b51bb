"""`from alignflow.models.losses import NAME`: every loss of the catalogue, and what a loss of one's own needs."""

import importlib

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
    assert getattr(losses, name) is function and callable(function) and name in losses.__all__


def test_names_are_sorted_and_there():
    assert sorted(losses.__all__) == losses.__all__ and all(hasattr(losses, name) for name in losses.__all__)
