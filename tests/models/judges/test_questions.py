"""Questions: built-in and own files, fences around what nobody vouches for, seeds by content."""

import pytest
from judge_support import enclosed, shown

from alignflow.data.errors import RecipeError
from alignflow.data.records import user
from alignflow.models.judges.judge_model import Question
from alignflow.models.judges.questions import QuestionTemplate, names_of, question_seed, read_question

BUILT_IN = ["pairwise", "rationale", "constitutional", "rating", "additive", "checklist", "point", "critique"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_question_about_texts_has_a_fence(name):
    assert "fence" in names_of(read_question(name))


def test_what_is_enclosed_stands_between_fences_and_is_not_rendered():
    template = QuestionTemplate("rating", ("fence",))
    question = template.fenced(
        "key", user("{{ 7 * 7 }}"), {"answer": "{{ fence }}", "reference": ""}, aspect="x", lowest=1, highest=5
    )
    assert enclosed(shown(question), "Answer") == "{{ fence }}" and "{{ 7 * 7 }}" in shown(question)


def test_a_file_without_a_fence_is_warned_about(tmp_path, new_run):
    (tmp_path / "own.j2").write_text("{{ answer }}")
    run = new_run()
    QuestionTemplate(str(tmp_path / "own.j2"), ("answer", "fence"), run)
    assert "fence" in run.warnings[0]


def test_a_missing_file_lists_the_built_in_ones():
    with pytest.raises(RecipeError, match="constitutional"):
        QuestionTemplate("nowhere", ())


def test_a_seed_depends_on_seed_question_and_number_alone():
    one, other = Question(tuple(user("a"))), Question(tuple(user("b")))
    seeds = {question_seed(0, one), question_seed(1, one), question_seed(0, one, 1), question_seed(0, other)}
    assert len(seeds) == 4 and question_seed(0, Question(tuple(user("a")))) == question_seed(0, one)
