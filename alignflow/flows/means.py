"""How a walk does a step and asks a person: through Prefect inside one of its flows, and without it elsewhere.

A run whose steps are all in the store needs no Prefect: the command line walks it outside a flow, and nothing is imported or started.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from alignflow.data.configs.gates import GateConfig
from alignflow.data.gates import GateRecord
from alignflow.flows.gates import Answer
from alignflow.tasks.launch.call import StageCall, StageResult
from alignflow.tasks.launch.stage import run_stage
from alignflow.tasks.store.artifact_store import ArtifactStore


@dataclass(frozen=True)
class Means:
    """What a walk needs from outside.

    Attributes:
        do: Does a call: given the store, whether to do it again by force, and whether the store has its artifact.
        ask: Asks a person about a gate; None where nobody can be asked.
        begun: When this run began for the first time, as manifests write times; empty where a run never starts again.
        flow_run: The id of Prefect's flow run; empty outside one.
    """

    do: Callable[[StageCall, ArtifactStore, bool, bool], StageResult]
    ask: Callable[[GateConfig, GateRecord], Answer | None]
    begun: Callable[[], str]
    flow_run: Callable[[], str] = lambda: ""


def means() -> Means:
    """The means of the process as it is now."""
    if not in_flow():
        return Means(do=_do, ask=lambda gate, record: None, begun=lambda: "")
    from alignflow.flows.approval import ask_in_prefect, begun, flow_run
    from alignflow.tasks.launch.stage_task import run_as_task

    return Means(do=run_as_task, ask=ask_in_prefect, begun=begun, flow_run=flow_run)


def in_flow() -> bool:
    """Whether this is called inside a flow of Prefect; does not import it."""
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None


def _do(call: StageCall, store: ArtifactStore, force: bool, found: bool) -> StageResult:
    ref, ran = run_stage(call, store, force)
    return StageResult(ref=ref, ran=ran)
