"""The revising stage: a model criticises each answer by a principle and rewrites it (Bai et al. 2022, arXiv 2212.08073, section 3.1)."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.revising import ReviseConfig
from alignflow.data.dropped import kept_line
from alignflow.data.errors import DataError, TrainingError
from alignflow.data.principle_files import WrittenPrinciple, read_principles
from alignflow.data.records import assistant, read_table, row_id, user, write_table
from alignflow.data.run import Run, Share, write_json
from alignflow.models.generation.base import Sampling, generator_identity
from alignflow.models.generation.journal import RowJournal, RowWork, model_identity
from alignflow.models.generation.named_models import named_models
from alignflow.models.judges.blanks import is_blank, same_answer
from alignflow.models.judges.fences import fence_of
from alignflow.models.judges.judge_model import JudgeModel, Question, Writing, make_judge_model
from alignflow.models.judges.pairing import is_label_held_out
from alignflow.models.judges.questions import QuestionTemplate, question_seed, shown_turns

BLANK_ANSWER = "blank answer"
NO_CRITIQUE = "no critique"
NO_REVISION = "no revision"
ECHO = "repeats the question"
UNCHANGED = "unchanged"
_CRITIQUE = ("conversation (list of role, content)", "answer", "principle", "fence")
_SHOWN = 5


def revise(config: ReviseConfig, *, completions: Path, policy: Path | None = None, run: Run) -> dict[str, float | None]:
    """Revise the answers of `completions`/train.parquet.

    Writes completions (each row's answers, then the revised ones), preferences (revised over original), demonstrations (the revised
    answers), revisions.jsonl (every critique and revision with its principle) and statistics.json.

    Raises:
        DataError: there are no answers.
        TrainingError: no answer could be revised.
    """
    rows = _rows(completions)
    with closing(_Reviser(config, policy, run)) as reviser:
        tasks = _tasks(config, reviser.identity, rows)
        results = RowJournal(run.rows, run.note).compute(*_work(config, reviser, tasks, run))
    dropped = Counter(reason for task, result in zip(tasks, results, strict=True) if (reason := outcome(task, result)))
    revised = len(results) - sum(dropped.values())
    if not revised:
        raise TrainingError(
            f"none of {len(results)} answers was revised ({', '.join(f'{count} {why}' for why, count in sorted(dropped.items()))})",
            where="revise",
            do="use a model that follows instructions, or set revise.max_new_tokens and revise.max_length to larger values",
        )
    if dropped:
        run.note(kept_line("revised answers", revised, dropped))
    pairs = _write_tables(config, rows, tasks, results, run)
    _write_revisions(tasks, results, run)
    statistics = {
        "answers": len(results),
        "revised": revised,
        "dropped": dict(sorted(dropped.items())),
        "pairs": pairs,
        "principles": dict(
            sorted(Counter(step["principle"] for result in results for step in result["rounds"]).items())
        ),
        "samples": [
            {"original": task.text, **result} for task, result in list(zip(tasks, results, strict=True))[:_SHOWN]
        ],
    }
    write_json(run.out / "statistics.json", statistics)
    if revised < len(results) / 2:
        run.warn(f"only {revised} of {len(results)} answers were revised: {dict(sorted(dropped.items()))}")
    return {
        "answers": float(len(results)),
        "revised": float(revised),
        "unchanged": float(dropped[UNCHANGED]),
        "pairs/train": float(pairs["train"]),
        "pairs/heldout": float(pairs["heldout"]),
    }


def fill_revisions(
    config: ReviseConfig, *, completions: Path, policy: Path | None = None, run: Run, share: Share
) -> None:
    """Journal a shard of the revisions of `revise`."""
    rows = _rows(completions)
    with closing(_Reviser(config, policy, run)) as reviser:
        tasks = _tasks(config, reviser.identity, rows)
        RowJournal(run.rows, run.note).fill(_work(config, reviser, tasks, run), share)


@dataclass(frozen=True)
class _Task:
    """One answer to revise: its row and place, the conversation before it, its text, and its id in the journal."""

    row: int
    index: int
    name: str
    prompt: Sequence[Mapping[str, Any]]
    text: str
    identity: str


def outcome(task: _Task, result: Mapping[str, Any]) -> str:
    """Why an answer has no revision; empty if it has one."""
    if result["reason"]:
        return str(result["reason"])
    return UNCHANGED if same_answer(task.text, result["text"]) else ""


def _rows(completions: Path) -> list[dict[str, Any]]:
    rows = read_table(completions / "train.parquet")
    if not rows:
        raise DataError("no completions to revise", where=str(completions), do="sample some, or set data.completions")
    return rows


def _tasks(config: ReviseConfig, who: str, rows: Sequence[dict[str, Any]]) -> list[_Task]:
    models = named_models(config)
    settings = config.model_dump(
        include={"rounds", "critique_tokens", "max_new_tokens", "temperature", "top_p", "seed", "max_length"}
    ) | {
        "thinking": [config.thinking_tokens, config.thinking_temperature],
        "template": dict(config.chat_template_kwargs),
        **generator_identity(config.generator),
        **({"models": models} if models else {}),
    }
    return [
        _Task(
            number,
            index,
            row["id"],
            row["prompt"],
            text,
            row_id("revision", who, settings, row["id"], row["prompt"], index, text),
        )
        for number, row in enumerate(rows)
        for index, text in enumerate(row["completions"])
    ]


def _work(config: ReviseConfig, reviser: _Reviser, tasks: Sequence[_Task], run: Run) -> RowWork:
    def compute(batch: list[int]) -> list[Any]:
        run.count_rows(len(batch))
        return reviser.revised([tasks[index] for index in batch])

    identities = [task.identity for task in tasks]
    return RowWork(identities, config.batch_size, compute, lambda done, total: run.progress(done, total, "answers"))


class _Reviser:
    """A language model with the questions for critique and revision."""

    def __init__(self, config: ReviseConfig, policy: Path | None, run: Run):
        path = Path(config.model) if config.model is not None else policy
        if path is None:
            raise DataError("no model to revise with", where="revise.model", do="set it to a model")
        self._config = config
        self._principles = read_principles(config.principles)
        self._critique = QuestionTemplate(config.critique_prompt, _CRITIQUE, run, "revise.critique_prompt")
        self._revision = QuestionTemplate(config.revision_prompt, ("principle",), None, "revise.revision_prompt")
        self._model: JudgeModel = make_judge_model(path, config, config.generator, run)
        sources = self._critique.source + self._revision.source + repr(self._principles)
        self.identity = text_digest(sources + self._model.identity + model_identity(path))

    def close(self) -> None:
        """Free the model's memory."""
        self._model.close()

    def revised(self, tasks: Sequence[_Task]) -> list[dict[str, Any]]:
        """For each answer its last text, whether that ended by itself, why there is no text, and all rounds."""
        found: list[dict[str, Any]] = [
            {
                "text": task.text,
                "ended": True,
                "tokens": None,
                "reason": BLANK_ANSWER if is_blank(task.text) else "",
                "rounds": [],
            }
            for task in tasks
        ]
        for number in range(self._config.rounds):
            going = [place for place, result in enumerate(found) if not result["reason"]]
            self._round(number, [tasks[place] for place in going], [found[place] for place in going])
        return found

    def _round(self, number: int, tasks: Sequence[_Task], results: Sequence[dict[str, Any]]) -> None:
        """One critique and revision of each answer, written to `results`."""
        drawn = [self._drawn(task, number) for task in tasks]
        asked = [
            self._critique.fenced(self.identity, task.prompt, {"answer": result["text"]}, principle=principle.text)
            for task, result, principle in zip(tasks, results, drawn, strict=True)
        ]
        critiques = self._write(asked, self._config.critique_tokens, tasks)
        going = []
        for place, (result, principle, critique) in enumerate(zip(results, drawn, critiques, strict=True)):
            result["rounds"].append({"principle": principle.name, "critique": critique.text, "revision": ""})
            result["reason"] = critique.reason or (NO_CRITIQUE if is_blank(critique.text) else "")
            if not result["reason"]:
                going.append(place)
        followed = [
            Question(
                (
                    *asked[place].messages,
                    *assistant(critiques[place].text),
                    *user(self._revision.text(principle=drawn[place].text)),
                )
            )
            for place in going
        ]
        revisions = self._write(followed, self._config.max_new_tokens, [tasks[place] for place in going])
        for place, revision in zip(going, revisions, strict=True):
            _take_up(results[place], revision, self._fence(tasks[place], results[place]["text"]))

    def _drawn(self, task: _Task, number: int) -> WrittenPrinciple:
        weights = [principle.weight for principle in self._principles]
        draw = random.Random(f"{self._config.seed}/{task.name}/{task.index}/{number}")
        return draw.choices(self._principles, weights)[0]

    def _write(self, questions: Sequence[Question], tokens: int, tasks: Sequence[_Task]) -> list[Writing]:
        sampling = Sampling(tokens, temperature=self._config.temperature, top_p=self._config.top_p)
        # Two equal answers of a prompt are two samples: their positions give them different seeds.
        seeds = [
            question_seed(self._config.seed, question, task.index)
            for question, task in zip(questions, tasks, strict=True)
        ]
        return self._model.write(questions, sampling, seeds) if questions else []

    def _fence(self, task: _Task, answer: str) -> str:
        return fence_of(self.identity, shown_turns(task.prompt), answer)


