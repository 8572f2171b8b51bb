"""A PPO batch worked by hand from log-probabilities to both losses, through the functions that training calls."""

import math
from dataclasses import replace

import pytest
import torch

from alignflow.data.configs.online import PPOOptions
from alignflow.data.configs.policy_gradient import DAPOOptions, GRPOOptions
from alignflow.models.advantages import gae_advantages
from alignflow.models.batching import EncodedRow
from alignflow.models.group_advantages import grpo_advantages
from alignflow.models.losses.ppo import KL_ESTIMATORS, PolicyBatch, clip, clipped_value_loss, token_weights, total_loss
from alignflow.models.rewards.shaping import ScoreScale
from alignflow.models.rollouts import Rollouts
from alignflow.models.sequences import row_numbers
from alignflow.models.trainers.dynamic_sampling import Draws
from alignflow.models.trainers.experience import Scored, as_column, experience_sums, make_experience, score_scale
from alignflow.models.trainers.figures import point, sums_of_all

EOS = 1
OPTIONS = PPOOptions(
    kl_coef=0.2,
    score_clip=1.5,
    missing_eos_penalty=1.0,
    gamma=1.0,
    lam=0.5,
    cliprange=0.2,
    cliprange_value=0.2,
    vf_coef=0.1,
)


def scored(scores=(2.0, 0.7)):
    """Two answers: three tokens that end with EOS, and two that were cut (no EOS)."""
    rollouts = Rollouts(
        torch.tensor([0, 1]),
        [EncodedRow((9, 8), (5, 6, EOS)), EncodedRow((9,), (EOS + 6, EOS + 7))],
        torch.tensor([True, False]),
    )
    return Scored(
        rollouts,
        logps=torch.tensor([-1.0, -1.0, -1.0, -2.0, -1.0]),
        ref_logps=torch.tensor([-1.5, -1.0, -0.5, -2.0, -2.0]),
        entropy=torch.ones(5),
        values=torch.tensor([0.5, 0.6, 0.8, 0.1, -0.3]),
        scores=as_column(list(scores)),
        parts={"reward_model": as_column(list(scores))},
    )


def close(found, wanted, tolerance=1e-6):
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), atol=tolerance, rtol=tolerance)


def test_a_golden_batch():
    """KL:       log-ratios 0.5, 0, -0.5 | 0, 1; times -0.2: -0.1, 0, 0.1 | 0, -0.2.
    Scores:      2 is clipped to 1.5; 0.7 has no EOS and loses 1: -0.3. Each on its last token.
    Rewards:     -0.1, 0, 1.6 | 0, -0.5.
    GAE (1, .5): row 1 from the back: d = 1.6 - 0.8 = 0.8, A = 0.8; d = 0.8 - 0.6 = 0.2, A = 0.2 + 0.4 = 0.6;
                 d = -0.1 + 0.6 - 0.5 = 0, A = 0.3. Row 2: d = -0.5 + 0.3 = -0.2, A = -0.2; d = -0.3 - 0.1 = -0.4, A = -0.5.
    Returns:     A + V: 0.8, 1.2, 1.6 | -0.4, -0.5.
    Whitening:   mean 0.2; deviations 0.1, 0.4, 0.6, -0.7, -0.4; squares add to 1.18; variance 1.18 / 4 = 0.295.
    Policy:      ratios 1.5, 0.5, 1 | 0.5, 1.5: for the first A > 0 the clip 1.2 counts, then 0.5 and 1 themselves; for A < 0
                 the clip 0.8 counts, then 1.5 itself. In units of the deviation s: -0.12 - 0.2 - 0.6 + 0.56 + 0.6 = 0.24; / 5 tokens.
    Values:      0.8 (clipped to 0.7), 0.7, 1.2 (to 1.0) | 0, -0.9 (to -0.5): squared errors, the larger of both:
                 0.01, 0.25, 0.36 | 0.16, 0.16; the sum 0.94 / 5 / 2 = 0.094."""
    experience = make_experience(scored(), gae_advantages, OPTIONS, OPTIONS.kl_coef, ScoreScale())
    deviation = (0.295 + 1e-8) ** 0.5
    close(experience._rewards, [[-0.1, 0.0, 1.6], [0.0, -0.5, 0.0]])
    close(experience.advantages, torch.tensor([0.1, 0.4, 0.6, -0.7, -0.4]) / deviation)
    close(experience.returns, [0.8, 1.2, 1.6, -0.4, -0.5])

    ratios = torch.tensor([1.5, 0.5, 1.0, 0.5, 1.5])
    policy = clip(
        PolicyBatch(scored().logps + ratios.log(), scored().logps, experience.advantages, experience.mask), OPTIONS
    )
    weights = token_weights(experience.mask, row_numbers(torch.tensor([3, 2])), 2, "token")
    policy_loss = (policy.loss * weights).sum() / weights.sum()
    close(policy_loss, 0.24 / 5 / deviation)
    assert policy.metrics["clipfrac"].tolist() == [1, 0, 0, 1, 0]

    values = torch.tensor([0.8, 0.7, 1.2, 0.0, -0.9])
    value = clipped_value_loss(values, scored().values, experience.returns, experience.mask, OPTIONS.cliprange_value)
    value_loss = (value.loss * weights).sum() / weights.sum()
    close(value_loss, 0.094)
    assert value.metrics["clipfrac"].tolist() == [1, 0, 1, 0, 0]
    close(total_loss(policy_loss, value_loss, vf_coef=OPTIONS.vf_coef), 0.24 / 5 / deviation + 0.0094)


