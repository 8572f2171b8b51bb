"""Makers that tests of flows share: artifacts with nothing in them, under the keys that a recipe gives its steps."""

from alignflow.data import catalogue
from alignflow.data.artifacts import Manifest, digest_of, file_digest, part_digests, payload_files
from alignflow.data.step_names import base_of
from alignflow.flows.calls import Caller

PARTS = {
    "prepare": ("demonstrations", "prompts", "evaluation", "general", "preferences", "unpaired"),
    "sample": ("completions",),
    "label": ("preferences", "rankings", "unpaired", "win_rates"),
    "split": ("part.1", "part.2", "part.3"),
}


def publish(store, call, content="", warnings=(), metrics=None, texts=None):
    """Publish an artifact of `call` that holds nothing but `content`, and in its parts `texts` where they are given; returns its manifest."""
    area = store.stage_area(call.key)
    (area / "payload" / "tokenizer.json").write_text(f"{call.name} {content}")
    for part in PARTS.get(base_of(call.name), ()):
        (area / "payload" / part).mkdir()
        (area / "payload" / part / "train.txt").write_text((texts or {}).get(part, f"{call.key} {part} {content}"))
    files = {name: file_digest(area / "payload" / name) for name in payload_files(area / "payload")}
    manifest = Manifest(
        kind=catalogue.STAGES[call.stage].makes,
        key=call.key,
        digest=digest_of(files),
        stage=call.stage,
        files=files,
        parts=part_digests(files),
        components=call.components,
        config=call.config,
        inputs=call.inputs,
        versions={},
        fingerprint="",
        libraries={},
        runtime=call.runtime.model_dump(),
        seed=0,
        metrics=metrics or {},
        warnings=list(warnings),
        cost={"wall_s": 1.5},
        created="2026-01-01T00:00:00",
    )
    store.publish(area, manifest)
    return manifest


def publish_all(recipe, store, until=None, metrics=None):
    """Publish every step of a recipe, or those before `until`, with the metrics that `metrics` has for it; returns step -> manifest."""
    caller, made = Caller(recipe, store), {}
    for node in caller.nodes:
        if node.name == until:
            break
        call = caller.call(node, {name: manifest.ref() for name, manifest in made.items()})
        made[node.name] = publish(store, call, metrics=(metrics or {}).get(node.name))
    return made
