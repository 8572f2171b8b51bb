"""What gc says of what may go and what stays."""

from types import SimpleNamespace

from alignflow.cli.collected import MOST_NAMED, stays_lines, waste_lines
from alignflow.tasks.store.leftovers import AREAS
from alignflow.tasks.store.run_cells import size_text


def entry(root, area, name):
    return SimpleNamespace(area=area, path=root / area / name)


def test_the_largest_of_each_folder_are_named_and_the_others_counted(tmp_path):
    area = next(iter(AREAS))
    waste = [entry(tmp_path, area, f"x{number}") for number in range(MOST_NAMED + 2)]
    sizes = {found.path: (number + 1) * 1_000_000 for number, found in enumerate(waste)}
    first, *named, last = waste_lines(waste, sizes)
    assert f"{area}/: {len(waste)}" in first and size_text(sum(sizes.values())) in first
    assert len(named) == MOST_NAMED and f"x{MOST_NAMED + 1}" in named[0]
    assert "and 2 more" in last and "3.0 MB" in last


def test_what_stays_says_why_and_a_name_cannot_steer_the_terminal(tmp_path):
    plan = SimpleNamespace(in_use=[entry(tmp_path, "work", "a")], recent=[], others=[tmp_path / "b\x1b[31m"])
    lines = list(stays_lines(plan, {}, tmp_path, 14))
    assert "in use: 1 entries" in lines[0] and "work/a" in lines[0]
    assert "left alone: 1" in lines[1] and "\x1b" not in lines[1] and len(lines) == 2
