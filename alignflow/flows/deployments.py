"""The deployments of a server in one table, and their registration: `python -m alignflow.flows.deployments [ROLE=POOL ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import Flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, DeploymentUpdate
from prefect.client.schemas.filters import FlowFilter, FlowFilterId
from prefect.utilities.callables import parameter_schema

from alignflow.data import catalogue
from alignflow.data.errors import AlignflowError, UserError
from alignflow.flows import deployed
from alignflow.flows.recipe_values import WHERE_VALUES_ARE, form_of, of_one_recipe
from alignflow.flows.schedules import SCHEDULE
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.dashboard import ARTIFACT_KEY, RUNS_OF_THE_STORE, runs_markdown, shown_runs, write_dashboard
from alignflow.tasks.store.store_root import home_is_set

GPU, CPU, DEFAULT = "gpu", "cpu", "default"


@dataclass(frozen=True)
class Deployed:
    """A flow that a server offers: its entry point, the role of its pool, and tags to find it."""

    flow: Flow[..., Any]
    role: str
    tags: tuple[str, ...] = ()


def _stages() -> dict[str, Deployed]:
    rows = {name: (catalogue.STAGES[name], deployed.stage_flow(name)) for name in deployed.STAGE_FLOWS}
    return {
        name: Deployed(flow, GPU if row.trains or row.generates or row.scores else CPU, ("stage",))
        for name, (row, flow) in rows.items()
    }


DEPLOYMENTS: Mapping[str, Deployed] = {
    "pipeline": Deployed(deployed.pipeline, GPU),
    "sweep": Deployed(deployed.sweep, GPU),
    **_stages(),
    "rlaif-data": Deployed(deployed.rlaif_data, GPU),
}


def register(pools: Mapping[str, str]) -> list[str]:
    """Create or update every deployment on the server that the environment names; users' schedules are kept.

    If the environment also names the store, the server shows its runs.

    Args:
        pools: Role -> name of a work pool that exists: `gpu` for flows that train or generate, `cpu` for the others,
            `default` for flows whose role has no pool.

    Returns:
        The names of the deployments, which are also those of their flows.

    Raises:
        UserError: a flow's role has no pool, or the server has no pool of that name.
    """
    with get_client(sync_client=True) as client:
        there = sorted(pool.name for pool in client.read_work_pools())
        for name in sorted(set(pools.values()) - set(there)):
            raise UserError(
                f"the server has no work pool {name!r}", where="pools", do=f"it has: {', '.join(there) or 'none'}"
            )
        for name, entry in DEPLOYMENTS.items():
            _register(client, name, entry, pool_of(entry.role, pools))
        if home_is_set():
            show_runs(client, ArtifactStore())
    return list(DEPLOYMENTS)


def pool_of(role: str, pools: Mapping[str, str]) -> str:
    """The pool of a role, or the default pool; raises UserError if there is neither."""
    if role not in pools and DEFAULT not in pools:
        raise UserError(f"no work pool for {role}", where="pools", do=f"name one as {role} or as {DEFAULT}")
    return pools.get(role) or pools[DEFAULT]


def _register(client: SyncPrefectClient, name: str, entry: Deployed, pool: str) -> None:
    """Update an existing deployment field by field: creating it again would delete its schedules."""
    schema = parameter_schema(entry.flow).model_dump_for_openapi() | {"additionalProperties": False}
    fields: dict[str, Any] = {
        "entrypoint": f"{deployed.__name__}.{entry.flow.fn.__name__}",
        "work_pool_name": pool,
        "parameter_openapi_schema": schema,
        "enforce_parameter_schema": True,
        "description": _description(name, entry.flow),
    }
    flow = client.create_flow_from_name(entry.flow.name)
    of_flow = client.read_deployments(flow_filter=FlowFilter(id=FlowFilterId(any_=[flow])))
    for known in of_flow:  # its own, and those that were made for schedules
        own = dict(fields)
        if SCHEDULE in known.tags:
            own["parameter_openapi_schema"], own["description"] = of_one_recipe(
                schema, fields["description"], name, known.parameters
            )
        client.update_deployment(known.id, DeploymentUpdate(**own, tags=known.tags))
    if name not in {known.name for known in of_flow}:
        client.create_deployment(flow, name, **fields, tags=["alignflow", *entry.tags])


def _description(name: str, flow: Flow[..., Any]) -> str:
    """What a flow does, and where the values of a recipe are seen."""
    does = (flow.description or "").split("\n\nArgs:")[0]
    return does if form_of(name) is None else f"{does}\n\n{WHERE_VALUES_ARE}"


def show_runs(client: SyncPrefectClient, store: ArtifactStore) -> None:
    """Show runs from before this server existed: a list on its page, and the dashboard in the store.

    A failure is only a warning: the server works without them.
    """
    try:
        lines = shown_runs(store)
        write_dashboard(store, lines=lines)
        made = ArtifactCreate(
            type="markdown", key=ARTIFACT_KEY, data=runs_markdown(store, lines), description=RUNS_OF_THE_STORE
        )
        client.create_artifact(made)
    except Exception as error:  # noqa: BLE001 (the server works without it)
        what = " ".join(str(error).split())
        print(f"warning: the store's runs are not shown: {type(error).__name__}: {what}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """Register everything and print the names; the exit status is 2 for a wrong argument."""
    parser = argparse.ArgumentParser(
        "alignflow.flows.deployments", description="Create or update every deployment on the server."
    )
    parser.add_argument(
        "pools",
        nargs="*",
        metavar="ROLE=POOL",
        type=_role_and_pool,
        default=[(DEFAULT, DEFAULT)],
        help="work pool of a role: gpu, cpu, or default; without any, every flow goes to the pool `default`",
    )
    try:
        print("\n".join(register(dict(parser.parse_args(arguments).pools))))
    except AlignflowError as error:
        print(f"alignflow: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _role_and_pool(text: str) -> tuple[str, str]:
    role, _, pool = text.partition("=")
    if role not in (GPU, CPU, DEFAULT) or not pool:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROLE=POOL with a role of gpu, cpu, default")
    return role, pool


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
