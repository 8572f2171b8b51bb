"""What `chat` and `export` pin while they use a model."""

import pytest
from tests_support import as_artifact

from alignflow.cli.chat import find_model
from alignflow.tasks.store.pins import GATE, live_pins


@pytest.mark.parametrize("by", ["key", "path", "linked_home", "linked_model"])
def test_a_stored_model_is_pinned_however_it_is_named(store, tmp_path, monkeypatch, by):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    as_artifact(tmp_path / "model", store.root, "align-1")
    payload = store.root / "artifacts" / "align-1" / "payload"
    (tmp_path / "link").symlink_to(store.root if by == "linked_home" else payload)
    if by == "linked_home":
        monkeypatch.setenv("ALIGNFLOW_HOME", str(tmp_path / "link"))
    reference = {"key": "align-1", "linked_model": str(tmp_path / "link")}.get(by, str(payload))
    with find_model(reference, "chat", ("checkpoint",)), store.lock(GATE):
        assert live_pins(store) == {"align-1"}


def test_a_model_from_elsewhere_makes_no_store(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("ALIGNFLOW_HOME", str(tmp_path / "none"))
    with find_model(str(tmp_path), "chat", ("checkpoint",)):
        assert not (tmp_path / "none").exists()
