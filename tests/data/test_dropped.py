"""What is said of dropped rows, and when there are too many of them."""

from collections import Counter

import pytest

from alignflow.data.configs.inputs import PrepareConfig
from alignflow.data.dropped import Parsed, kept_line, say_dropped
from alignflow.data.errors import DataError
from alignflow.data.parsing import Kept


class Run:
    def __init__(self):
        self.warned = []

    def warn(self, text):
        self.warned.append(text)


def kept(rows, **dropped):
    return Kept(rows=[{}] * rows, dropped=Counter(dropped), examples={"empty": "a.jsonl: row 3: prompt: "})


def said(parsed, cleaned, limit=0.5):
    run = Run()
    say_dropped("prompts", cleaned, Parsed.of(parsed), PrepareConfig(max_dropped_fraction=limit), run)
    return run.warned


def test_the_line_counts_all_reasons_the_commonest_first():
    assert kept_line("prompts", 20, {"a": 2, "b": 18, "c": 0}) == "prompts: kept 20 of 40: 18 b, 2 a"
    assert kept_line("prompts", 3, {}) == "prompts: kept 3 of 3"


def test_a_loss_above_a_tenth_is_warned_of_with_an_example_and_a_small_one_is_not(capsys):
    (warning,) = said(kept(80, empty=20), kept(80, empty=20))
    assert "20 empty" in warning and "row 3" in warning
    assert said(kept(95, empty=5), kept(95, empty=5)) == [] and "kept 95 of 100" in capsys.readouterr().out


def test_rows_that_the_recipe_leaves_out_and_equal_rows_are_no_loss():
    assert said(kept(10, over_max_rows=90), kept(10, over_max_rows=90)) == []
    assert said(kept(100), kept(40, duplicate=60)) == []


def test_above_the_limit_and_of_nothing_left_it_is_an_error():
    with pytest.raises(DataError, match="too many rows are dropped, 60%"):
        said(kept(40, empty=60), kept(40, empty=60))
    with pytest.raises(DataError, match="no prompts are left"):
        said(kept(0, empty=4), kept(0, empty=4), limit=1.0)
