"""Whether the version check sees what it must: one seeded change in every module that a stage reaches, and 20 unused additions.

`python benchmarks/mutations.py [--seed 0] [--rounds 1] [--traced]`: each change is made in memory, in a definition that some stage's body
can reach, and must be flagged for every stage that reaches it; no addition that nothing uses, and no other layout of the source, may
be flagged. Prints a table; exit status 1 on a miss.

With `--traced` every stage of recipes/tiny.yaml is run under a profiler too, once with DPO and once with PPO: each function of
alignflow that runs must be covered by a version in the key of its stage. That needs torch and about a minute.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import inspect
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from alignflow.data import catalogue
from alignflow.data.run import Runtime
from alignflow.data.shared_parts import VERSIONED
from alignflow.tasks.keys.fingerprint import Parts, row_nodes
from alignflow.tasks.keys.key import BINDINGS
from alignflow.tasks.keys.reach import Code, Definition
from alignflow.tasks.keys.symbols import EFFECTS

ROOT = Path(__file__).parents[1]
COMPARISONS = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
ADDITIONS = (
    "\n\ndef {name}(value):\n    return value * 7 + {number}\n",
    "\n\nclass {name}:\n    number = {number}\n\n    def method(self):\n        return self.number\n",
    "\n\n{name} = {number}\n",
    "\n\nfrom decimal import Decimal as {name}\n",
    "\n\n# {name}: a comment about {number}\n",
)


@dataclass(frozen=True)
class Change:
    """A changed source, kept in memory.

    Attributes:
        module: Which module it is of.
        where: The line and what was done.
        text: The whole source.
        definition: The definition that it is in; empty where it is in none that was there.
    """

    module: str
    where: str
    text: str
    definition: str = ""


class Stages:
    """What every stage can reach, and what is behind the versions that can enter its key.

    Args:
        parts: The parts of the unchanged source.
    """

    def __init__(self, parts: Parts):
        self.fingerprints = {part: parts.fingerprint(part) for part in parts.names}
        named = {stage: named_parts(stage) for stage in catalogue.STAGES}
        self.parts = {stage: found.union(*map(parts.reaches, found)) for stage, found in named.items()}
        self.nodes = {
            stage: parts.code.reached(node for part in found for node in row_nodes(part))
            for stage, found in named.items()
        }
        self.reached = set().union(*self.nodes.values())

    def that_reach(self, node: Definition) -> set[str]:
        """The stages whose bodies can reach a definition."""
        return {stage for stage, nodes in self.nodes.items() if node in nodes}

    def flagged(self, change: Change) -> tuple[set[str], set[str]]:
        """The parts that the version check flags for a change, and the stages that have one of them in some key."""
        changed = Parts(Code({change.module: change.text}))
        parts = {part for part, before in self.fingerprints.items() if changed.fingerprint(part) != before}
        return parts, {stage for stage, behind in self.parts.items() if behind & parts}


def named_parts(stage: str) -> set[str]:
    """The parts that calls of a stage can name: itself, those that its config can name, and those that the runtime can."""
    row = catalogue.STAGES[stage]
    found = {f"stages.{stage}"} | namable(row.config)
    if row.trains:
        found |= {f"engines.{name}" for name in VERSIONED["engines"]}
    if row.generates or "families.online" in found:
        found |= {f"generators.{name}" for name in VERSIONED["generators"]}
    return found


@cache
def namable(kind: type[BaseModel]) -> frozenset[str]:
    """The parts that a config of this type can name, in its sections and options too."""
    found: set[str] = set()
    queue, seen = [kind], {kind}
    while queue:
        config = queue.pop()
        hints = list(get_type_hints(config).values())
        for holder, field, table in BINDINGS:
            if issubclass(config, holder) and field in config.model_fields and table in catalogue.TABLES:
                for name, row in catalogue.TABLES[table].items():
                    found.add(f"{table}.{name}")
                    found |= {f"families.{row.family}"} if isinstance(row, catalogue.Method) else set()
                    hints.append(getattr(row, "options", None))
        for inner in models_in(hints):
            if inner not in seen:
                seen.add(inner)
                queue.append(inner)
    return frozenset(found)


def models_in(hints: list[Any]) -> Iterator[type[BaseModel]]:
    """The configs that type hints name."""
    for hint in hints:
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            yield hint
        else:
            yield from models_in(list(get_args(hint)))


def mutate(module: str, source: str, names: set[str], rng: random.Random) -> Change | None:
    """One changed constant, operator or removed statement inside a definition of `names`; None where there is nothing to change."""
    tree = ast.parse(source)
    places = [
        (kind, top, node)
        for top, statement in enumerate(tree.body)
        if defined(statement) & names
        for kind, node in mutable(statement)
    ]
    if not places:
        return None
    kind = rng.choice(sorted({kind for kind, _, _ in places}))
    _, top, node = rng.choice([place for place in places if place[0] == kind])
    definition = min(defined(tree.body[top]) & names)
    before, line = told(node, kind), node.lineno  # type: ignore[attr-defined]
    change_in_place(node, kind, tree)
    after = "removed" if kind == "statement" else told(node, kind)
    return Change(module, f"line {line}: {before} -> {after}", ast.unparse(ast.fix_missing_locations(tree)), definition)


def told(node: ast.AST, kind: str) -> str:
    """What is changed, in short."""
    if kind in ("comparison", "operator"):
        return type(node.ops[0] if isinstance(node, ast.Compare) else node.op).__name__  # type: ignore[attr-defined]
    return ast.unparse(node).partition("\n")[0][:60]


def defined(statement: ast.stmt) -> set[str]:
    """The plain names that a statement of the top level defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}
    return set()


