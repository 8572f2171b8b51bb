"""What `chat` and `export` pin while they use a model; commands of a chat, and text that grows."""

import pytest
from tests_support import as_artifact

from alignflow.cli.chat import Commands, Shown, _message, find_model
from alignflow.cli.conversation import Conversation
from alignflow.data.errors import UserError
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


class Parrot:
    """A model that is not loaded."""

    def __init__(self, name="parrot"):
        self.name, self.conversation = name, Conversation()


@pytest.fixture
def commands():
    return Commands([Parrot(), Parrot()], "be kind")


def test_a_message_is_no_command_and_two_slashes_are_one(commands):
    assert commands.do("hello") == "" and commands.do("//tmp is full") == ""
    assert _message("//tmp is full") == "/tmp is full" and _message("hello") == "hello"


def test_reset_forgets_what_was_said_and_keeps_what_stands_before_it(commands):
    for speaker in commands._speakers:
        speaker.conversation.ask("hello")
    assert "new conversation" in commands.do("/reset")
    assert [speaker.conversation.messages for speaker in commands._speakers] == [
        [{"role": "system", "content": "be kind"}]
    ] * 2


def test_system_begins_a_new_conversation_for_every_model(commands):
    commands.do("/system be short")
    assert {speaker.conversation.system for speaker in commands._speakers} == {"be short"}
    assert "without a system message" in commands.do("/system")


def test_save_writes_a_line_for_each_model_and_may_write_its_file_again(commands, tmp_path):
    assert str(tmp_path / "talk") in commands.do(f"/save {tmp_path / 'talk'}")
    commands.do(f"/save {tmp_path / 'talk'}")
    assert len((tmp_path / "talk").read_text().splitlines()) == 2


@pytest.mark.parametrize("text", ["/rest", "/save", "/SAVE a"])
def test_a_command_that_is_not_known_is_told_with_those_that_are(commands, text):
    with pytest.raises(UserError, match="/save"):
        commands.do(text)


def printed(steps, end):
    pieces = []
    shown = Shown(pieces.append)
    for step in steps:
        shown.grow(step)
    shown.end(end)
    return pieces


def test_a_stream_prints_each_piece_once_and_waits_for_whole_characters():
    assert printed(["a", "a b", "a b\N{REPLACEMENT CHARACTER}", "a bé"], "a bé!") == ["a", " b", "é", "!"]


def test_an_answer_that_turns_out_otherwise_is_printed_whole():
    assert printed(["<think>", "<think> x"], "yes") == ["<think>", " x", "\nyes"]
    assert "".join(printed(["yes  "], "yes")) == "yes  ", (
        "blanks at the end that the answer does not have are no difference"
    )
