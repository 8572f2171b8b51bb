"""Losses: pure functions of a batch and its options. They need no Prefect, no recipe and no model of transformers.

    from alignflow.models.losses import simpo, pairs_of_tokens

What the names of methods stand for, the batches that losses take, and what a loss of one's own needs, are here by name.
"""

from alignflow.data.configs.base import StageConfig
from alignflow.data.own_methods import method
from alignflow.models.losses.anchored import apo_down, apo_zero, dpop, nca, rdpo
from alignflow.models.losses.base import (
    LossOutput,
    OfflineBatch,
    PairBatch,
    Role,
    answers_of_tokens,
    at_least_fp32,
    pair_metrics,
    pairs_of_tokens,
)
from alignflow.models.losses.beta_dpo import beta_dpo
from alignflow.models.losses.binary_feedback import apo_zero_unpaired, bco, dro_v, kto, label_metrics
from alignflow.models.losses.cringe import cringe, pairwise_cringe
from alignflow.models.losses.dpo import dpo, robust
from alignflow.models.losses.listwise import lipo, list_mle, pro, rrhf
from alignflow.models.losses.margins import exo, f_dpo, gpo, ipo, rso_hinge
from alignflow.models.losses.negatives import d2o, npo
from alignflow.models.losses.reference_free import cpo, orpo, simpo, slic_hf
from alignflow.models.losses.reward import bradley_terry, reward_binary, reward_pointwise, reward_ranking
from alignflow.models.losses.token_level import gkd, ld_dpo, tdpo1, tdpo2
from alignflow.models.losses.weighted import dpo_length_normalised, wpo

__all__ = [
    "LossOutput",
    "OfflineBatch",
    "PairBatch",
    "Role",
    "StageConfig",
    "answers_of_tokens",
    "apo_down",
    "apo_zero",
    "apo_zero_unpaired",
    "at_least_fp32",
    "bco",
    "beta_dpo",
    "bradley_terry",
    "cpo",
    "cringe",
    "d2o",
    "dpo",
    "dpo_length_normalised",
    "dpop",
    "dro_v",
    "exo",
    "f_dpo",
    "gkd",
    "gpo",
    "ipo",
    "kto",
    "label_metrics",
    "ld_dpo",
    "lipo",
    "list_mle",
    "method",
    "nca",
    "npo",
    "orpo",
    "pair_metrics",
    "pairs_of_tokens",
    "pairwise_cringe",
    "pro",
    "rdpo",
    "reward_binary",
    "reward_pointwise",
    "reward_ranking",
    "robust",
    "rrhf",
    "rso_hinge",
    "simpo",
    "slic_hf",
    "tdpo1",
    "tdpo2",
    "wpo",
]
