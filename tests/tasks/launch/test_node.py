"""A further node joins the launches that node 0 is at work on, and no others."""

import json
import os

import pytest

from alignflow.data.errors import UserError
from alignflow.data.run import Runtime
from alignflow.tasks.launch import node
from alignflow.tasks.launch.node import join_stages


@pytest.fixture
def spec(store):
    """Write the spec of a launch into the staging area."""

    def write(name="sft-1", launch="first", **runtime):
        path = store.root / "staging" / name / "spec.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"stage": "sft", "launch": launch, "runtime": Runtime(**runtime).model_dump()}))
        return path

    return write


@pytest.fixture
def joins(monkeypatch):
    """Which specs are joined, without joining them; `each` runs between two looks."""
    found, acts = [], []
    monkeypatch.setattr(node, "_join", lambda path, *_: found.append(path) or 0)

    def sleep(_):
        if not acts:
            raise TimeoutError
        acts.pop(0)()

    monkeypatch.setattr(node.time, "sleep", sleep)
    return found, acts


def touch(path, seconds):
    os.utime(path, (seconds, seconds))


def test_a_launch_that_node_0_touches_is_joined_once(spec, joins, store):
    found, acts = joins
    path = spec(nodes=2, rendezvous="127.0.0.1:1")
    acts += [lambda: touch(path, 1), lambda: touch(path, 2), lambda: touch(path, 3)]
    said = []
    with pytest.raises(TimeoutError):
        join_stages(store, 1, said.append)
    assert found == [path] and said == ["sft: joined as node 1 of 2", "sft: ended"]


def test_what_a_dead_run_left_and_what_has_one_node_is_not_joined(spec, joins, store):
    found, acts = joins
    spec("dead", nodes=2, rendezvous="127.0.0.1:1")
    alone = spec("alone", nodes=1)
    (store.root / "staging" / "half").mkdir()
    (store.root / "staging" / "half" / "spec.json").write_text('{"stage"')
    acts += [lambda: touch(alone, 1), lambda: touch(alone, 2)]
    with pytest.raises(TimeoutError):
        join_stages(store, 1, print)
    assert found == []


def test_a_launch_that_is_no_longer_touched_has_stopped_moving(spec, monkeypatch):
    path, watch = spec(nodes=2), node._Watch()
    assert not watch.moves(path)
    touch(path, 1)
    assert watch.moves(path) and watch.moves(path)
    monkeypatch.setattr(node, "STALE_S", 0.0)
    assert not watch.moves(path)


def test_a_number_that_the_stage_has_no_place_for_is_refused(spec, joins, store):
    path = spec(nodes=2, rendezvous="127.0.0.1:1")
    joins[1].append(lambda: touch(path, 1))
    with pytest.raises(UserError, match="has 2 nodes, but this one is number 2"):
        join_stages(store, 2, print)
    with pytest.raises(UserError, match="node 0 runs the recipe"):
        join_stages(store, 0, print)
