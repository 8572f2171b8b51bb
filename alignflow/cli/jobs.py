"""The jobs that `alignflow new` writes recipes for: the data that each needs, and the job that fits given data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignflow.data.catalogue import suggest
from alignflow.data.errors import UserError, quoted


@dataclass(frozen=True)
class Source:
    """A data source for a recipe.

    Attributes:
        path: As given.
        kinds: The tables that its rows can become, best first; empty for a Hub id, which is not read.
    """

    path: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A kind of run.

    Attributes:
        summary: What it does, in one sentence.
        needs: The data that it needs, in words.
        main: It needs one of these tables; the most direct first.
        extra: Further tables that it can use.
        one_kind: Whether it learns from only one of the main tables.
    """

    summary: str
    needs: str
    main: tuple[str, ...]
    extra: tuple[str, ...] = ()
    one_kind: bool = False


JOBS: Mapping[str, Job] = {
    "sft": Job(
        "Fine-tune the model on demonstrations.", "demonstrations (prompts with good answers)", ("demonstrations",)
    ),
    "dpo": Job(
        "Align the model by DPO with pairs of a better and a worse answer.",
        "pairs (prompt, chosen, rejected)",
        ("preferences",),
        ("demonstrations", "prompts"),
    ),
    "kto": Job(
        "Align the model by KTO with answers that are labelled good or bad.",
        "answers with a good or bad label (prompt, completion, label), or pairs (prompt, chosen, rejected)",
        ("unpaired", "preferences"),
        ("demonstrations", "prompts"),
        one_kind=True,
    ),
    "rlaif": Job(
        "A judge labels answers to the prompts, and DPO learns from the labels.",
        "prompts, or data that has prompts",
        ("prompts", "completions", "demonstrations"),
    ),
    "ppo": Job(
        "A reward model scores the model's own answers, and PPO learns from the scores.",
        "prompts or demonstrations (a judge then labels answers for the reward model), or pairs (prompt, chosen, rejected)",
        ("preferences", "prompts", "demonstrations"),
    ),
    "reward": Job(
        "Train a reward model.",
        "pairs (prompt, chosen, rejected), ranked answers, or answers with a good or bad label",
        ("preferences", "rankings", "unpaired"),
        ("demonstrations",),
        one_kind=True,
    ),
}
"""Value of --task -> the job."""
WORDS = {
    "demonstrations": "demonstrations",
    "prompts": "prompts without answers",
    "preferences": "pairs",
    "completions": "several answers to a prompt",
    "unpaired": "answers labelled good or bad",
    "rankings": "answers with scores",
}
"""Table -> what its rows are."""
PICKED = {"preferences": "dpo", "rankings": "dpo", "unpaired": "kto", "completions": "rlaif", "prompts": "rlaif"}
"""Best use of a source -> its job, the most specific first; sft for anything else."""


def job_for(task: str) -> Job:
    """The job of a --task value; raises UserError with the nearest value."""
    if task not in JOBS:
        raise UserError(f"unknown task {quoted(task)}", where="--task", do=suggest(task, JOBS))
    return JOBS[task]


def best_use(kinds: Sequence[str], where: str) -> str:
    """The best table for a source's rows among those that they can become; raises UserError if there is none.

    Args:
        kinds: What `detect.kinds_of` found.
        where: The source, for messages.
    """
    if kinds[:1] == ["unpaired"]:
        return "unpaired"
    if "rankings" in kinds and kinds[0] in ("rankings", "preferences"):
        return "rankings"
    use = next(
        (kind for kind in ("preferences", "demonstrations", "completions", "rankings", "prompts") if kind in kinds), ""
    )
    if not use and "texts" in kinds:
        raise UserError(
            "this is plain text, and nothing in it says which part is the prompt",
            where=where,
            do="write a recipe with `format: text` for it: then the first sentence is the prompt, and the rest is the answer",
        )
    if not use:
        raise UserError(
            "no row of this source can be used", where=where, do="`alignflow formats` lists what rows may look like"
        )
    return use


def picked_task(sources: Sequence[Source]) -> tuple[str, str]:
    """The job that fits the data, and why."""
    uses = [source.kinds[0] for source in sources if source.kinds]
    use = next((kind for kind in PICKED if kind in uses), "demonstrations")
    if use == "rankings" and not any("preferences" in source.kinds for source in sources):
        return "reward", f"the data holds {WORDS[use]}"
    task = PICKED.get(use, "sft")
    if not uses:
        return task, "the data is a Hub id, which is not read here and is assumed to be demonstrations"
    return task, f"the data holds {WORDS[use]}"


def shared_out(task: str, sources: Sequence[Source]) -> dict[str, list[Source]]:
    """Table -> the sources that the job reads into it. A source that the job cannot use is in none.

    Raises:
        UserError: the job needs data that is not there.
    """
    job, found = job_for(task), dict[str, list[Source]]()
    for source in sources:
        if kind := _use(source, job.main, job.extra):
            found.setdefault(kind, []).append(source)
    given = [kind for kind in job.main if kind in found]
    if job.one_kind:
        for other in given[1:]:
            found[given[0]] += [source for source in found.pop(other) if given[0] in source.kinds]
    if "completions" in found:  # these are labelled as they are: nothing is sampled, so prompts would get no answers
        found.pop("prompts", None)
    if not given:
        what = "; ".join(f"{source.path} holds {WORDS[source.kinds[0]]}" for source in sources if source.kinds)
        raise UserError(
            f"{task} needs {job.needs}, but {'there is no data' if not sources else 'there are none'}{f': {what}' if what else ''}",
            where="--data",
            do=_instead(sources),
        )
    return found


def _use(source: Source, main: Sequence[str], extra: Sequence[str]) -> str:
    """The table that a job reads a source into: its best use if the job takes that, else the first main table that it can become."""
    if not source.kinds:
        return main[0]
    if source.kinds[0] in (*main, *extra):
        return source.kinds[0]
    return next((kind for kind in main if kind in source.kinds), "")


def _instead(sources: Sequence[Source]) -> str:
    """What to do if a job's data is missing."""
    if not sources:
        return "pass --data FILE, once for each file"
    task, _ = picked_task(sources)
    judged = "" if task == "rlaif" else ", or --task rlaif to let a judge label the model's own answers"
    return f"pass such data with --data, or use --task {task}, which can read this data{judged}"
