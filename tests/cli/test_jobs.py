"""What data each job reads, and which job some data is for."""

import pytest

from alignflow.cli.jobs import JOBS, Source, best_use, job_for, picked_task, shared_out
from alignflow.data.errors import UserError

PAIRS = Source("pairs", ("preferences", "demonstrations", "prompts"))
LABELLED = Source("labelled", ("unpaired", "demonstrations", "prompts"))
CHATS = Source("chats", ("demonstrations", "prompts"))
PROMPTS = Source("prompts", ("prompts",))
SCORED = Source("scored", ("rankings", "completions"))
SEVERAL = Source("several", ("completions", "prompts"))
COMPARED = Source("compared", ("rankings", "preferences", "prompts"))
HUB = Source("owner/set")


def read(task, *sources):
    return {kind: [source.path for source in given] for kind, given in shared_out(task, sources).items()}


@pytest.mark.parametrize(
    ("kinds", "use"),
    [
        (["preferences", "demonstrations"], "preferences"),
        (["unpaired", "preferences"], "unpaired"),
        (["preferences", "completions", "rankings"], "rankings"),
        (["prompts", "texts"], "prompts"),
    ],
)
def test_the_best_use_of_rows_is_the_one_that_says_most(kinds, use):
    assert best_use(kinds, "file") == use


@pytest.mark.parametrize(("kinds", "said"), [(["texts"], "plain text"), ([], "no row of this source can be used")])
def test_rows_that_are_of_no_use_are_refused(kinds, said):
    with pytest.raises(UserError, match=said):
        best_use(kinds, "file")


def test_a_source_goes_to_the_table_that_the_job_reads():
    assert read("sft", PAIRS, CHATS) == {"demonstrations": ["pairs", "chats"]}
    assert read("dpo", PAIRS, CHATS, PROMPTS) == {
        "preferences": ["pairs"],
        "demonstrations": ["chats"],
        "prompts": ["prompts"],
    }
    assert read("dpo", COMPARED) == {"preferences": ["compared"]}
    assert read("rlaif", PAIRS, CHATS) == {"prompts": ["pairs"], "demonstrations": ["chats"]}
    assert read("ppo", LABELLED) == {"prompts": ["labelled"]}


def test_answers_of_pairs_are_not_taken_for_demonstrations_beside_them():
    assert read("dpo", PAIRS, LABELLED) == {"preferences": ["pairs"]}


def test_a_job_that_learns_from_one_kind_leaves_the_others_out():
    assert read("kto", PAIRS, LABELLED) == {"unpaired": ["labelled"]}
    assert read("reward", SCORED, PAIRS, COMPARED) == {"preferences": ["pairs", "compared"]}


def test_answers_that_are_given_are_labelled_and_prompts_beside_them_are_left_out():
    """Nothing is sampled where answers are given, so nobody would answer the prompts."""
    assert read("rlaif", PROMPTS, SEVERAL) == {"completions": ["several"]}
    assert read("rlaif", CHATS, SEVERAL) == {"demonstrations": ["chats"], "completions": ["several"]}


def test_a_hub_id_is_what_the_job_needs_most():
    assert {task: next(iter(read(task, HUB))) for task in JOBS} == {task: job.main[0] for task, job in JOBS.items()}


def test_scored_answers_that_make_no_pairs_are_for_a_reward_model():
    assert picked_task([COMPARED])[0] == "dpo" and picked_task([SCORED])[0] == "reward"


def test_an_unknown_task_is_told_the_nearest_one():
    with pytest.raises(UserError, match="did you mean 'reward'"):
        job_for("rewrd")
