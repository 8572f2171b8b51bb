"""Statistics of a token's distribution for losses: values, and hand-written gradients. One table; losses see no logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import torch

from alignflow.models.cringe_picks import draw_picks


@dataclass(frozen=True)
class TokenStatistics:
    """Figures per completion token that counts, row after row.

    Attributes:
        owners: (N,) int64: the row of each token.
        rows: Number of rows.
        values: Name of STATISTICS -> (N,) fp32, for the `top_` ones (N, top_k).
    """

    owners: torch.Tensor
    rows: int
    values: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def logps(self) -> torch.Tensor:
        """(N,) fp32 log-probabilities."""
        return self.values["logps"]

    def sums(self, name: str = "logps") -> torch.Tensor:
        """(rows,) fp32: the sum over each row's tokens."""
        return self.values[name].new_zeros(self.rows).index_add(0, self.owners, self.values[name])

    def counts(self) -> torch.Tensor:
        """(rows,) fp32: number of tokens of each row."""
        return torch.bincount(self.owners, minlength=self.rows).float()


class Chunk:
    """A chunk of tokens, the input of a statistic.

    Attributes:
        logits: (tokens, vocabulary) fp32.
        targets: (tokens,) int64: the target tokens.
        top_k: How many of the most probable tokens are asked for.
        reference_logits: (tokens, vocabulary) fp32 of a second model, or None.
        uniform: (tokens,) fp64 in [0, 1) for the statistic that draws, or None.
        jsd_beta: The reference's weight in the mixture of `generalized_jsd`, from 0 to 1.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        top_k: int,
        reference_logits: torch.Tensor | None,
        uniform: torch.Tensor | None = None,
        jsd_beta: float = 0.5,
    ):
        self.logits, self.targets, self.top_k, self.reference_logits, self.uniform = (
            logits,
            targets,
            top_k,
            reference_logits,
            uniform,
        )
        self.jsd_beta = jsd_beta

    @cached_property
    def _exponentials(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens, vocabulary) exp(logits - largest), and (tokens, 1) the largest; not by `softmax`, whose exponential on a CPU is
        accurate only to 1e-5."""
        largest = self.logits.amax(-1, keepdim=True)
        return (self.logits - largest).exp_(), largest

    @cached_property
    def _total(self) -> torch.Tensor:
        """(tokens, 1): the sum of the exponentials, from 1 to the size of the vocabulary."""
        return self._exponentials[0].sum(-1, keepdim=True)

    @cached_property
    def normaliser(self) -> torch.Tensor:
        """(tokens, 1): log of the sum of exponentials; with a second model, rounded as the second model's."""
        if self.logits.requires_grad or self.reference_logits is not None:
            return self.logits.logsumexp(-1, keepdim=True)
        return self._exponentials[1] + self._total.log()

    @cached_property
    def log_probabilities(self) -> torch.Tensor:
        """(tokens, vocabulary)."""
        return self.logits - self.normaliser

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """(tokens, vocabulary); with a second model, rounded as the second model's, so that equal models differ by exactly 0."""
        if self.logits.requires_grad or self.reference_logits is not None:
            return self.log_probabilities.exp()
        _ = self.normaliser  # the exponentials are overwritten below
        return self._exponentials[0].div_(self._total)

    @cached_property
    def reference(self) -> torch.Tensor:
        """(tokens, vocabulary): the second model's log-probabilities, rounded as the first one's, so that equal models differ by exactly 0."""
        return self._reference_logits() - self.reference_normaliser

    @cached_property
    def reference_normaliser(self) -> torch.Tensor:
        """(tokens, 1): log of the sum of exponentials of the second model."""
        return self._reference_logits().logsumexp(-1, keepdim=True)

    @property
    def reference_logps(self) -> torch.Tensor:
        """(tokens,): the second model's log-probability of the target token."""
        return (self._reference_logits().gather(-1, self.targets[:, None]) - self.reference_normaliser)[:, 0]

    def _reference_logits(self) -> torch.Tensor:
        assert self.reference_logits is not None, "a statistic that compares needs a reference"
        return self.reference_logits

    @cached_property
    def reference_probabilities(self) -> torch.Tensor:
        """(tokens, vocabulary)."""
        return self.reference.exp()

    @cached_property
    def mixture(self) -> torch.Tensor:
        """(tokens, vocabulary): log(jsd_beta q + (1 - jsd_beta) p), q the reference; 0 if both probabilities are 0."""
        mixed = self.jsd_beta * self.reference_probabilities + (1 - self.jsd_beta) * self.probabilities
        return mixed.masked_fill(mixed == 0, 1.0).log()


