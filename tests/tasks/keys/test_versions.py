"""A version stands for its source: a change of code that could change results cannot go unseen."""

from alignflow.data.shared_parts import PARTS
from alignflow.tasks.keys import versions
from alignflow.tasks.keys.fingerprint import Parts
from alignflow.tasks.keys.reach import Code


def test_the_lock_file_agrees_with_the_source():
    left = versions.problems(versions.recorded(), versions.current())
    assert not left, "\n".join(left)


def test_a_changed_source_under_the_same_version_is_a_problem():
    now = versions.current()
    changed = {**now, "methods.dpo": {**now["methods.dpo"], "fingerprint": "other"}}
    assert versions.problems(now, changed) == [
        "methods.dpo: its source changed: raise its version in the catalogue, or declare it neutral (--neutral methods.dpo REASON)"
    ]


def test_a_raised_version_must_be_recorded():
    now = versions.current()
    raised = {**now, "methods.dpo": {"version": "2", "fingerprint": "other"}}
    assert "version 1 -> 2 is not recorded" in versions.problems(now, raised)[0]


def test_what_a_part_reaches_must_be_recorded():
    now = versions.current()
    more = {**now, "methods.dpo": {**now["methods.dpo"], "reaches": ["parts.common"]}}
    assert versions.problems(more, now) == [
        "methods.dpo: the parts that it reaches are not recorded (run with --update)"
    ]


def test_update_keeps_a_problem_until_someone_answers_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "LOCK", tmp_path / "lock.json")
    now = versions.current()
    monkeypatch.setattr(versions, "current", lambda: now)
    assert versions.update() == []
    now["methods.dpo"] = {**now["methods.dpo"], "fingerprint": "other", "reaches": ["parts.common"]}
    assert len(versions.update()) == 1, "an update alone does not make a change good"
    assert versions.recorded()["methods.dpo"]["reaches"] == ["parts.common"], (
        "keys must not go by what was reached before"
    )
    assert versions.update("methods.dpo", "renamed a local variable") == []
    assert versions.recorded()["methods.dpo"]["neutral"] == ["renamed a local variable"]


def test_every_shared_part_has_code_that_some_stage_reaches():
    parts = Parts()
    assert [part for part in parts.names if not parts.members(part)] == []


def test_every_member_of_a_shared_part_exists():
    code = Code()
    for name, shared in PARTS.items():
        for member in shared.members:
            module, _, symbol = member.partition(":")
            assert code.module(module) is not None, f"parts.{name}: {member}"
            assert not symbol or symbol in code.module(module).symbols, f"parts.{name}: {member}"


def test_a_definition_that_runs_has_a_part_with_a_version():
    parts = Parts()
    behind = set().union(*(parts.members(part) for part in parts.names))
    assert {str(node) for node in parts.reached - behind} == set()


def test_a_stage_reaches_the_parts_that_do_its_work():
    parts = Parts()
    assert "stages.sample" in parts.reaches("stages.evaluate"), "it samples"
    assert {"parts.training", "parts.forward", "parts.rendering"} <= set(parts.reaches("stages.sft"))
    assert not any("engines." in other for stage in ("sft", "reward") for other in parts.reaches(f"stages.{stage}")), (
        "the runtime names one"
    )
    drawing = {str(node) for node in parts.members("generators.transformers")}
    assert {"alignflow.models.generation.drawing:draw", "alignflow.models.generation.kv_cache:make_cache"} <= drawing
