"""Losses on single tokens or on whole distributions over the vocabulary: TDPO, LD-DPO, GKD. And the token rewards of a DPO policy."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from alignflow.data.configs.token_level import GKDOptions, LDDPOOptions, TDPO1Options, TDPO2Options
from alignflow.models.losses.base import LossOutput, OfflineBatch, PairBatch, at_least_fp32, pair_metrics
from alignflow.models.sequences import token_places


def tdpo1(batch: PairBatch, options: TDPO1Options) -> LossOutput:
    """-log sigmoid(beta (rho(w) - rho(l)) - beta (SeqKL(l) - SeqKL(w))) (Zeng et al. 2024, "TDPO1", arXiv 2404.11999).

    SeqKL(y) is the sum over the answer's tokens of KL(reference || policy), over the whole vocabulary: the statistic
    `forward_kl`. Both take gradients. At the reference both are 0 and the loss is ln 2. No gradient reaches the reference.

    Args:
        batch: Pairs with reference sums; both sides have `statistics["forward_kl"]`, (N,) nats.
        options: beta (1/nats).

    Returns:
        Loss (pairs,), and metrics: rewards beta * (rho + SeqKL), `seq_kl/chosen`, `seq_kl/rejected`, and `seq_kl/difference`
        = SeqKL(l) - SeqKL(w).
    """
    kl_w, kl_l = sequential_kl(batch.chosen), sequential_kl(batch.rejected)
    return _tdpo(batch, options.beta, kl_l - kl_w, (kl_w, kl_l))


def tdpo2(batch: PairBatch, options: TDPO2Options) -> LossOutput:
    """-log sigmoid(beta (rho(w) - rho(l)) - alpha beta (SeqKL(l) - sg(SeqKL(w)))) (Zeng et al. 2024, "TDPO2", arXiv 2404.11999).

    As `tdpo1`, but the chosen answer's SeqKL takes no gradient; the rejected one's does. With alpha = 0 it is DPO.
    """
    kl_w, kl_l = sequential_kl(batch.chosen), sequential_kl(batch.rejected)
    return _tdpo(batch, options.beta, options.alpha * (kl_l - kl_w.detach()), (kl_w, kl_l))


def sequential_kl(answers: OfflineBatch) -> torch.Tensor:
    """SeqKL, (answers,) nats: the sum of KL(reference || policy) over each answer's tokens; 0 for an answer without tokens."""
    return answers.sums(at_least_fp32(answers.statistics["forward_kl"]))


def _tdpo(
    batch: PairBatch, beta: float, difference: torch.Tensor, kls: tuple[torch.Tensor, torch.Tensor]
) -> LossOutput:
    rho_w, rho_l = batch.logratios()
    loss = -logsigmoid(beta * (rho_w - rho_l) - beta * difference)
    output = LossOutput(loss, pair_metrics(batch, beta * (rho_w + kls[0]), beta * (rho_l + kls[1])))
    return output.showing({"seq_kl/chosen": kls[0], "seq_kl/rejected": kls[1], "seq_kl/difference": kls[1] - kls[0]})


def ld_dpo(batch: PairBatch, options: LDDPOOptions) -> LossOutput:
    """DPO with log-ratios whose tokens beyond the shorter answer's length have weight ld_alpha (Liu et al. 2024, arXiv 2409.06411).

    rho(y) = sum over t of c_t (log pi(y_t) - log pi_ref(y_t)), c_t = 1 for the first min(|w|, |l|) tokens of an answer and
    ld_alpha after them. As in TRL 1.16 both models are weighted, so that at the reference the loss is ln 2. With ld_alpha = 1
    it is DPO. No gradient reaches the reference.

    Args:
        batch: Pairs; both sides have `statistics["logps"]` and `statistics["reference_logps"]`, (N,) nats.
        options: beta (1/nats), ld_alpha.

    Returns:
        Loss (pairs,), and metrics: rewards beta * rho, weighted; `logps/` are plain sums.
    """
    shared = torch.minimum(batch.chosen.tokens, batch.rejected.tokens)
    rewards = [
        options.beta * _weighted_logratios(answers, shared, options.ld_alpha)
        for answers in (batch.chosen, batch.rejected)
    ]
    return LossOutput(-logsigmoid(rewards[0] - rewards[1]), pair_metrics(batch, *rewards))


def _weighted_logratios(answers: OfflineBatch, shared: torch.Tensor, ld_alpha: float) -> torch.Tensor:
    tail = token_places(answers.tokens) >= shared[answers.owners()]
    logratios = token_logratios(answers)
    return answers.sums(torch.where(tail, ld_alpha * logratios, logratios))


def gkd(batch: OfflineBatch, options: GKDOptions) -> LossOutput:
    """The divergence of the student from a teacher, a mean over the answers' tokens (Agarwal et al. 2023, "GKD", arXiv 2306.13649).

    D = beta KL(teacher || m) + (1 - beta) KL(student || m), m = beta teacher + (1 - beta) student, over the whole vocabulary at
    every token of the given answers: the statistic `generalized_jsd`, which has been computed with `options.beta` and
    `options.temperature`. At beta 0 it is KL(teacher || student), at 1 KL(student || teacher), as in TRL. As in TRL, and other than
    in distillation by Hinton et al., it is not multiplied with temperature^2. No gradient reaches the teacher.

    Args:
        batch: Answers with `statistics["generalized_jsd"]`, (N,) nats; otherwise only `tokens` is read.
        options: The options of the statistic.

    Returns:
        `token_loss` (answers,): sums, which the trainer divides by the tokens of the whole step; `loss` is 0. Metric: `divergence`,
        nats per token.
    """
    sums = batch.sums(at_least_fp32(batch.statistics["generalized_jsd"]))
    return LossOutput(torch.zeros_like(sums), {"divergence": (sums / batch.tokens.clamp(min=1)).detach()}, sums)


def token_logratios(answers: OfflineBatch) -> torch.Tensor:
    """log pi(y_t) - log pi_ref(y_t), (N,) nats, answer after answer; no gradient reaches the reference."""
    return at_least_fp32(answers.statistics["logps"]) - at_least_fp32(answers.statistics["reference_logps"]).detach()


def token_rewards(answers: OfflineBatch, beta: float) -> torch.Tensor:
    """beta (log pi(y_t) - log pi_ref(y_t)), (N,): the credit of each token (Rafailov et al. 2024, "From r to Q*", arXiv 2404.12358).

    In the token MDP it is r + V(s_{t+1}) - V(s_t): only the sum over a whole answer is its reward, up to V of the prompt.
    `sequences.prefix_sums` gives the running sums; the evaluator `token_credit` shows both for a trained model.

    Args:
        answers: With `statistics["logps"]` and `statistics["reference_logps"]`, (N,) nats.
        beta: The beta of the DPO training (1/nats).
    """
    return beta * token_logratios(answers)