def mutable(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What can be changed below a node, with the kind of change; nothing that only people read, and no annotation."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or (
            isinstance(node, ast.keyword) and node.arg in ("description", "title", "examples")
        ):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if not isinstance(inner, ast.AST) or (
                isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant)
            ):
                continue
            if isinstance(inner, ast.stmt) and name in ("body", "orelse") and removable(node, inner):
                yield "statement", inner
            if (
                isinstance(inner, ast.Constant)
                and isinstance(inner.value, int | float | str)
                and not isinstance(node, ast.JoinedStr)
            ):
                yield "constant", inner
            elif isinstance(inner, ast.Compare) and type(inner.ops[0]) in COMPARISONS:
                yield "comparison", inner
            elif isinstance(inner, ast.BinOp | ast.BoolOp) and type(inner.op) in OPERATORS:
                yield "operator", inner
            yield from mutable(inner)


def removable(holder: ast.AST, statement: ast.stmt) -> bool:
    """Whether a statement does something that is missed: one in a function, and no import, whose names other statements use."""
    bare = isinstance(statement, ast.AnnAssign) and statement.value is None
    return (
        not isinstance(holder, ast.ClassDef | ast.Module)
        and not bare
        and not isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass)
    )


def change_in_place(node: ast.AST, kind: str, tree: ast.Module) -> None:
    """Change a node of a tree."""
    if isinstance(node, ast.Constant):
        value = node.value
        node.value = not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 1  # type: ignore[operator]
    elif kind == "comparison":
        node.ops[0] = COMPARISONS[type(node.ops[0])]()  # type: ignore[attr-defined]
    elif kind == "operator":
        node.op = OPERATORS[type(node.op)]()  # type: ignore[attr-defined]
    else:
        for holder in ast.walk(tree):
            for body in (getattr(holder, "body", None), getattr(holder, "orelse", None)):
                if isinstance(body, list) and node in body:
                    body[body.index(node)] = ast.Pass()  # type: ignore[arg-type]


def mutations(stages: Stages, code: Code, rng: random.Random) -> Iterator[Change]:
    """One change in every module of which a stage reaches a definition that has something to change."""
    for module in sorted({node.module for node in stages.reached}):
        names = {node.name for node in stages.reached if node.module == module and node.name != EFFECTS}
        if change := mutate(module, code.source(module) or "", names, rng):
            yield change


def additions(stages: Stages, code: Code, rng: random.Random, count: int = 20) -> Iterator[Change]:
    """Additions that nothing uses, in modules that stages reach."""
    for index, module in enumerate(rng.sample(sorted({node.module for node in stages.reached}), count)):
        added = ADDITIONS[index % len(ADDITIONS)].format(name=f"Unused{index}", number=rng.randrange(100))
        yield Change(module, " ".join(added.split())[:60], (code.source(module) or "") + added)


def layouts(stages: Stages, code: Code) -> Iterator[Change]:
    """Every reached module written anew from its syntax tree: no comments and another layout."""
    for module in sorted({node.module for node in stages.reached}):
        yield Change(module, "layout", ast.unparse(ast.parse(code.source(module) or "")))


