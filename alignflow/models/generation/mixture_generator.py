"""Samples from a geometric mixture of two models: every token's distribution is a mixture of both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from alignflow.models.generation.base import Generation, Sampling, check_lengths
from alignflow.models.generation.decoding import Decoding
from alignflow.models.generation.drawing import uniform_streams
from alignflow.models.generation.kv_cache import make_cache
from alignflow.models.generation.transformers_generator import LINES, TOO_LONG, TransformersGenerator


def geometric_mixture(policy: torch.Tensor, reference: torch.Tensor, mixture_coef: float) -> torch.Tensor:
    """log-softmax((1 - c) log pi + c log pi_ref), (..., vocabulary) fp32 or wider, c = mixture_coef (arXiv 2312.00886, section 7).

    Args:
        policy: Logits or log-probabilities of the policy; a constant per row does not matter.
        reference: Those of the reference, the same shape.
        mixture_coef: Weight of the reference, 0 to 1.
    """
    wider = torch.promote_types(policy.dtype, torch.float32)
    own, other = (values.to(wider).log_softmax(-1) for values in (policy, reference))
    # A token with probability 0 in one model has 0 in the mixture if that model's weight is above 0; 0 times -inf would be NaN.
    terms = [weight * values for weight, values in ((1 - mixture_coef, own), (mixture_coef, other)) if weight]
    return torch.stack(terms).sum(0).log_softmax(-1)


class PairedCache:
    """The caches of two models that read the same tokens, handled as one by the decode loop."""

    def __init__(self, first: DynamicCache, second: DynamicCache):
        self.first, self.second = first, second

    @property
    def layers(self) -> list[Any]:
        """Layers of both."""
        return [*self.first.layers, *self.second.layers]

    def reorder_cache(self, lines: torch.Tensor) -> None:
        """Keep `lines`, in that order."""
        self.first.reorder_cache(lines)
        self.second.reorder_cache(lines)


class MixtureGenerator:
    """Samples from policy^(1 - c) reference^c, normalised at each token.

    A row depends only on its prompt and seed, up to rounding, as with one model.

    Args:
        policy: Runs the policy.
        reference: Runs the reference: another model with the same vocabulary, or the policy's.
        mixture_coef: c.
        within: Context for the reference's forward passes: if both are the same model, it switches the adapter off.
    """

    def __init__(
        self,
        policy: TransformersGenerator,
        reference: TransformersGenerator,
        mixture_coef: float,
        within: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ):
        self._policy, self._reference, self._coefficient, self._within = policy, reference, mixture_coef, within

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Generation]:
        """One completion per prompt, in the order of `prompts`; raises ModelError if one exceeds the context."""
        if not prompts:
            return []
        for model in (self._policy, self._reference):
            check_lengths(prompts, sampling.max_new_tokens, model.context_length, TOO_LONG)
        with self._policy._context(), self._reference._context():
            return Decoding(
                [tuple(prompt) for prompt in prompts],
                uniform_streams(seeds, sampling.max_new_tokens),
                sampling,
                forward=self._forward,
                new_cache=lambda room: PairedCache(
                    make_cache(self._policy._config, room), make_cache(self._reference._config, room)
                ),
                stop=self._policy._stop,
                lines=LINES,
                tokens=self._policy._micro_batch_tokens,
            ).run()

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: PairedCache
    ) -> torch.Tensor:
        """Log-probabilities of the mixture for the next token, (rows, vocabulary)."""
        own = self._policy._forward(ids, mask, positions, cache.first)
        with self._within():
            other = self._reference._forward(ids, mask, positions, cache.second)
        size = self._policy._vocabulary
        # The decode loop divides by the temperature: it then draws from the mixture of the two distributions at that temperature.
        return geometric_mixture(own[:, :size], other[:, :size], self._coefficient)
