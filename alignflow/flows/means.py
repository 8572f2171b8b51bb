"""How a walk runs a step and asks a person: through Prefect inside a flow, and without it elsewhere.

A run whose steps are all in the store needs no Prefect: the command line walks it outside a flow, and Prefect is not imported.
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
    """The functions that a walk gets from its caller.

    Attributes:
        do: Runs a call; also takes the store, `force`, and whether the store has its artifact.
        ask: Asks a person about a gate; None if nobody can be asked.
        begun: First start of this run, in the format of manifests; empty if a run never restarts.
        flow_run: The id of Prefect's flow run; empty outside a flow.
    """

    do: Callable[[StageCall, ArtifactStore, bool, bool], StageResult]
    ask: Callable[[GateConfig, GateRecord], Answer | None]
    begun: Callable[[], str]
    flow_run: Callable[[], str] = lambda: ""


def means() -> Means:
    """The means for the current context of this process."""
    if not in_flow():
        return Means(do=_do, ask=lambda gate, record: None, begun=lambda: "")
    from alignflow.flows.approval import ask_in_prefect, begun, flow_run
    from alignflow.tasks.launch.stage_task import run_as_task

    return Means(do=run_as_task, ask=ask_in_prefect, begun=begun, flow_run=flow_run)


def in_flow() -> bool:
    """Whether this is called inside a Prefect flow; does not import Prefect."""
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None


def _do(call: StageCall, store: ArtifactStore, force: bool, found: bool) -> StageResult:
    ref, ran = run_stage(call, store, force)
    return StageResult(ref=ref, ran=ran)