def _take_up(result: dict[str, Any], revision: Writing, fence: str) -> None:
    text = revision.text.strip()
    result["rounds"][-1]["revision"] = text
    result["reason"] = revision.reason or (NO_REVISION if is_blank(text) else ECHO if fence in text else "")
    if not result["reason"]:
        result |= {"text": text, "ended": revision.ended, "tokens": revision.tokens}


def _write_tables(
    config: ReviseConfig,
    rows: Sequence[dict[str, Any]],
    tasks: Sequence[_Task],
    results: Sequence[dict[str, Any]],
    run: Run,
) -> dict[str, int]:
    """Write completions, preferences and demonstrations; returns the number of pairs by split."""
    made = [_with_lists(row) for row in rows]
    pairs: dict[str, list[dict[str, Any]]] = {"train": [], "heldout": []}
    shown: dict[str, list[dict[str, Any]]] = {"train": [], "heldout": []}
    for task, result in zip(tasks, results, strict=True):
        if outcome(task, result):
            continue
        row = rows[task.row]
        for name, value in (("completions", result["text"]), ("ended", result["ended"]), ("tokens", result["tokens"])):
            made[task.row][name].append(value)
        side = "heldout" if is_label_held_out(row["prompt"], config.heldout_fraction) else "train"
        pairs[side].append(_pair(row, task, result))
        shown[side].append(
            {
                "id": row_id("revised", row["id"], task.index, result["text"]),
                "source": row["source"],
                "messages": [*row["prompt"], *assistant(result["text"])],
            }
        )
    write_table(made, "completions", run.out / "completions" / "train.parquet")
    for side in pairs:
        write_table(pairs[side], "preferences", run.out / "preferences" / f"{side}.parquet")
        write_table(shown[side], "demonstrations", run.out / "demonstrations" / f"{side}.parquet")
    return {side: len(found) for side, found in pairs.items()}


def _with_lists(row: Mapping[str, Any]) -> dict[str, Any]:
    count = len(row["completions"])
    return {
        **row,
        "completions": list(row["completions"]),
        "ended": list(row["ended"] or [True] * count),
        "tokens": list(row["tokens"] or [None] * count),
    }


def _pair(row: Mapping[str, Any], task: _Task, result: Mapping[str, Any]) -> dict[str, Any]:
    """The revised answer over the original one; without a probability, since no judge compared them."""
    return {
        "id": row_id("revised pair", row["id"], task.index, result["text"]),
        "source": row["source"],
        "prompt": row["prompt"],
        "chosen": assistant(result["text"]),
        "rejected": assistant(task.text),
        "chosen_ended": result["ended"],
        "rejected_ended": row["ended"][task.index] if row["ended"] else True,
    }


def _write_revisions(tasks: Sequence[_Task], results: Sequence[dict[str, Any]], run: Run) -> None:
    lines = (
        json.dumps(
            {"id": task.name, "completion": task.index, "original": task.text, **result},
            ensure_ascii=False,
            sort_keys=True,
        )
        for task, result in zip(tasks, results, strict=True)
    )
    (run.out / "revisions.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
