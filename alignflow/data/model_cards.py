"""Cards of models, as the Hub reads them: a header in YAML with licence, base model, data and metrics, and code that loads the model.

A card has no date and no path of a machine: equal models, equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignflow.data.dataset_cards import licence_header, plain
from alignflow.data.report.comparison import Measured
from alignflow.data.report.comparison_page import measured_text

LIBRARY = "transformers"
OF_ANOTHER = ("/sft", "/sft/low", "/sft/high", "/change")
"""Ends of names of metrics that are not of this model, or of it alone: the table has them, the header of the Hub does not."""
CHAT = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

name = {place}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)
messages = [{{"role": "user", "content": "Why is the sky blue?"}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=64)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""
SCORE = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

name = {place}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForSequenceClassification.from_pretrained(name)
messages = [
    {{"role": "user", "content": "Why is the sky blue?"}},
    {{"role": "assistant", "content": "Air scatters blue light most."}},
]
rows = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
print(model(**rows).logits[0, 0].item())
"""


@dataclass(frozen=True)
class ModelFacts:
    """What a card says.

    Attributes:
        title: The heading.
        about: A sentence under it.
        facts: Name -> text, in their order.
        kind: checkpoint, reward_model, or ensemble: several reward models.
        tags: For the header, beside `alignflow`.
        licences: What went in -> licence.
        base_models: Ids on the Hub.
        datasets: Ids on the Hub.
        metrics: Name -> value.
        measured_on: What the metrics are measured on.
    """

    title: str
    about: str
    facts: Mapping[str, str]
    kind: str
    tags: Sequence[str] = ()
    licences: Mapping[str, str] = field(default_factory=dict)
    base_models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    metrics: Mapping[str, Measured] = field(default_factory=dict)
    measured_on: str = ""


def model_card(facts: ModelFacts, place: str) -> str:
    """The card; `place` is the directory or repository that its code loads the model from."""
    lines = [f"# {plain(facts.title)}", "", plain(facts.about), ""]
    lines += [f"- {plain(name)}: {plain(text)}" for name, text in facts.facts.items()]
    lines += [f"- licence of {plain(name)}: {plain(licence)}" for name, licence in sorted(facts.licences.items())]
    if code := {"checkpoint": CHAT, "reward_model": SCORE}.get(facts.kind, ""):
        lines += ["", "## Use", "", "```python", code.format(place=json.dumps(place)).rstrip(), "```"]
    known = {name: value for name, value in facts.metrics.items() if value.value is not None}
    harness = " Metrics of lm_eval are of the task in their name." if any(map(_task, known)) else ""
    if known:
        lines += [
            "",
            "## Metrics",
            "",
            f"Measured on {plain(facts.measured_on)}. Brackets have the interval, where there is one.{harness}",
            "",
        ]
        lines += ["| metric | value |", "| --- | --- |"]
        lines += [f"| {plain(name)} | {plain(measured_text(value))} |" for name, value in known.items()]
    return f"---\n{_header(facts, known)}---\n\n" + "\n".join(lines) + "\n"


def _task(name: str) -> str:
    """The task of the lm-evaluation-harness that a metric is of; empty for any other metric."""
    parts = name.split("/")
    return parts[1] if parts[0] == "lm_eval" and len(parts) > 2 else ""


def _header(facts: ModelFacts, known: Mapping[str, Measured]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = "text-generation" if facts.kind == "checkpoint" else "text-classification"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=_task(name) or "alignflow",
            dataset_name=_task(name) or facts.measured_on,
            metric_type=name,
            metric_name=name,
            metric_value=value.value,
        )
        for name, value in known.items()
        if not name.endswith(OF_ANOTHER)
    ]
    more: dict[str, Any] = {"model_name": facts.title, "eval_results": results} if results else {}
    data: Any = ModelCardData(
        **licence_header(facts.licences),
        library_name=LIBRARY,
        pipeline_tag=task,
        tags=["alignflow", *facts.tags],
        base_model=list(facts.base_models) or None,
        datasets=list(facts.datasets) or None,
        **more,
    )
    return str(data.to_yaml()).rstrip("\n") + "\n"
