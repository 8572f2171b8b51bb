"""Changes single bytes of a finished store, and says who finds each change and whether it is healed.

`python benchmarks/byte_flips.py [--flips 2000] [--whole 60] [--seed 0] [--store FINISHED --recipe FILE] [--table FILE]`: runs
recipes/tiny.yaml with two gates in a store of its own (or takes a finished one). Then it changes one byte at a time, on copies
of that store, of every kind of file in turn, every second time with the file's old time put back. In this process each change
passes through the functions that the commands call: `verify`, what `export` and `chat` do with a model, the input check of each
stage, the readers of journals, verdicts and remembered keys, `plan`, and then what `verify` sets aside. `--whole` of them pass
through the command line instead: a run, `verify`, and another run where that found something. FILE gets the table, FILE with
the ending .jsonl every change. Exit status 1: a change was missed, or was not healed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from alignflow.data.adapters import verify_model
from alignflow.data.artifacts import TOKENIZER_FILES, verify_files
from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.recipe import Recipe
from alignflow.data.errors import DamagedArtifactError
from alignflow.data.run import Runtime
from alignflow.flows.calls import Caller, plan
from alignflow.flows.gates import standing
from alignflow.models.export import export
from alignflow.models.generation.base import make_generator
from alignflow.models.generation.journal import RowJournal
from alignflow.tasks.keys import content
from alignflow.tasks.launch.call import StageCall
from alignflow.tasks.store.artifact_store import ArtifactStore
from alignflow.tasks.store.gates import GateLedger
from alignflow.tasks.store.last_good_run import latest
from alignflow.tasks.store.verify import inspect, set_aside

ROOT = Path(__file__).parents[1]
content.constitution_files = cache(
    content.constitution_files
)  # the package's own rubrics do not change: half of a plan's time
GATES = [
    {"stage": "sft", "metric": "loss", "maximum": 1e9},
    {"stage": "label", "metric": "new/preferences/train", "minimum": 1},
]
NOT_OURS = (
    "prefect",
    "store.json",
    "locks",
)  # Prefect's own files; the mark of a store, which is checked as it is opened
PAYLOAD = ("weights", "tables", "tokenizers", "other payload")
MODELS = ("checkpoint", "reward_model")


@dataclass
class Flip:
    """One changed byte: where, to what, and what came of it.

    Attributes:
        found: Who found it: plan, input, verify, export, chat, readers; run where the command line did it.
        wrong: What went wrong; empty where the change was found and healed, or is used by nothing.
    """

    kind: str
    file: str
    offset: int
    value: int
    old_time: bool
    found: list[str] = field(default_factory=list)
    wrong: str = ""

    @property
    def key(self) -> str:
        """The artifact that the file belongs to; empty for another file."""
        parts = Path(self.file).parts
        return parts[1] if parts[0] == "artifacts" else ""


def kind_of(file: Path) -> str:
    """What a file of a store is, by its path below the root."""
    place = file.parts[0]
    if place == "artifacts" and file.parts[2] == "payload":
        named = {".safetensors": "weights", ".parquet": "tables"}
        return named.get(file.suffix, "tokenizers" if file.name in TOKENIZER_FILES else "other payload")
    if place == "artifacts":
        return {"manifest.json": "manifests", "stat.json": "stat.json"}.get(file.name, "beside the payload")
    if file.name.startswith("latest-"):
        return "runs/latest"
    return {"rows": "row journal", "gates": "verdicts", "content.sqlite": "content.sqlite"}.get(place, place)


def draw(root: Path, count: int, seed: int) -> Iterator[Flip]:
    """Changes of every kind of file in turn; file, place and value are drawn."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if path.is_file() and path.stat().st_size and inside.parts[0] not in NOT_OURS:
            kinds.setdefault(kind_of(inside), []).append(inside)
    chance = random.Random(seed)
    for number in range(count):
        kind = sorted(kinds)[number % len(kinds)]
        file = chance.choice(kinds[kind])
        whole = (root / file).read_bytes()
        offset = chance.randrange(len(whole))
        value = whole[offset] ^ chance.randrange(1, 256)
        yield Flip(kind, str(file), offset, value, old_time=number // len(kinds) % 2 == 0)


def damaged_copy(finished: Path, target: Path, flip: Flip) -> None:
    """A copy of the store with one byte changed; files that nothing writes in place are hard links."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        finished,
        target,
        copy_function=lambda source, copy: (shutil.copy2 if "sqlite" in source else os.link)(source, copy),
    )
    file = target / flip.file
    changed, before = bytearray(file.read_bytes()), file.stat()
    changed[flip.offset] = flip.value
    file.unlink()
    file.write_bytes(changed)
    later = 0 if flip.old_time else 1_000_000
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + later))


class Truth:
    """What a store says when nothing is damaged."""

    def __init__(self, recipe: Recipe, root: Path):
        self.recipe, self.store = recipe, ArtifactStore(root)
        self.manifests = {manifest.key: manifest for manifest in self.store.manifests()}
        self.keys = {step.name: step.key for step in plan(recipe, self.store)}
        self.calls = calls(recipe, self.store)
        self.views = readers(recipe, self.store, self.keys)


def calls(recipe: Recipe, store: ArtifactStore) -> list[StageCall]:
    """The calls of a recipe whose results the store has."""
    caller, made, found = Caller(recipe, store), {}, []
    for node in caller.nodes:
        call = caller.call(node, made)
        assert call is not None
        made[node.name] = store.manifest(call.key).ref()
        found.append(call)
    return found


def readers(recipe: Recipe, store: ArtifactStore, keys: dict[str, str]) -> dict[str, Any]:
    """All that is read from small files: rows, verdicts, the keys that a recipe took last; one entry for each."""
    found: dict[str, Any] = {}
    for directory in sorted((store.root / "rows").iterdir()):
        found |= {
            f"row {directory.name} {name}": row
            for name, row in RowJournal(directory, lambda text: None).known().items()
        }
    ledger = GateLedger(store)
    for key in keys.values():
        found |= {f"verdict {record.gate} {record.at}": record for record in ledger.records(key)}
    for step in keys:
        manifest = latest(store, recipe.name, step)
        if manifest:
            found[f"latest {step}"] = manifest.key
    return found


class Trial:
    """One change in this process; `flip` gets what came of it."""

    def __init__(self, truth: Truth, flip: Flip, root: Path):
        self.truth, self.flip, self.store = truth, flip, ArtifactStore(root)

    def run(self) -> None:
        """Take the change through everything that may use the file, one after the other."""
        before = inspect(self.store)
        if not before.clean or any(Path(self.flip.file).name in note for note in before.notes):
            self.flip.found.append("verify")
        self._models()
        self._inputs()
        self._plan()
        self._readers()
        set_aside(self.store, before)
        self._healed()
        self._expected()

    def _attempt(self, who: str, act: Callable[[], object]) -> None:
        try:
            act()
        except DamagedArtifactError as error:
            if error.key == self.flip.key and who not in self.flip.found:
                self.flip.found.append(who)

    def _models(self) -> None:
        manifest = self.truth.manifests.get(self.flip.key)
        if manifest is None or manifest.kind not in MODELS:
            return
        path, out = self.store.payload(manifest.ref()), self.store.root.with_name("exported")
        shutil.rmtree(out, ignore_errors=True)
        self._attempt("export", lambda: export(path, out))
        self._attempt("chat", lambda: verify_model(path))
        if manifest.kind == "checkpoint" and "chat" not in self.flip.found:
            self._attempt("chat", lambda: make_generator(path, Runtime()))

    def _inputs(self) -> None:
        for call in self.truth.calls:
            for ref in call.inputs.values():
                if ref.key == self.flip.key:
                    self._attempt("input", lambda ref=ref: verify_model(self.store.payload(ref)))
                    self._attempt("input", lambda ref=ref: verify_files(self.store.payload(ref)))

    def _plan(self) -> None:
        steps = plan(self.truth.recipe, self.store)
        list(standing(self.truth.recipe, steps, self.store)) if all(step.state == "cached" for step in steps) else None
        if self.flip.key in self.store.reasons:
            self.flip.found.append("plan")
        for step in steps:
            if step.key and step.key != self.truth.keys[step.name]:
                self.flip.wrong = f"plan gave {step.name} the key {step.key}"

    def _readers(self) -> None:
        now = readers(self.truth.recipe, self.store, self.truth.keys)
        if any(self.truth.views.get(name) != value for name, value in now.items()):
            self.flip.wrong = "a reader was given something else"
        if now.keys() != self.truth.views.keys() and not self.flip.key:
            self.flip.found.append("readers")

    def _healed(self) -> None:
        after = inspect(self.store)
        if not after.clean:
            self.flip.wrong = f"still damaged: {after.damaged} {after.caches} {after.verdicts}"
        for manifest in self.store.manifests():
            if manifest.model_copy(update={"seal": ""}) != self.truth.manifests[manifest.key].model_copy(
                update={"seal": ""}
            ):
                self.flip.wrong = f"the manifest of {manifest.key} says something else"

    def _expected(self) -> None:
        """Payloads and manifests must be found by all that use them, and not by `verify` alone."""
        flip, taken = (
            self.flip,
            any(ref.key == self.flip.key for call in self.truth.calls for ref in call.inputs.values()),
        )
        wanted = {"verify"} if flip.kind in (*PAYLOAD, "manifests", "row journal", "verdicts", "runs/latest") else set()
        if flip.kind == "manifests" or (flip.kind in PAYLOAD and not flip.old_time):
            wanted.add("plan")
        if flip.kind in PAYLOAD and self._is_taken():
            wanted.add("input")
        if flip.kind in PAYLOAD and taken and self.truth.manifests[flip.key].kind in MODELS:
            wanted |= {"export", "chat"} if self.truth.manifests[flip.key].kind == "checkpoint" else {"export"}
        if missing := wanted - set(flip.found):
            flip.wrong = flip.wrong or f"not found by {', '.join(sorted(missing))}"

    def _is_taken(self) -> bool:
        """Whether some stage takes the file: all of the artifact, or the part that the file lies in."""
        file = Path(self.flip.file)
        return any(
            ref.key == self.flip.key
            and file.is_relative_to(self.truth.store.payload(ref).relative_to(self.truth.store.root))
            for call in self.truth.calls
            for ref in call.inputs.values()
        )


def in_process(
    truth: Truth, flips: list[Flip], place: Path, tell: Callable[[Flip], object] = lambda flip: None
) -> None:
    """Take each change through the functions that the commands call; `tell` hears of each one that is done."""
    root = place / "store"
    for number, flip in enumerate(flips, 1):
        damaged_copy(truth.store.root, root, flip)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            try:
                Trial(truth, flip, root).run()
            except Exception as error:  # noqa: BLE001 (whatever it is, a person would see it: the change was not handled)
                flip.wrong = f"{type(error).__name__}: {error}"
        tell(flip)
        if number % 100 == 0:
            print(
                f"{number} of {len(flips)} changes, {sum(bool(flip.wrong) for flip in flips)} wrong",
                file=sys.stderr,
                flush=True,
            )


def by_command(truth: Truth, flip: Flip, recipe: Path, place: Path) -> None:
    """Take one change through whole runs: afterwards every step must have its digest, and `verify` must find nothing."""
    root = place / "whole"
    damaged_copy(truth.store.root, root, flip)
    first = alignflow(root, "run", str(recipe))
    checked = alignflow(root, "verify")
    again = alignflow(root, "run", str(recipe)) if checked.returncode else first
    last = alignflow(root, "verify")
    flip.found += ["run"] * any(" ran " in line for line in first.stdout.splitlines()) + ["verify"] * bool(
        checked.returncode
    )
    if first.returncode or again.returncode or last.returncode:
        flip.wrong = f"ended with {first.returncode}, {again.returncode}, {last.returncode}: {first.stdout[-300:]}{last.stdout[-300:]}"
    expected = {key: manifest.digest for key, manifest in truth.manifests.items()}
    found = {manifest.key: manifest.digest for manifest in ArtifactStore(root).manifests()}
    if found != expected:
        flip.wrong = f"other digests: {sorted(key for key in expected if found.get(key) != expected[key])}"


def alignflow(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a store."""
    environment = {**os.environ, "ALIGNFLOW_HOME": str(store)}
    return subprocess.run(
        [sys.executable, "-m", "alignflow", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def write_recipe(path: Path) -> Path:
    """The tiny recipe with two gates, at a path."""
    recipe = yaml.safe_load((ROOT / "recipes" / "tiny.yaml").read_text())
    for rows in recipe["data"].values():
        for row in rows if isinstance(rows, list) else ():
            row["path"] = str((ROOT / "recipes" / row["path"]).resolve())
    path.write_text(yaml.safe_dump({**recipe, "name": "flips", "gates": GATES}))
    return path


def table(flips: list[Flip]) -> str:
    """By kind of file: changes, who found them, how many nothing uses, how many were missed."""
    lines = [
        "| kind of file | changes | found by | healed | used by nothing | missed |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for kind in [*sorted({flip.kind for flip in flips}), "all"]:
        mine = [flip for flip in flips if kind in (flip.kind, "all")]
        who = Counter(name for flip in mine for name in flip.found)
        found = ", ".join(f"{name} {count}" for name, count in who.most_common())
        healed = sum(bool(flip.found) and not flip.wrong for flip in mine)
        unused = sum(not flip.found and not flip.wrong for flip in mine)
        lines.append(
            f"| {kind} | {len(mine)} | {found} | {healed} | {unused} | {sum(bool(flip.wrong) for flip in mine)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make a store, change bytes of it, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--whole", type=int, default=60, help="how many more pass through the command line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, help="a finished store of --recipe; it is not changed")
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="alignflow-flips-"))
    recipe = given.recipe or write_recipe(place / "recipe.yaml")
    finished = given.store or place / "finished"
    if given.store is None and (made := alignflow(finished, "run", str(recipe))).returncode:
        sys.exit(made.stdout)
    began = time.monotonic()
    shutil.copytree(finished, place / "truth")
    truth = Truth(load_recipe(recipe), place / "truth")
    flips, whole = list(draw(finished, given.flips, given.seed)), list(draw(finished, given.whole, given.seed + 1))
    lines = given.table.with_suffix(".jsonl").open("w") if given.table else io.StringIO()

    def tell(flip: Flip) -> None:
        lines.write(json.dumps(asdict(flip)) + "\n")
        lines.flush()

    in_process(truth, flips, place, tell)
    text = f"{table(flips)}\n\n{len(flips)} changes in this process took {time.monotonic() - began:.0f} s.\n"
    for number, flip in enumerate(whole, 1):
        by_command(truth, flip, recipe, place)
        tell(flip)
        print(f"whole run {number} of {len(whole)}: {flip.kind} {flip.wrong}", file=sys.stderr, flush=True)
    text += f"\nThrough the command line:\n\n{table(whole)}\n" if whole else ""
    print(text)
    if given.table:
        given.table.write_text(text)
    shutil.rmtree(place, ignore_errors=True)
    sys.exit(any(flip.wrong for flip in (*flips, *whole)))


if __name__ == "__main__":
    main()
