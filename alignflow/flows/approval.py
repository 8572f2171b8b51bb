"""Asks a person about a gate through Prefect: the flow run is suspended, and starts again from the top when resumed."""

from __future__ import annotations

from datetime import UTC
from typing import Literal

from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from alignflow.data.artifacts import text_digest
from alignflow.data.configs.gates import GateConfig
from alignflow.data.gates import GateRecord, limits
from alignflow.data.report.markdown import escaped


class Approval(RunInput):
    """The form that the web page shows for a suspended run."""

    approve: Literal["yes", "no"] = Field(
        title="Approve", description="yes: the run continues. no: it ends here, as failed."
    )
    who: str = Field(
        min_length=1,
        max_length=100,
        title="Who decides",
        description="Your name; it is stored in the artifact's lineage.",
    )
    comment: str = Field(
        default="", max_length=1000, title="Comment", description="The reason; it is stored with your name."
    )


def ask_in_prefect(gate: GateConfig, record: GateRecord) -> tuple[bool, str, str] | None:
    """The answer of a person: yes or no, who, comment. None if the run is not of a deployment, because nobody would restart it.

    The first call does not return: Prefect ends the process and starts the flow again once somebody has answered. It
    finds every step in the store, gets here again, and receives the answer.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        return None
    form = Approval.with_initial_data(description=question(gate, record))
    # The same question in every attempt: another artifact or limit is another question.
    key = f"gate-{text_digest(f'{record.gate}/{record.digest}/{limits(gate)}')[:24]}"
    answer = suspend_flow_run(wait_for_input=form, key=key)
    return answer.approve == "yes", answer.who, answer.comment


def begun() -> str:
    """First start of this flow run, in the format of manifests; empty outside a flow run. A resumed run keeps it."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.start_time is None:
        return ""
    return run.start_time.astimezone(UTC).isoformat(timespec="milliseconds")


def flow_run() -> str:
    """The id of this flow run; empty outside a flow run. A resumed run keeps it."""
    context = FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else ""


def question(gate: GateConfig, record: GateRecord) -> str:
    """The text for the person, in Markdown."""
    value = "not measured" if record.value is None else f"{record.value:.6g}"
    lines = [
        f"## Gate {escaped(gate.label)}",
        "",
        *([escaped(gate.why), ""] if gate.why else []),
        "| step | metric | measured | should be |",
        "| --- | --- | --- | --- |",
        f"| {escaped(gate.stage)} | {escaped(gate.metric)} | **{value}** | {limits(gate)} |",
        "",
        f"Artifact `{record.key}`",
        "",
        "With *yes* the run continues from here; nothing is computed again. With *no* it ends, and nothing after this step runs.",
    ]
    return "\n".join(lines)
