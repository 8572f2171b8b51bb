"""A further machine of a training on several: watches a store that all of them see, and joins the stages that need it."""

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
STALE_S = 20.0  # after which a launch that node 0 does not touch is taken for dead


def join_stages(store: ArtifactStore, node_rank: int, say: Callable[[str], None], once: bool = False) -> None:
    """Join each stage on several nodes that appears in the store's staging area; returns after one where `once` is set.

    The stage's config, data, processes per node and rendezvous come from node 0, which runs the recipe. The store must
    lie under the same path on all machines, and alignflow be the same.

    Raises:
        UserError: node 0 is the one that runs the recipe, or a stage has no place for this number.
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
                    f"{spec['stage']} has {spec['runtime']['nodes']} nodes, and this one is number {node_rank}",
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
    """Which specs node 0 is at work on: it touches them, and a dead run's stay as they are. No clock is compared."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, float]] = {}

    def moves(self, spec_path: Path) -> bool:
        """Whether the file was touched between two looks at it, the last one at most STALE_S ago."""
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
    """Run this node's processes of a stage until they end, or the launch that they belong to is gone."""
    arguments = [str(spec_path), "--node-rank", str(node_rank)]
    with supervised(arguments, _log(spec_path, node_rank), spec_environment(spec)) as supervisor:
        while True:
            try:
                return supervisor.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if not watch.moves(spec_path):  # node 0 has published, given up or died, and ours have not noticed
                    return 1


def _log(spec_path: Path, node_rank: int) -> Path:
    """Where this node's processes print."""
    return spec_path.parents[2] / "runs" / f"{spec_path.parent.name}-node-{node_rank}.log"


def _read(spec_path: Path) -> dict[str, Any] | None:
    """The spec of a launch; None where there is none that is whole."""
    try:
        spec = json.loads(spec_path.read_text())
    except (OSError, ValueError):
        return None
    return spec if "launch" in spec else None
