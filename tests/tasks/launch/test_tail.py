"""The log of a stage is heard line by line while it is written, wherever its file goes."""

import time

from alignflow.tasks.launch import tail
from alignflow.tasks.launch.tail import Tail


def heard_until(lines, count, seconds=10):
    end = time.monotonic() + seconds
    while len(lines) < count and time.monotonic() < end:
        time.sleep(0.01)
    return lines


def test_lines_are_heard_from_a_file_that_appears_moves_and_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "POLL_S", 0.02)
    lines, path = [], tmp_path / "log.txt"
    followed = Tail(path, lines.append)
    with open(path, "w") as file:
        file.write("one\n\ntwo\nhal")
        file.flush()
        assert heard_until(lines, 2) == ["one", "two"]
        path.rename(tmp_path / "moved.txt")
        file.write("f\n")
        file.flush()
        assert heard_until(lines, 3)[-1] == "half"
        path.write_text("a new run\nlast words")
        assert heard_until(lines, 4)[-1] == "a new run"
    followed.close()
    assert lines[-1] == "last words"


def test_a_log_that_never_comes_is_silence(tmp_path):
    lines = []
    Tail(tmp_path / "nothing.txt", lines.append).close()
    assert lines == []


def test_of_a_line_that_was_drawn_over_only_the_last_is_heard(tmp_path):
    (tmp_path / "log.txt").write_text("1%\r50%\r100%\n" + "x" * 5000 + "\n")
    lines = []
    Tail(tmp_path / "log.txt", lines.append).close()
    assert lines == ["100%", "x" * tail.LONGEST_LINE]
