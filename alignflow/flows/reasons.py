"""Why a step has to run: the difference from the last run of the same recipe, or from the nearest artifact in the store. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from alignflow.flows.steps import section_of
from alignflow.tasks.keys.key import difference, nearest
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.run_records import written

FAR = 3
"""An artifact that differs in more components was made for another purpose, so a comparison is useless."""
SHOWN = 8
"""Number of changes that are listed; the rest is only counted."""
_STATE = re.compile(r"step-(\d{8})")


class Reasons:
    """Says why the steps of one recipe have to run.

    Args:
        store: The store.
        recipe: The recipe's name; its earlier runs are compared with.
    """

    def __init__(self, store: ArtifactStore, recipe: str):
        self._store, self._recipe = store, recipe

    def why(self, call: StageCall) -> str:
        """One line: why a call that is not in the store has to run, and where its training resumes."""
        why, step = self._why(call), saved_step(self._store, call.key)
        return f"{why}; resumes after step {step}" if step else why

    def _why(self, call: StageCall) -> str:
        if call.key in self._store.reasons:
            return self._store.reasons[call.key]
        earlier = self._last_keys.get(call.name, "")
        if earlier == call.key:
            return "made before, but no longer in the store"
        changes = self._since(earlier, call)
        if not changes:
            changes = nearest(call.components, call.config, self._store.manifests(call.stage))
            if not changes or len(changes) > FAR:
                return "first time"
        section = section_of(call.name)
        listed = [change.replace("config.", f"config.{section}.", 1) for change in changes[:SHOWN]]
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        return "; ".join(listed) + more

    def _since(self, earlier: str, call: StageCall) -> list[str]:
        """Changes since the artifact of the last run of this recipe; empty if there is none."""
        found = self._store.find(earlier) if earlier else None
        return difference(call.components, found.components, (call.config, found.config)) if found else []

    @cached_property
    def _last_keys(self) -> Mapping[str, str]:
        """Step -> key of its artifact in the newest run of this recipe that reached the step."""
        keys: dict[str, str] = {}
        for record in written(self._store.root):
            if record.asked is not None and record.asked.name == self._recipe:
                keys = {**record.steps, **keys}
        return keys


def saved_step(store: ArtifactStore, key: str) -> int | None:
    """The last training step that a stopped run saved under this key, by any process of a shared store; None if there is none."""
    places = (store.root / "work").glob(f"*/{key}/step-*" if store.sharing else f"{key}/step-*")
    return max((int(found[1]) for place in places if (found := _STATE.fullmatch(place.name))), default=None)
