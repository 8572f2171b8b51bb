"""What tests of the store share."""

import pytest
from stored_chain import publish


@pytest.fixture
def chain(store, call_of):
    """Three artifacts, each made from the one before, and one that stands alone."""
    first = publish(store, call_of(text="a"))
    second = publish(store, call_of(text="b", source=first))
    third = publish(store, call_of(text="c", source=second))
    return first, second, third, publish(store, call_of(text="d"))
