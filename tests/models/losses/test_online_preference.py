"""Online DPO is the pair loss that it is given; XPO adds a bonus whose gradient lowers the reference's answer."""

from functools import partial

import torch

from alignflow.data.configs.online_preference import OnlineDPOOptions, XPOOptions
from alignflow.data.configs.pairwise import DPOOptions
from alignflow.models.losses.base import pairs_of_tokens
from alignflow.models.losses.dpo import dpo
from alignflow.models.losses.online_preference import OrderedBatch, online_dpo, xpo

MASKS = (torch.ones(2, 3), torch.tensor([[1, 1, 0], [1, 0, 0]]))


def batch_of(chosen, rejected):
    reference = tuple(torch.full((2, 3), -1.5, dtype=torch.float64) for _ in MASKS)
    pairs = pairs_of_tokens((chosen, rejected), MASKS, reference)
    # the first pair's chosen answer is the opponent's, the second's rejected one
    return OrderedBatch(pairs, torch.stack([pairs.chosen.logps[0], pairs.rejected.logps[1]]))


def gradients(loss):
    generator = torch.Generator().manual_seed(0)
    leaves = [-torch.rand(2, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in MASKS]
    for leaf in leaves:
        leaf.retain_grad()
    output = loss(batch_of(*leaves))
    output.loss.sum().backward()
    return output, [leaf.grad for leaf in leaves]


PAIR_LOSS = partial(dpo, options=DPOOptions(beta=0.2))


def test_online_dpo_is_the_pair_loss():
    ours, gradient = gradients(lambda batch: online_dpo(batch, OnlineDPOOptions(), PAIR_LOSS))
    theirs, wanted = gradients(lambda batch: PAIR_LOSS(batch.pairs))
    assert torch.equal(ours.loss, theirs.loss) and all(map(torch.equal, gradient, wanted))


def test_xpo_adds_alpha_to_the_gradient_of_the_opponents_tokens_alone():
    _, plain = gradients(lambda batch: PAIR_LOSS(batch.pairs))
    output, found = gradients(lambda batch: xpo(batch, XPOOptions(alpha=0.5), PAIR_LOSS))
    differences = [ours - theirs for ours, theirs in zip(found, plain, strict=True)]
    assert torch.allclose(differences[0], 0.5 * torch.tensor([[1.0, 1, 1], [0, 0, 0]]).double())
    assert torch.allclose(differences[1], 0.5 * torch.tensor([[0.0, 0, 0], [1, 0, 0]]).double())
    assert torch.allclose(output.metrics["loss/dpo"] + output.metrics["loss/xpo"], output.loss)
