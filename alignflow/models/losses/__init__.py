"""Losses: pure functions of a batch and its options. They need no Prefect, no recipe and no model of transformers.

    from alignflow.models.losses import simpo, pairs_of_tokens

The loss of every offline method of the catalogue is here by the name of its function; the batches that losses read, and everything for
a user's own loss, are here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignflow.data.catalogue import METHODS
from alignflow.data.configs.base import StageConfig
from alignflow.data.own_methods import method
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
from alignflow.models.losses.binary_feedback import label_metrics
from alignflow.models.losses.reward import bradley_terry, reward_binary, reward_pointwise, reward_ranking

__all__ = [
    "LossOutput",
    "OfflineBatch",
    "PairBatch",
    "Role",
    "StageConfig",
    "answers_of_tokens",
    "at_least_fp32",
    "bradley_terry",
    "label_metrics",
    "method",
    "pair_metrics",
    "pairs_of_tokens",
    "reward_binary",
    "reward_pointwise",
    "reward_ranking",
]

# Imported eagerly: importing the module `dpo` later would otherwise hide its function of that name.
globals().update({row.address.partition(":")[2]: row.resolve() for row in METHODS.values() if row.learns_from().feeds})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
