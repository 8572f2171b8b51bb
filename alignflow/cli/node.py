"""`alignflow node`: adds a machine to a training on several machines."""

from __future__ import annotations

from typing import Annotated

import typer

from alignflow.tasks.launch.node import join_stages
from alignflow.tasks.store.artifact_store import ArtifactStore


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(node)


def node(
    node_rank: Annotated[
        int, typer.Option("--node-rank", metavar="N", help="Number of this machine: 1, 2, ... Node 0 runs the recipe.")
    ],
    once: Annotated[bool, typer.Option("--once", help="Join one stage only, then exit.")] = False,
) -> None:
    """Join the training of a recipe that another machine runs with engine.nodes. ALIGNFLOW_HOME must be the store that both machines share."""
    store = ArtifactStore()
    typer.echo(f"node {node_rank} waits for stages in {store.root}")
    join_stages(store, node_rank, typer.echo, once)
