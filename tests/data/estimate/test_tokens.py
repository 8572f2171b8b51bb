"""Tokens that a recipe implies: by hand."""

from alignflow.data.configs.generation import EvaluateConfig, SampleConfig
from alignflow.data.configs.training import AlignConfig, RewardConfig, SFTConfig
from alignflow.data.estimate.tokens import Tokens, implied_tokens

STATISTICS = {
    "tables": {
        "demonstrations": {"kept": 100, "sides": {"train": 90, "heldout": 10}, "lengths": {"total": {"mean": 40.0}}},
        "preferences": {"kept": 50, "sides": {"train": 45, "heldout": 5}, "lengths": {"total": {"mean": 30.0}}},
        "prompts": {"kept": 20, "sides": {"train": 20}},
        "evaluation": {"kept": 7},
    }
}


def test_epochs_of_known_rows():
    assert implied_tokens("sft", SFTConfig(num_train_epochs=2), STATISTICS, None) == Tokens(90 * 2 * 40, False)
    assert implied_tokens("align", AlignConfig(num_train_epochs=1), STATISTICS, None) == Tokens(45 * 2 * 30, False)


def test_steps_need_no_rows_but_bound_their_length():
    assert implied_tokens("sft", SFTConfig(max_steps=5, batch_size=8, max_length=100), {}, None) == Tokens(
        5 * 8 * 100, True
    )


def test_labelled_pairs_are_counted_and_their_length_bounded():
    assert implied_tokens("reward", RewardConfig(max_length=100), {}, 12) == Tokens(12 * 2 * 100, True)
    assert implied_tokens(
        "reward", RewardConfig(loss="pointwise", max_steps=2, batch_size=3, max_length=100), {}, 12
    ) == Tokens(2 * 3 * 100, True)
    assert implied_tokens("reward", RewardConfig(loss="pointwise"), {}, 12) is None, (
        "nothing has counted the answers of rankings"
    )


def test_answers_are_bounded_by_their_longest():
    assert implied_tokens("sample", SampleConfig(n=3, max_new_tokens=10), STATISTICS, None) == Tokens(20 * 3 * 10, True)
    assert implied_tokens("sample", SampleConfig(n=3, max_new_tokens=10, max_prompts=4), {}, None) == Tokens(
        4 * 3 * 10, True
    )
    assert implied_tokens("evaluate", EvaluateConfig(max_new_tokens=10), STATISTICS, None) == Tokens(2 * 7 * 10, True)


def test_what_is_not_known_is_none():
    assert (
        implied_tokens("sft", SFTConfig(), {}, None) is None
        and implied_tokens("sample", SampleConfig(), {}, None) is None
    )
    assert implied_tokens("align", AlignConfig(method="ppo", max_steps=3), {}, 12) is None, (
        "pairs say nothing of what is sampled"
    )
    assert implied_tokens("label", None, STATISTICS, None) is None
