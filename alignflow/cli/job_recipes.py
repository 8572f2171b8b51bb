"""The recipe of each job: a few sections with the values that matter, for a given model or for one that the recipe builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignflow.cli.jobs import job_for

RATES = {"sft": (2.0e-5, 2.0e-3), "reward": (1.0e-5, 5.0e-4), "align": (1.0e-6, 2.0e-4)}
"""Section -> learning rate for a given model, and for a small model that the recipe builds."""
ANSWER_TOKENS = 128
BUILT = {"hidden_size": 128, "num_hidden_layers": 4, "max_position_embeddings": 512}
"""The model of a recipe without one: the size of the quickstart's, for rows of 512 tokens."""
TEACHER, READER = ({"name": "rubric", "options": {"constitution": name}} for name in ("helpful", "reader"))
"""Rule-based judges. The second shares no principle with the first, so it can check what the first taught."""
LOSSES = {"rankings": "ranking", "unpaired": "binary"}
"""Table that a reward model learns from -> its loss, if not the default."""


@dataclass
class JobRecipe:
    """A recipe before it is written.

    Attributes:
        summary: What it does.
        content: Section -> its fields; None for a stage that is turned off.
        notes: Place -> comment on its line.
    """

    summary: str
    content: dict[str, Any]
    notes: dict[str, str] = field(default_factory=dict)


def job_recipe(task: str, name: str, model: str, data: Mapping[str, Sequence[str]]) -> JobRecipe:
    """The recipe of a job.

    Args:
        task: A key of JOBS.
        name: Name of the run.
        model: Path or Hub id; empty to build a small one from the data.
        data: Table -> paths, with at least one table that the job needs.
    """
    made = JobRecipe(job_for(task).summary, {"name": name})
    sources = {kind: [{"path": path} for path in paths] for kind, paths in data.items()}
    made.content["model"] = {"path": model} if model else {"build": dict(BUILT)}
    if not model:
        made.notes["model.build"] = "to try the recipe; for a real model: path: MODEL"
        if not {"demonstrations", "prompts"} & set(sources):  # the default texts to train its tokenizer on
            made.content["model"]["corpus"] = [source for given in sources.values() for source in given]
    made.content["data"] = sources
    if "demonstrations" in sources:
        made.content["sft"] = _training("sft", model, num_train_epochs=2)
    _WRITERS[task](made, model, data)
    return made


def _training(section: str, model: str, **fields: Any) -> dict[str, Any]:
    return {"learning_rate": RATES[section][0 if model else 1], **fields}


def _sft(made: JobRecipe, model: str, data: Mapping[str, Sequence[str]]) -> None:
    made.content["align"] = None
    made.notes["align"] = "the fine-tuned model is the result"


def _dpo(made: JobRecipe, model: str, data: Mapping[str, Sequence[str]]) -> None:
    _aligned(made, model, "dpo", {"beta": 0.1})
    _evaluated(made, TEACHER)


def _kto(made: JobRecipe, model: str, data: Mapping[str, Sequence[str]]) -> None:
    _aligned(made, model, "kto", {"beta": 0.1})
    _evaluated(made, TEACHER)


def _rlaif(made: JobRecipe, model: str, data: Mapping[str, Sequence[str]]) -> None:
    _labelled(made, sampled="completions" not in data)
    if "completions" in data:
        made.notes["label"] = "labels the given answers; none are sampled"
    made.content["reward"] = None
    made.notes["reward"] = "DPO learns from the labels themselves"
    _aligned(made, model, "dpo", {"beta": 0.1})
    _evaluated(made, READER)


def _ppo(made: JobRecipe, model: str, data: Mapping[str, Sequence[str]]) -> None:
    if "preferences" not in data:
        _labelled(made, sampled=True)
    made.content["reward"] = _training("reward", model)
    _aligned(made, model, "ppo", {"response_length": ANSWER_TOKENS, "kl_coef": 0.05})
    _evaluated(made, TEACHER if "preferences" in data else READER)


def _reward(made: JobRecipe, model: str, data: Mapping[str, Sequence[str]]) -> None:
    loss = next((LOSSES[kind] for kind in LOSSES if kind in data), None)
    made.content["reward"] = ({"loss": loss} if loss else {}) | _training("reward", model)
    made.content["align"] = None
    made.notes["align"] = "the reward model is the result"


def _labelled(made: JobRecipe, sampled: bool) -> None:
    if sampled:
        made.content["sample"] = {"n": 4, "max_new_tokens": ANSWER_TOKENS}
    made.content["label"] = {"judge": TEACHER}
    made.notes["label.judge"] = "rules; a model judges better: {name: llm, options: {model: MODEL}}"


def _aligned(made: JobRecipe, model: str, method: str, options: dict[str, Any]) -> None:
    made.content["align"] = {"method": method, **_training("align", model), "options": options}


def _evaluated(made: JobRecipe, judge: dict[str, Any]) -> None:
    made.content["evaluate"] = {"judges": [judge], "max_new_tokens": ANSWER_TOKENS}


_WRITERS = {"sft": _sft, "dpo": _dpo, "kto": _kto, "rlaif": _rlaif, "ppo": _ppo, "reward": _reward}
