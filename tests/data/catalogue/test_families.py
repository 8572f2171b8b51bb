"""Families of methods: what feeds them."""

import pytest

from alignflow.data.catalogue import FAMILIES, METHODS
from alignflow.data.records import SCHEMAS


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_fed_by_tables_that_exist_each_once(name):
    kinds = [feed.kind for feed in FAMILIES[name].feeds]
    assert set(kinds) <= {*SCHEMAS, "win_rates"}  # a table of labels alone, in the form of preferences
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_reads_each_kind_can_be_called_and_is_found_by_it(name):
    for feed in FAMILIES[name].feeds:
        assert FAMILIES[name].feed(feed.kind) is feed and callable(feed.resolve())


def test_every_method_is_of_a_family_and_every_family_has_one():
    assert {method.family for method in METHODS.values()} == set(FAMILIES)
