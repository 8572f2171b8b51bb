"""Parameters of which each process holds a part."""

from types import SimpleNamespace

import pytest
import torch

from alignflow.models.engines import group, partitioned
from alignflow.models.engines.partitioned import (
    PINNED,
    exchanged,
    fill,
    gathered,
    head_parameters,
    is_partitioned,
    own_part,
    own_range,
    shape_of,
)


class Partitioned:
    """A parameter as DeepSpeed's ZeRO 3 leaves it: its own part alone, padded to the size of every process's."""

    def __init__(self, shape, part):
        self.ds_shape, self.ds_numel, self.shape = shape, torch.Size(shape).numel(), torch.Size([0])
        self.ds_tensor, self.ds_status = torch.full((part,), 9.0), SimpleNamespace(name="NOT_AVAILABLE")
        self.ds_active_sub_modules = set()
        self.asked = []

    def partition_numel(self):
        return len(self.ds_tensor)

    def all_gather(self, param_list):
        self.asked.append(("gather", len(param_list)))

    def partition(self, param_list, has_been_updated):
        assert not self.ds_active_sub_modules, "DeepSpeed lets go of nothing that is in use"
        self.asked.append(("part", has_been_updated))


def test_the_shape_is_the_parameters_own_wherever_its_values_are():
    assert shape_of(Partitioned((2, 5), 4)) == (2, 5) and shape_of(torch.zeros(3, 2)) == (3, 2)
    assert is_partitioned(Partitioned((2, 5), 4)) and not is_partitioned(torch.zeros(1))


@pytest.mark.parametrize(("rank", "held"), [(0, (0, 4)), (1, (4, 8)), (2, (8, 10)), (3, (10, 10))])
def test_the_last_processes_may_hold_fewer_elements_or_none(monkeypatch, rank, held):
    monkeypatch.setattr(group, "rank", lambda: rank)
    parameter = Partitioned((2, 5), 4)
    assert own_range(parameter) == held
    fill(parameter, torch.arange(10.0).view(2, 5))
    own = list(range(*held))
    assert parameter.ds_tensor.tolist() == [*map(float, own), *[0.0] * (4 - len(own))], "the padding is 0"


def test_a_whole_parameter_is_filled_in_place():
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    fill(parameter, torch.ones(2, 2))
    assert parameter.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_absent_parameters_are_gathered_and_given_back_also_after_an_error():
    absent, here = Partitioned((2,), 1), torch.zeros(1)
    with pytest.raises(KeyError), gathered([here, absent]):
        assert absent.asked == [("gather", 1)]
        raise KeyError
    assert absent.asked == [("gather", 1), ("part", False)]
    with gathered([here]):
        pass


def test_inside_each_parameter_holds_the_other_values_and_afterwards_its_own_also_after_an_error(monkeypatch):
    monkeypatch.setattr(group, "rank", lambda: 2)
    here, part = torch.nn.Parameter(torch.zeros(2, 2)), Partitioned((2, 5), 4)
    values = [torch.arange(4.0), torch.tensor([7.0, 8.0])]
    with pytest.raises(KeyError), exchanged([here, part], values):
        assert here.tolist() == [[0, 1], [2, 3]] and own_part(part).tolist() == [7, 8]
        assert part.ds_tensor.tolist() == [7, 8, 9, 9], "the padding stays"
        assert values[0].tolist() == [0, 0, 0, 0] and values[1].tolist() == [9, 9]
        raise KeyError
    assert here.tolist() == [[0, 0], [0, 0]] and part.ds_tensor.tolist() == [9, 9, 9, 9]
    assert values[0].tolist() == [0, 1, 2, 3] and values[1].tolist() == [7, 8]
    assert part.asked == [], "what no process has whole is gathered when it is used"


def test_one_that_every_process_has_whole_is_gathered_anew_and_stays_in_use():
    pinned = Partitioned((4,), 4)
    pinned.ds_status.name = "AVAILABLE"
    pinned.ds_active_sub_modules.add(PINNED)
    with exchanged([pinned], [torch.zeros(4)]):
        assert pinned.asked == [("part", False), ("gather", 1)] and pinned.ds_active_sub_modules == {PINNED}
    assert len(pinned.asked) == 4


def test_parameters_outside_of_the_backbone_are_those_of_the_head_and_of_a_tied_embedding():
    model = torch.nn.Module()
    model.base_model = torch.nn.Linear(2, 2, bias=False)
    model.head = torch.nn.Linear(2, 1, bias=False)
    assert [id(found) for found in head_parameters(model)] == [id(model.head.weight)]
    model.get_output_embeddings = lambda: model.base_model
    assert {id(found) for found in head_parameters(model)} == {id(model.head.weight), id(model.base_model.weight)}
    assert partitioned.PINNED < 0
