"""Runs that wait for a person, for `alignflow status`, and the command `alignflow answer`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import typer

from alignflow.cli.fitting import short_time
from alignflow.cli.terminal import Console
from alignflow.flows.gates import login
from alignflow.server import runs
from alignflow.server.api import Api
from alignflow.server.discovery import server_api
from alignflow.server.layout import Home
from alignflow.server.runs import FlowRun
from alignflow.server.status import Waits
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.run_records import Question, RunRecord
from alignflow.tasks.store.waiting import waiting_runs

SHORT_ID = 8
PAUSED_BY_HAND = "somebody paused this run by hand; resume it on its page"
ON_ITS_PAGE = "the question is on its page"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(answer)


def answer(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A suspended run: its name, or the start of its id, from `alignflow status`."
        ),
    ],
    decision: Annotated[
        Literal["yes", "no"], typer.Argument(metavar="yes|no", help="yes: the run continues. no: it ends as failed.")
    ],
    who: Annotated[str, typer.Option(metavar="NAME", help="Who decides. Without it, your login name.")] = "",
    comment: Annotated[str, typer.Option(metavar="TEXT", help="The reason; it is stored with the name.")] = "",
) -> None:
    """Answer the question of a run that a gate suspended on the server. Name and comment are stored in the artifact's lineage."""
    home = Home(ArtifactStore(for_reading=True).root)
    answered = runs.answer(server_api(home), run, decision == "yes", who or login(), comment)
    then = "it continues within seconds" if decision == "yes" else "it ends as failed within seconds"
    Console().print(
        f"answered {answered.name}: {decision}; {then}\n{answered.url}", markup=False, highlight=False, soft_wrap=True
    )


def waiting(store: ArtifactStore, api: Api | None) -> list[Waits]:
    """The runs that wait for a person: those that the server suspended, then those that ended in a terminal.

    Args:
        store: Its run records hold the questions.
        api: The server, or None if none answers; then only the store's records are used.
    """
    asked = [(run, run.question) for run in waiting_runs(store) if run.question]
    questions = {run.flow_run: (run, question) for run, question in asked if question.suspended}
    if api is not None:
        served = [_served(run, questions.get(run.id, (None, None))[1]) for run in runs.suspended(api)]
    else:
        served = [_unserved(run, question) for run, question in questions.values()]
    return served + [_ended(run, question) for run, question in asked if not question.suspended]


def _served(run: FlowRun, question: Question | None) -> Waits:
    command = f"alignflow answer {run.id[:SHORT_ID]}"
    return Waits(
        run=run.name,
        id=run.id,
        since=run.since,
        gate=question.gate if question else "",
        question=question.text if question else ON_ITS_PAGE if run.asks else PAUSED_BY_HAND,
        answer=f"{command} yes" if run.asks else "",
        refuse=f"{command} no" if run.asks else "",
        url=run.url,
    )


def _unserved(run: RunRecord, question: Question) -> Waits:
    """A suspended run while no server is up; answering it needs one."""
    command = f"alignflow up && alignflow answer {run.flow_run[:SHORT_ID]}"
    return Waits(
        run=run.asked.name if run.asked else "",
        id=run.flow_run,
        since=run.began,
        gate=question.gate,
        question=question.text,
        answer=f"{command} yes",
        refuse=f"{command} no",
    )


def _ended(run: RunRecord, question: Question) -> Waits:
    """A run that ended in a terminal; running it again finds every finished step."""
    asked = run.asked
    words = ["alignflow", "run", asked.file if asked and asked.file else "RECIPE"]
    for place, value in asked.settings.items() if asked else ():
        words += ["--set", f"{place}={json.dumps(value, ensure_ascii=False)}"]
    words += ["--smoke"] if asked and asked.smoke else []
    for option, step in (("--only", asked.only), ("--until", asked.until)) if asked else ():
        words += [option, step] if step else []
    return Waits(
        run=asked.name if asked else "",
        since=run.began,
        gate=question.gate,
        question=question.text,
        answer=shlex.join([*words, "--approve", question.gate]),
    )


def waiting_lines(found: Sequence[Waits]) -> Iterator[str]:
    """Lines about runs that wait: the question, and below it the commands that answer it."""
    if found:
        yield f"{len(found)} {'run waits' if len(found) == 1 else 'runs wait'} for a person:"
    for each in found:
        yield f"  {each.run}, since {short_time(each.since)} UTC: {each.question}"
        for meaning, command in (("yes", each.answer), ("no", each.refuse)):
            if command:
                yield f"    {meaning}: {command}"
