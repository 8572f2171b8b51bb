"""Tables whose answer is known: the real loss and the real step on a policy of one token, against exact solutions.

A bandit with rewards r has the KL-regularised optimum p ~ q exp(r / beta). A game of preferences that go in a circle has a regularised
Nash equilibrium, p ~ q exp(P(. beats p) / tau), that no reward describes.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from alignflow.data import catalogue
from alignflow.data.configs.online_preference import PairedOptions
from alignflow.models.batching import EncodedRow
from alignflow.models.generation.mixture_generator import geometric_mixture
from alignflow.models.judges.comparing import Comparison, logit
from alignflow.models.losses.base import ema_update
from alignflow.models.rollouts import Rollouts
from alignflow.models.token_statistics import TokenStatistics
from alignflow.models.trainers.compared_answers import ComparedAnswers, duels, ordered_pairs, planned
from alignflow.models.trainers.online_preference import bound_pair_loss
from alignflow.models.trainers.preference_update import PreferenceLearner, preference_step

ARMS = 5
REFERENCE = torch.tensor([0.3, 0.25, 0.2, 0.15, 0.1], dtype=torch.float64).log()
REWARDS = torch.tensor([0.0, 1.0, 0.2, 0.8, -0.5], dtype=torch.float64)
TRANSITIVE = torch.sigmoid(REWARDS[:, None] - REWARDS[None, :])
# 0 beats 1, 1 beats 2, 2 beats 0, by different shares; 3 and 4 lose to all three.
CIRCLE = torch.tensor(
    [
        [0.50, 0.90, 0.20, 0.70, 0.80],
        [0.10, 0.50, 0.80, 0.60, 0.70],
        [0.80, 0.20, 0.50, 0.70, 0.60],
        [0.30, 0.40, 0.30, 0.50, 0.50],
        [0.20, 0.30, 0.40, 0.50, 0.50],
    ],
    dtype=torch.float64,
)
OPPONENTS = {
    "policy": lambda table, options: table.logps(),
    "reference": lambda table, options: REFERENCE,
    "mixture": lambda table, options: geometric_mixture(table.logps(), REFERENCE, options.mixture_coef),
    "ema": lambda table, options: table.average.log_softmax(-1),
}


class Table:
    """A policy that writes one of ARMS tokens, and the engine that moves its logits by plain gradient steps."""

    runtime, device = SimpleNamespace(micro_batch_tokens=100_000), torch.device("cpu")

    def __init__(self):
        self.logits = REFERENCE.clone().requires_grad_()
        self.average = REFERENCE.clone()
        self.optimizer = torch.optim.SGD([self.logits])

    def logps(self):
        return self.logits.detach().log_softmax(-1)

    def token_statistics(self, rows, which, *, temperature):
        arms = torch.tensor([row.completion_ids[0] for row in rows])
        return TokenStatistics(torch.arange(len(rows)), len(rows), {"logps": self.logits.log_softmax(-1)[arms].float()})

    def backward(self, loss):
        loss.backward()

    def step(self, rate):
        self.optimizer.param_groups[0]["lr"] = rate
        norm = float(self.logits.grad.norm())
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm


def drawn(logps, count, generator):
    return torch.multinomial(logps.exp(), count, replacement=True, generator=generator)


def answers_of(table, method, options, preferences, prompts, generator):
    """What an update of the method learns from: `prompts` answers of the policy and as many that they meet."""
    if method.opponent == "policy":
        arms, own = drawn(table.logps(), 2 * prompts, generator), 2 * prompts
    else:
        met = drawn(OPPONENTS[method.opponent](table, options), prompts, generator)
        arms, own = torch.cat([drawn(table.logps(), prompts, generator), met]), prompts
    pairs = planned(own, 2 * prompts, 2)
    odds = [logit(float(preferences[arms[first], arms[second]])) for first, second in pairs]
    comparison = Comparison(odds, ["" if value else "tie" for value in odds])
    texts = [f"arm {arm}" for arm in arms.tolist()]
    found = ordered_pairs(comparison, pairs, texts, 1) if method.ordered else duels(comparison, pairs)
    rows = [EncodedRow((0,), (arm,)) for arm in arms.tolist()]
    rollouts = Rollouts(torch.arange(prompts).repeat(2), rows, torch.ones(len(rows), dtype=torch.bool))
    logps = table.logps()[arms].float()
    return ComparedAnswers(rollouts, own, logps, REFERENCE[arms].float(), torch.zeros_like(logps), *found, {})


def trained(name, preferences, updates=200, rate=3.0, prompts=128, **options):
    """log-probabilities of the policy after training by a method of the catalogue."""
    method = catalogue.METHODS[name]
    options = catalogue.parse_options(method, {"judge": {"name": "llm"}, **options}, "options")
    loss = partial(method.resolve(), options=options)
    if isinstance(options, PairedOptions):
        loss = partial(loss, pair_loss=bound_pair_loss(options))
    table, generator = Table(), torch.Generator().manual_seed(0)
    learner = PreferenceLearner(table, table, loss, method.ordered, getattr(options, "soft_labels", False), 1.0)
    for update in range(updates):
        answers = answers_of(table, method, options, preferences, prompts, generator)
        preference_step(learner, answers, rate * (1 - update / updates), "table")
        decay = getattr(options, "ema_decay", 0.0)
        table.average = ema_update(table.average, table.logits.detach(), decay)
    return table.logps()


def best_response(values, strength):
    """The exact policy q exp(values / strength), normalised; its value is strength log E_q[exp(values / strength)]."""
    return (REFERENCE + values / strength).log_softmax(-1)


def kl(logps):
    return float((logps.exp() * (logps - REFERENCE)).sum())


BETA = 0.25


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("online_dpo", {"soft_labels": True}),
        ("xpo", {"soft_labels": True, "alpha": 1e-4}),
    ],
)
def test_preferences_by_rewards_lead_to_the_optimum_of_the_rewards(name, options):
    def objective(logps):
        return float(logps.exp() @ REWARDS) - BETA * kl(logps)

    start, optimum = objective(REFERENCE), objective(best_response(REWARDS, BETA))
    closed = (
        objective(trained(name, TRANSITIVE, updates=100, prompts=64, rate=30.0, beta=BETA, **options)) - start
    ) / (optimum - start)
    assert 0.95 <= closed <= 1 + 1e-9, closed


TAU = 0.1


def gap(logps, preferences):
    """How much more the best response to a policy has than the policy itself, both less tau KL; 0 at the equilibrium alone."""
    values = preferences @ logps.exp()
    best = TAU * float((REFERENCE + values / TAU).logsumexp(-1))
    return best - (0.5 - TAU * kl(logps))


def equilibrium(preferences):
    """The regularised Nash equilibrium by damped fixed-point steps, to rounding."""
    logps = REFERENCE
    for _ in range(2_000):
        logps = (0.98 * logps + 0.02 * best_response(preferences @ logps.exp(), TAU)).log_softmax(-1)
    return logps


@pytest.mark.parametrize("preferences", [TRANSITIVE, CIRCLE], ids=["transitive", "circle"])
def test_the_gap_is_0_at_the_equilibrium_and_not_at_the_reference(preferences):
    assert (
        gap(equilibrium(preferences), preferences) == pytest.approx(0, abs=1e-9) and gap(REFERENCE, preferences) > 0.02
    )


@pytest.mark.parametrize(
    ("name", "options", "preferences"),
    [
        ("nash_md", {"mixture_coef": 0.0}, CIRCLE),
        ("nash_md", {"mixture_coef": 0.125}, CIRCLE),
        ("nash_md", {"mixture_coef": 0.125}, TRANSITIVE),
        ("nash_ema", {"ema_decay": 0.5}, CIRCLE),
    ],
)
def test_nash_methods_reach_the_equilibrium(name, options, preferences):
    found, wanted = trained(name, preferences, beta=TAU, **options), equilibrium(preferences)
    assert gap(found, preferences) < 0.05 * gap(REFERENCE, preferences)
    assert (found.exp() - wanted.exp()).abs().max() < 0.06


def test_no_reward_gives_the_equilibrium_of_a_circle():
    """The optimum for any reward q exp(r / tau) of win rates against the reference is far from the equilibrium, and so is online DPO."""
    by_reward = best_response(CIRCLE @ REFERENCE.exp(), TAU)
    by_pairs = trained("online_dpo", CIRCLE, updates=100, prompts=64, rate=30.0, beta=TAU, soft_labels=True)
    assert gap(by_reward, CIRCLE) > 0.2 * gap(REFERENCE, CIRCLE)
    assert gap(by_pairs, CIRCLE) > 0.2 * gap(REFERENCE, CIRCLE)