def check_mutations(stages: Stages, code: Code, seed: int, rounds: int) -> int:
    """Print one line for each change; returns how many were missed for some stage."""
    missed = done = 0
    modules = set()
    print("| module | change | stages that reach it | flagged | parts flagged |\n|---|---|---|---|---|")
    for number in range(rounds):
        for change in mutations(stages, code, random.Random(f"{seed}/{number}")):
            reach = stages.that_reach(Definition(change.module, change.definition))
            parts, flagged = stages.flagged(change)
            missed, done = missed + bool(reach - flagged), done + 1
            modules.add(change.module)
            wrong = f" MISSED: {', '.join(sorted(reach - flagged))}" if reach - flagged else ""
            cell = change.where.replace("|", "\\|")
            print(
                f"| {change.module.removeprefix('alignflow.')} | `{cell}` | {len(reach)} | {len(flagged & reach)}{wrong} | {', '.join(sorted(parts))} |",
                flush=True,
            )
    print(f"\n{done} changes in {len(modules)} modules, {missed} missed")
    return missed


def check_neutral(stages: Stages, changes: list[Change], what: str) -> int:
    """Print which changes are flagged though they change nothing; returns how many."""
    wrong = [(change, parts) for change in changes if (parts := stages.flagged(change)[0])]
    for change, parts in wrong:
        print(f"FLAGGED: {change.module}: {change.where}: {', '.join(sorted(parts))}")
    print(f"{len(changes)} {what}, {len(wrong)} flagged")
    return len(wrong)


def traced(settings: list[Any], root: Path) -> dict[str, set[Definition]]:
    """The definitions of alignflow whose code runs in each stage of recipes/tiny.yaml: everything in this process, under a profiler."""
    from alignflow import worker
    from alignflow.data.configs.loading import load_recipe
    from alignflow.flows.pipeline import Narrator, Selection, walk
    from alignflow.tasks.launch import stage
    from alignflow.tasks.store.artifact_store import ArtifactStore

    package = str(ROOT / "alignflow") + "/"
    ran: dict[str, set[Definition]] = {}

    def run_here(name: str, spec: dict[str, Any], *rest: Any) -> dict[str, Any]:
        seen: set[Any] = set()
        sys.setprofile(lambda frame, event, argument: seen.add(frame.f_code) if event == "call" else None)
        try:
            result = worker.run_body(json.loads(json.dumps(spec)), Runtime.model_validate(spec["runtime"]), 0)
        finally:
            sys.setprofile(None)
        # the body of a module or a class runs when it is imported, without anything of it being used: it is not optimised code
        ours = [code for code in seen if code.co_filename.startswith(package) and code.co_flags & inspect.CO_OPTIMIZED]
        places = [
            (Path(code.co_filename).relative_to(ROOT).with_suffix("").parts, code.co_qualname.partition(".")[0])
            for code in ours
        ]
        ran[spec["stage"]] = {
            Definition(".".join(parts[:-1] if parts[-1] == "__init__" else parts), top) for parts, top in places
        }
        return result

    original, stage.run_child = stage.run_child, run_here  # type: ignore[assignment]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the stages print
            recipe = load_recipe(ROOT / "recipes" / "tiny.yaml", ["engine.training=torch", *settings])
            walk(recipe, Selection(), ArtifactStore(root), Narrator())
    finally:
        stage.run_child = original
    return ran


def check_traced(stages: Stages, code: Code) -> int:
    """Print how many functions ran in each stage, and those that stand behind no version of its key; returns how many those are."""
    missed = 0
    for settings in (
        [],
        [("align", {"method": "ppo", "max_steps": 2, "batch_size": 4, "learning_rate": 1e-5, "max_length": 160})],
    ):
        with tempfile.TemporaryDirectory() as store:
            for stage, ran in traced(copy.deepcopy(settings), Path(store)).items():
                behind = {node for node in ran if (found := code.module(node.module)) and node.name in found.symbols}
                outside = sorted(map(str, behind - stages.nodes[stage]))
                missed += len(outside)
                print(
                    f"{stage}: {len(behind)} definitions ran, {len(outside)} behind no version {', '.join(outside)}",
                    flush=True,
                )
    return missed


def main() -> int:
    """Print the tables; exit status 1 where something was missed or flagged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1, help="changes in each module")
    parser.add_argument("--traced", action="store_true", help="run recipes/tiny.yaml, too")
    given = parser.parse_args()
    started = time.perf_counter()
    parts = Parts()
    stages = Stages(parts)
    print(
        f"{len(parts.names)} parts, {len(stages.reached)} definitions, checked in {time.perf_counter() - started:.1f} s\n"
    )
    wrong = check_mutations(stages, parts.code, given.seed, given.rounds)
    wrong += check_neutral(stages, list(additions(stages, parts.code, random.Random(given.seed))), "unused additions")
    wrong += check_neutral(stages, list(layouts(stages, parts.code)), "other layouts")
    wrong += check_traced(stages, parts.code) if given.traced else 0
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