def test_its_figures():
    """KL per answer (0 + 1) / 2; penalty (0 - 0.2) / 2; rewards (1.5 - 0.8) / 2 with 1.5 = -0.1 + 0 + 1.6 and -0.5."""
    experience = make_experience(scored(), gae_advantages, OPTIONS, OPTIONS.kl_coef, ScoreScale())
    found = point(sums_of_all(experience_sums(experience, as_column([0.0, 0.5]), OPTIONS)))
    wanted = {
        "objective/kl": 0.5,
        "objective/entropy": 3.0,
        "objective/non_score_reward": -0.1,
        "objective/rlhf_reward": 0.5,
        "objective/scores": 1.35,
        "objective/scores/reward_model": 1.35,
        "objective/scores_std": 0.65 * 2**0.5,
        "completions/mean_length": 2.5,
        "completions/stop_rate": 0.5,
        "completions/repetition": 0.25,
        "objective/unscored": 0.0,
        "policy/entropy_avg": 1.0,
        "val/num_eos_tokens": 1.0,
        "episodes": 2.0,
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    # Returns 0.8, 1.2, 1.6, -0.4, -0.5 against values: errors are the unwhitened advantages 0.3, 0.6, 0.8, -0.5, -0.2.
    returns, errors = torch.tensor([0.8, 1.2, 1.6, -0.4, -0.5]), torch.tensor([0.3, 0.6, 0.8, -0.5, -0.2])
    assert found["val/explained_variance"] == pytest.approx(float(1 - errors.var() / returns.var()), abs=1e-5)


def test_an_answer_without_a_score_teaches_nothing_and_is_counted():
    """It is not scored 0: its tokens leave rewards, whitening and losses, and the other row is as if it were alone."""
    experience = make_experience(scored((2.0, None)), gae_advantages, OPTIONS, OPTIONS.kl_coef, ScoreScale())
    assert experience.mask.tolist() == [True, True, True, False, False]
    advantages = torch.tensor([0.3, 0.6, 0.8])
    close(experience.advantages[:3], (advantages - advantages.mean()) / (advantages.var() + 1e-8).sqrt(), 1e-5)
    assert not experience.advantages[3:].any() and not experience.returns[3:].any()
    found = point(sums_of_all(experience_sums(experience, as_column([0.0, 0.0]), OPTIONS)))
    assert (
        found["objective/scores"] == 2.0
        and found["objective/unscored"] == 0.5
        and found["objective/rlhf_reward"] == pytest.approx(1.5)
    )


def test_whitened_rewards_keep_their_mean():
    plain = make_experience(scored(), lambda batch, _: _seen(batch), OPTIONS, 0.2, ScoreScale()).advantages
    white = make_experience(
        scored(), lambda batch, _: _seen(batch), OPTIONS.model_copy(update={"whiten_rewards": True}), 0.2, ScoreScale()
    )
    close(white.advantages.mean(), plain.mean())
    close(white.advantages.var(), 1.0, 1e-5)


def _seen(batch):
    from alignflow.models.advantages import Advantages

    return Advantages(batch.rewards, None)


@pytest.mark.parametrize(("mode", "scale"), [("off", (0.0, 1.0)), ("mean", (2.0, 1.0)), ("mean_std", (2.0, 1.0))])
def test_the_scale_of_scores_comes_from_the_first_answers(mode, scale):
    found = score_scale(as_column([1.0, None, 3.0, 2.0]), mode)
    assert (found.mean, found.deviation) == scale


def test_equal_scores_have_a_scale_that_can_be_divided_by():
    assert score_scale(as_column([2.0, 2.0]), "mean_std") == ScoreScale(2.0, 1.0)
    for score, count in ((0.1, 3), (0.7, 7)):  # whose mean is rounded
        assert score_scale(as_column([score] * count), "mean_std").deviation == 1.0


def test_scored_answers_come_back_from_their_tensors_bit_for_bit():
    first = scored((2.0, None))
    again = Scored.from_tensors(first.tensors(), ["reward_model"])
    assert again.rollouts.rows == first.rollouts.rows
    tensors, others = first.tensors(), again.tensors()
    assert tensors.keys() == others.keys()
    assert all(torch.equal(torch.nan_to_num(value), torch.nan_to_num(others[name])) for name, value in tensors.items())


def group_of_two(scores=(2.0, 0.5), behaviour=None):
    """The two answers of `scored`, to one prompt."""
    first = scored(scores)
    rollouts = replace(first.rollouts, prompts=torch.tensor([0, 0]), behaviour_logps=behaviour)
    return replace(first, rollouts=rollouts, values=None)


GRPO = GRPOOptions(num_generations=2, kl_coef=0.5, missing_eos_penalty=1.5, cliprange=0.2)


def test_a_golden_grpo_group():
    """Scores:   2, and 0.5 - 1.5 = -1 for the answer that was cut; mean 0.5, deviations +-1.5, sample deviation sqrt(4.5).
    Advantages:  +-1.5 / (sqrt(4.5) + 1e-4) = +-a on every token; the KL is not in the score.
    Policy:      ratios 1.5, 0.5, 1 | 0.5, 1.5: -1.2a, -0.5a, -a | 0.8a, 1.5a.
    KL k3:       the policy moved, so its log-ratios are 0.5 + ln 1.5, -ln 2, -0.5 | -ln 2, 1 + ln 1.5.
    Loss:        mean over answers of token means: (-2.7a / 3 + 2.3a / 2) / 2 = 0.125a, and half of the k3s' mean likewise."""
    experience = make_experience(group_of_two(), grpo_advantages, GRPO, GRPO.kl_coef, ScoreScale())
    close(experience._rewards, [[0.0, 0.0, 2.0], [0.0, -1.0, 0.0]])
    a = 1.5 / (4.5**0.5 + 1e-4)
    close(experience.advantages, [a, a, a, -a, -a])
    assert experience.returns is None

    ratios = torch.tensor([1.5, 0.5, 1.0, 0.5, 1.5])
    old, ref = group_of_two().logps, group_of_two().ref_logps
    owners = row_numbers(torch.tensor([3, 2]))
    found = clip(PolicyBatch(old + ratios.log(), old, experience.advantages, experience.mask, owners), GRPO)
    weights = token_weights(experience.mask, owners, 2, GRPO.aggregate)
    close((found.loss * weights).sum() / weights.sum(), 0.125 * a)
    up, down = math.log(1.5), math.log(2)
    logratios = [0.5 + up, -down, -0.5, -down, 1 + up]
    k3 = [math.exp(-value) - 1 + value for value in logratios]
    kl = KL_ESTIMATORS["k3"](old + ratios.log() - ref)
    close(kl, k3)
    close((kl * weights).sum() / weights.sum(), (sum(k3[:3]) / 3 + sum(k3[3:]) / 2) / 2)


def test_the_figures_of_a_group():
    """The objective has the KL wherever it stands: k3 of 0.5, 0, -0.5 and 0, 1, half of it; scores as they came."""
    experience = make_experience(group_of_two(), grpo_advantages, GRPO, GRPO.kl_coef, ScoreScale())
    found = point(sums_of_all(experience_sums(experience, as_column([0.0, 0.0]), GRPO)))
    k3 = math.exp(-0.5) + math.exp(0.5) - 2 + math.exp(-1)
    assert found["objective/non_score_reward"] == pytest.approx(-0.5 * k3 / 2, abs=1e-6)
    assert found["objective/rlhf_reward"] == pytest.approx(0.5 - 0.5 * k3 / 2, abs=1e-6)
    assert found["frac_reward_zero_std"] == 0.0 and "sampling/importance_sampling_ratio/mean" not in found


def test_truncated_answers_may_give_no_loss_and_stay_in_the_baseline():
    options = GRPO.model_copy(update={"mask_truncated_completions": True})
    experience = make_experience(group_of_two(), grpo_advantages, options, 0.0, ScoreScale())
    assert experience.mask.tolist() == [True, True, True, False, False]
    close(experience.advantages[:3], torch.full((3,), 1.5 / (4.5**0.5 + 1e-4)))


def test_the_soft_punishment_of_long_answers():
    """Of 4 tokens the last half: 3 of 4 tokens lose half of the penalty, 2 nothing."""
    options = DAPOOptions(num_generations=2, response_length=4, overlong_buffer=0.5, overlong_penalty=0.6)
    experience = make_experience(group_of_two(), grpo_advantages, options, 0.0, ScoreScale())
    close(experience._rewards.sum(1), [2.0 - 0.3, 0.5])


def test_where_the_engine_says_its_own_log_probabilities_the_mismatch_is_shown():
    """Differences ln 2, 0, 0 | 0, -ln 4: ratios 2, 1, 1, 1, 0.25."""
    behaviour = torch.tensor([-1.0 - math.log(2), -1.0, -1.0, -2.0, -1.0 + math.log(4)])
    options = GRPO.model_copy(update={"importance_sampling_clip_max": 1.5})
    experience = make_experience(group_of_two(behaviour=behaviour), grpo_advantages, options, 0.5, ScoreScale())
    close(experience.importance.weights, [1.5, 1.0, 1.0, 1.0, 0.25])
    found = point(sums_of_all(experience_sums(experience, as_column([0.0, 0.0]), options)))
    wanted = {
        "sampling_logp_difference/mean": (math.log(2) + math.log(4)) / 5,
        "sampling_logp_difference/max": math.log(4),
        "importance_sampling_ratio/min": 0.25,
        "importance_sampling_ratio/mean": 5.25 / 5,
        "importance_sampling_ratio/max": 2.0,
        "importance_sampling_clipped": 0.2,
    }
    assert {name: found[f"sampling/{name}"] for name in wanted} == pytest.approx(wanted, abs=1e-6)


def test_draws_come_back_with_the_answers():
    first = replace(scored(), draws=Draws(2, 4, 1, 0, 3.5, 4))
    assert Scored.from_tensors(first.tensors(), ["reward_model"]).draws == first.draws