Values: TypeAlias = torch.Tensor


ARGMAX_BLOCK = 256


def first_largest(logits: torch.Tensor) -> torch.Tensor:
    """(tokens,) int64: the first place of each row's largest number, as by `argmax`, which on a CPU reads one number at a time: this
    finds the largest numbers of blocks first, then the place within a block."""
    whole = logits.shape[1] // ARGMAX_BLOCK * ARGMAX_BLOCK
    blocks = logits[:, :whole].unflatten(1, (-1, ARGMAX_BLOCK)).amax(-1)
    if whole < logits.shape[1]:
        blocks = torch.cat((blocks, logits[:, whole:].amax(-1, keepdim=True)), 1)
    columns = blocks.argmax(-1, keepdim=True) * ARGMAX_BLOCK + torch.arange(ARGMAX_BLOCK, device=logits.device)
    columns = columns.clamp_(max=logits.shape[1] - 1)
    return columns.gather(1, logits.gather(1, columns).argmax(-1, keepdim=True))[:, 0]


@dataclass(frozen=True)
class Statistic:
    """A figure per token.

    Attributes:
        value: Its values, (tokens,) or (tokens, top_k), written in differentiable operations.
        gradient: (chunk, values, gradient of the values) -> (tokens, vocabulary) gradient of the logits; None if
            the statistic has no gradient.
        compares: Whether it needs a reference.
        draws: Whether it needs uniform numbers.
    """

    value: Callable[[Chunk], Values]
    gradient: Callable[[Chunk, Values, torch.Tensor], torch.Tensor] | None = None
    compares: bool = False
    draws: bool = False


