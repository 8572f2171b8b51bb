"""One process alone: nothing is sent, and every answer is its own. Two are tested under torchrun, in tests/system."""

import pytest
import torch

from alignflow.data.run import Runtime
from alignflow.models.engines import group


@pytest.fixture(params=[False, True], ids=["no group", "a group of one"])
def alone(request):
    if request.param:  # and stay in it: DeepSpeed remembers a group for the life of its process
        group.join(Runtime())


def test_one_process_is_the_first_of_one(alone):
    assert (group.rank(), group.size(), group.is_main()) == (0, 1, True)
    assert group.share([1, 2, 3]) == [1, 2, 3]
    group.barrier()


def test_sums_and_gathers_of_one_are_what_was_given(alone):
    values = {"a": 1.5, "b": -2.0}
    assert group.sum_all(values) == values and group.sum_all(values) is not values
    tensor = torch.arange(4)
    total = group.sum_tensor(tensor)
    assert torch.equal(total, tensor) and total.data_ptr() != tensor.data_ptr()
    assert group.gather({"x": [1, None]}) == [{"x": [1, None]}]
    assert group.anywhere(True) and not group.anywhere(False)


def test_joining_twice_is_joining_once_and_opens_no_port(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("MASTER_PORT", "1")  # nobody may listen there
    group.join(Runtime())
    group.join(Runtime())
    assert group.size() == 1
