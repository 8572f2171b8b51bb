"""A version stands for its source: a change of code that could change results cannot go unseen."""

from alignflow.tasks import versions
from alignflow.tasks.fingerprint import closure, fingerprint, source_digest


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


def test_update_keeps_a_problem_until_someone_answers_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "LOCK", tmp_path / "lock.json")
    assert versions.update() == []
    monkeypatch.setattr(versions, "fingerprint", lambda table, name: "other" if name == "dpo" else fingerprint(table, name))
    assert len(versions.update()) == 1, "an update alone does not make a change good"
    assert versions.update("methods.dpo", "renamed a local variable") == []
    assert versions.recorded()["methods.dpo"]["neutral"] == ["renamed a local variable"]


def test_a_fingerprint_is_blind_to_docstrings_and_comments(tmp_path, monkeypatch):
    from alignflow.tasks import fingerprint as module

    digests = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\n# why\nx  =  1\n', "x = 2\n"):
        (tmp_path / "alignflow").mkdir(exist_ok=True)
        (tmp_path / "alignflow" / "thing.py").write_text(text)
        monkeypatch.setattr(module, "ROOT", tmp_path)
        module._tree.cache_clear()
        source_digest.cache_clear()
        digests.append(source_digest("alignflow.thing"))
    module._tree.cache_clear()
    source_digest.cache_clear()
    assert digests[0] == digests[1] != digests[2]


def test_a_part_with_a_version_of_its_own_is_not_inside_another():
    members = closure("alignflow.models.trainers.align", frozenset({"alignflow.models.losses.dpo"}))
    assert "alignflow.models.losses.base" in members and "alignflow.models.losses.dpo" not in members
    assert "alignflow.data.rendering" in members
