"""An additional machine of a training on several: watches the shared store and joins the stages that need it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignflow.data.errors import UserError
from alignflow.data.run import Runtime
from alignflow.tasks.launch.child import spec_environment, supervised
from alignflow.tasks.store.artifact_store import ArtifactStore

POLL_S = 0.2
STALE_S = 20.0  # a launch that node 0 has not touched for so long counts as dead


def join_stages(store: ArtifactStore, node_rank: int, say: Callable[[str], None], once: bool = False) -> None:
    """Join each multi-node stage that appears in the store's staging area; with `once` return after the first.

    Config, data, processes per node and rendezvous come from node 0, which runs the recipe. The store must
    have the same path on all machines, and the alignflow versions must be equal.

    Raises:
        UserError: the number is 0, which is the node that runs the recipe, or it is too large for a stage.
    """
    if node_rank < 1:
        raise UserError(
            f"node {node_rank} cannot join", where="--node-rank", do="node 0 runs the recipe; the others are 1, 2, ..."
        )
    joined: set[str] = set()
    watch = _Watch()
    while True:
        for spec_path in sorted((store.root / "staging").glob("*/spec.json")):
            spec = _read(spec_path)
            if (
                spec is None
                or spec["launch"] in joined
                or Runtime.model_validate(spec["runtime"]).nodes == 1
                or not watch.moves(spec_path)
            ):
                continue
            joined.add(spec["launch"])
            if node_rank >= spec["runtime"]["nodes"]:
                raise UserError(
                    f"{spec['stage']} has {spec['runtime']['nodes']} nodes, but this one is number {node_rank}",
                    where="--node-rank",
                    do="they are numbered from 0; raise engine.nodes in the recipe",
                )
            say(f"{spec['stage']}: joined as node {node_rank} of {spec['runtime']['nodes']}")
            status = _join(spec_path, spec, node_rank, watch)
            say(
                f"{spec['stage']}: ended"
                + (f" with status {status}; see {_log(spec_path, node_rank)}" if status else "")
            )
            if once:
                return
        time.sleep(POLL_S)


class _Watch:
    """Finds the specs that node 0 works on: it touches them, and nobody touches a dead run's. Clocks are not compared."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, float]] = {}

    def moves(self, spec_path: Path) -> bool:
        """Whether the file was touched between two checks, the last one at most STALE_S ago."""
        try:
            now = spec_path.stat().st_mtime_ns
        except OSError:
            now = 0
        before, since = self._seen.get(spec_path, (now, -2 * STALE_S))
        if now != before:
            since = time.monotonic()
        self._seen[spec_path] = (now, since)
        return time.monotonic() - since < STALE_S


def _join(spec_path: Path, spec: dict[str, Any], node_rank: int, watch: _Watch) -> int:
    """Run this node's processes of a stage until they end or their launch is gone."""
    arguments = [str(spec_path), "--node-rank", str(node_rank)]
    with supervised(arguments, _log(spec_path, node_rank), spec_environment(spec)) as supervisor:
        while True:
            try:
                return supervisor.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if not watch.moves(
                    spec_path
                ):  # node 0 has published, failed or died, and our processes have not noticed
                    return 1


def _log(spec_path: Path, node_rank: int) -> Path:
    """The log of this node's processes."""
    return spec_path.parents[2] / "runs" / f"{spec_path.parent.name}-node-{node_rank}.log"


def _read(spec_path: Path) -> dict[str, Any] | None:
    """The spec of a launch, or None if it is missing or incomplete."""
    try:
        spec = json.loads(spec_path.read_text())
    except (OSError, ValueError):
        return None
    return spec if "launch" in spec else None
