"""The log of a stage is heard line by line while it is written, wherever its file goes."""

import time

from alignflow.tasks.launch import tail
from alignflow.tasks.launch.tail import Tail, Tails


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


def test_all_files_that_appear_are_heard_with_their_lines_and_earlier_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "POLL_S", 0.02)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "log.txt").write_text("an earlier run\n")
    lines = []
    followed = Tails(tmp_path, "*/log.txt", lambda path, line: lines.append((path.parent.name, line)))
    for name in ("0-a", "1-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.txt").write_text(f"hello from {name}\n")
    assert sorted(heard_until(lines, 2)) == [("0-a", "hello from 0-a"), ("1-b", "hello from 1-b")]
    (tmp_path / "2-c").mkdir()
    (tmp_path / "2-c" / "log.txt").write_text("last words")
    followed.close()
    assert lines[2:] == [("2-c", "last words")]


def test_a_folder_that_never_comes_is_silence(tmp_path):
    lines = []
    Tails(tmp_path / "nothing", "*/log.txt", lambda *line: lines.append(line)).close()
    assert lines == []
