"""Bytes on disk: what a stage publishes, and the training states that it keeps while it runs."""

from __future__ import annotations

from collections.abc import Sequence

from alignflow.data.estimate.memory import LearningModel
from alignflow.data.estimate.place import FP32

STATES = 3
"""Training states at the moment when a new one is written: two are kept, and the older goes once the new one is whole."""


def published_bytes(learner: LearningModel) -> int:
    """The checkpoint, fp32; of a LoRA training the adapter alone."""
    return FP32 * (learner.trainable if learner.lora_rank else learner.weights)


def state_bytes(learners: Sequence[LearningModel]) -> int:
    """Training states at their most: weights that learn and AdamW's two moments, fp32, of every learning model."""
    return STATES * sum(3 * FP32 * learner.trainable for learner in learners)
