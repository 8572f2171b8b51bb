"""`alignflow methods` lists what a recipe may name, and shows options, defaults and the formula of one."""

import pytest
from typer.testing import CliRunner

from alignflow.cli.app import app
from alignflow.data import catalogue


def shown(*arguments):
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "320"})
    assert done.exit_code == 0, done.output
    return done.output


def test_methods_are_listed_with_family_columns_reference_and_paper():
    lines = {line.split("│")[1].strip(): line for line in shown("methods").splitlines() if line.count("│") > 5}
    assert set(lines) == set(catalogue.METHODS)
    assert all(text in lines["simpo"] for text in ("pairs", "prompt, chosen, rejected", "none", "2405.14734"))
    assert all(text in lines["ppo"] for text in ("online", "frozen model", "1707.06347"))
    assert all(text in lines["gkd"] for text in ("demonstrations", "messages", "teacher", "2306.13649"))


@pytest.mark.parametrize("name", catalogue.METHODS)
def test_a_method_shows_its_formula_and_every_option_with_its_default(name):
    text, row = " ".join(shown("methods", name).split()), catalogue.METHODS[name]
    assert row.formula and row.formula in text and row.paper in text
    for field in row.options.model_fields:
        assert field in text


def test_a_teacher_is_no_reference():
    text = " ".join(shown("methods", "gkd").split())
    assert "columns messages; a frozen teacher; arXiv 2306.13649" in text and "fed by data.demonstrations" in text


def test_a_method_shows_what_can_feed_it():
    text = " ".join(shown("methods", "kto").split())
    assert "fed by data.unpaired (formats messages, sharegpt, alpaca, trl; or the label stage)" in text
    assert "or the label stage): each pair becomes two rows" in text
    assert "(formats comparison, trl, oasst; or the label stage)" in " ".join(shown("methods", "list_mle").split())
    assert "label stage" not in shown("methods", "gkd")


def test_a_method_whose_loss_has_the_nll_says_which_option_weighs_it():
    assert "options.cpo_alpha" in " ".join(shown("methods", "cpo").split()) and "sft_coefficient" in shown(
        "methods", "cpo"
    )
    assert "sft_coefficient" not in shown("methods", "dpo")
    assert "arXiv" not in shown("methods", "cdpo")


def test_a_loss_of_ones_own_is_shown_with_its_options_and_docstring(tmp_path, monkeypatch):
    text = "from alignflow.models.losses import StageConfig, method\nraise SystemExit('it ran')\n"
    options = "class O(StageConfig):\n    strength: float = 0.25\n"
    loss = "@method(family='unpaired', options=O, needs_reference=False)\ndef mine(batch, options):\n    'Says what it is.'\n"
    (tmp_path / "mine.py").write_text(text + options + loss)
    monkeypatch.chdir(tmp_path)
    found = " ".join(shown("methods", "mine.py:mine").split())
    assert "mine.py:mine" in found and "Says what it is." in found and "no reference model" in found
    assert "family unpaired; columns prompt, completion, label" in found and "strength" in found and "0.25" in found