def _weighted(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """weights * values, and 0 if the weight is 0, whatever the value: logits of -inf give 0 * inf, which would be NaN."""
    return weights * values.masked_fill(weights == 0, 0.0)


def _weighted_logs(weights: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
    """`_weighted` with one pass less, for values that are -inf where the weight is 0, and never inf or NaN."""
    return weights * logs.clamp(min=torch.finfo(logs.dtype).min)


def _logps(chunk: Chunk) -> Values:
    return (chunk.logits.gather(-1, chunk.targets[:, None]) - chunk.normaliser)[:, 0]


def _logps_gradient(chunk: Chunk, values: Values, gradient: torch.Tensor) -> torch.Tensor:
    found = chunk.probabilities * -gradient[:, None]
    return found.scatter_add_(-1, chunk.targets[:, None], gradient[:, None])


def _entropy(chunk: Chunk) -> Values:
    return -_weighted_logs(chunk.probabilities, chunk.log_probabilities).sum(-1)


def _entropy_gradient(chunk: Chunk, values: Values, gradient: torch.Tensor) -> torch.Tensor:
    return _weighted_logs(chunk.probabilities, chunk.log_probabilities + values[:, None]) * -gradient[:, None]


def _squared_probability(chunk: Chunk) -> Values:
    return chunk.probabilities.square().sum(-1)


def _squared_probability_gradient(chunk: Chunk, values: Values, gradient: torch.Tensor) -> torch.Tensor:
    return chunk.probabilities * (chunk.probabilities - values[:, None]) * (2 * gradient[:, None])


def _correct(chunk: Chunk) -> Values:
    return (first_largest(chunk.logits) == chunk.targets).to(chunk.logits.dtype)


def _top_logps(chunk: Chunk) -> Values:
    return chunk.logits.topk(chunk.top_k, -1).values - chunk.normaliser


def _top_logps_gradient(chunk: Chunk, values: Values, gradient: torch.Tensor) -> torch.Tensor:
    found = chunk.probabilities * -gradient.sum(-1, keepdim=True)
    return found.scatter_add_(-1, chunk.logits.topk(chunk.top_k, -1).indices, gradient)


def _top_ids(chunk: Chunk) -> Values:
    return chunk.logits.topk(chunk.top_k, -1).indices


def _forward_kl(chunk: Chunk) -> Values:
    return _weighted(chunk.reference_probabilities, chunk.reference - chunk.log_probabilities).sum(-1)


def _forward_kl_gradient(chunk: Chunk, values: Values, gradient: torch.Tensor) -> torch.Tensor:
    return (chunk.probabilities - chunk.reference_probabilities) * gradient[:, None]


def _reverse_kl(chunk: Chunk) -> Values:
    return _weighted(chunk.probabilities, chunk.log_probabilities - chunk.reference).sum(-1)


def _reverse_kl_gradient(chunk: Chunk, values: Values, gradient: torch.Tensor) -> torch.Tensor:
    return (
        _weighted(chunk.probabilities, chunk.log_probabilities - chunk.reference - values[:, None]) * gradient[:, None]
    )


def _generalized_jsd(chunk: Chunk) -> Values:
    beta = chunk.jsd_beta
    if beta in (0, 1):
        return _reverse_kl(chunk) if beta else _forward_kl(chunk)
    of_reference = _weighted_logs(chunk.reference_probabilities, chunk.reference - chunk.mixture).sum(-1)
    return beta * of_reference + (1 - beta) * _weighted_logs(
        chunk.probabilities, chunk.log_probabilities - chunk.mixture
    ).sum(-1)


def _generalized_jsd_gradient(chunk: Chunk, values: Values, gradient: torch.Tensor) -> torch.Tensor:
    beta = chunk.jsd_beta
    if beta in (0, 1):
        return (_reverse_kl_gradient if beta else _forward_kl_gradient)(chunk, values, gradient)
    ratio = chunk.log_probabilities - chunk.mixture
    to_mixture = _weighted_logs(chunk.probabilities, ratio).sum(-1, keepdim=True)  # KL(policy || mixture)
    return _weighted_logs(chunk.probabilities, ratio - to_mixture) * ((1 - beta) * gradient[:, None])


def _reference_logps(chunk: Chunk) -> Values:
    return chunk.reference_logps


def _picks(chunk: Chunk) -> torch.Tensor:
    assert chunk.uniform is not None, "a statistic that draws needs uniform numbers"
    return draw_picks(chunk.logits, chunk.targets, chunk.top_k, chunk.uniform)[:, None]


def _cringe_positive(chunk: Chunk) -> Values:
    return (chunk.logits.gather(-1, _picks(chunk)) - chunk.normaliser)[:, 0]


def _cringe_positive_gradient(chunk: Chunk, values: Values, gradient: torch.Tensor) -> torch.Tensor:
    found = chunk.probabilities * -gradient[:, None]
    return found.scatter_add_(-1, _picks(chunk), gradient[:, None])


STATISTICS: Mapping[str, Statistic] = {
    "logps": Statistic(_logps, _logps_gradient),
    "entropy": Statistic(_entropy, _entropy_gradient),
    "squared_probability": Statistic(_squared_probability, _squared_probability_gradient),
    "correct": Statistic(_correct),
    "top_logps": Statistic(_top_logps, _top_logps_gradient),
    "top_ids": Statistic(_top_ids),
    "forward_kl": Statistic(_forward_kl, _forward_kl_gradient, compares=True),
    "reverse_kl": Statistic(_reverse_kl, _reverse_kl_gradient, compares=True),
    "generalized_jsd": Statistic(_generalized_jsd, _generalized_jsd_gradient, compares=True),
    "reference_logps": Statistic(_reference_logps, compares=True),
    "cringe_positive": Statistic(_cringe_positive, _cringe_positive_gradient, draws=True),
}
"""What a loss may ask for, per token:

logps: log-probability of the target token.
entropy: of the distribution, nats.
squared_probability: sum of p squared over the vocabulary; its log, which WPO takes, is safe: at least 1 / vocabulary.
correct: 1 if the target is the most probable token.
top_logps, top_ids: log-probabilities and ids of the `top_k` most probable tokens, the most probable first.
forward_kl: KL(reference || policy) over the whole vocabulary, nats (TDPO's, arXiv 2404.11999); infinite if the policy gives probability 0 to a
    token that has probability under the reference.
reverse_kl: KL(policy || reference) likewise.
generalized_jsd: beta KL(reference || m) + (1 - beta) KL(policy || m), m = beta reference + (1 - beta) policy, beta = `jsd_beta`: GKD's
    Jensen-Shannon divergence (arXiv 2306.13649), finite for any two models. At 0 it is `forward_kl` and at 1 `reverse_kl`, as in TRL;
    they are the limits of its value divided by beta, and by 1 - beta, and not of its value, which goes to 0.
reference_logps: the reference's log-probability of the target token.
cringe_positive: log-probability of a token drawn from the `top_k` most probable ones other than the target (CRINGE's, arXiv 2211.05826).
The reference gets no gradient. A token that has a logit of -inf in both models adds nothing to a sum over the vocabulary.
"""
