"""Who may import whom, and that what the catalogue names exists."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

import alignflow
from alignflow.data import catalogue

ROOT = Path(alignflow.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
ALLOWED = {
    "data": {"data"},
    "tasks": {"tasks", "data", "safe_path"},
    "models": {"models", "data"},
    "flows": {"flows", "tasks", "data"},
    "worker": {"data", "torchrun"},
    "torchrun": {"data"},
    "server": {"server", "data", "safe_path"},
    "cli": {"cli", "server", "flows", "tasks", "data", "models", "safe_path"},
    "start": set(),
    "safe_path": set(),
}
HEAVY = {
    "torch": {"models"},
    "deepspeed": {"models/engines/deepspeed_engine.py"},
    "prefect": {
        "tasks/keys/cache.py",
        "tasks/launch/stage_task.py",
        "tasks/launch/secret_blocks.py",
        "tasks/launch/shard_task.py",
        "flows/approval.py",
        "flows/deployed.py",
        "flows/deployments.py",
        "flows/run_pages.py",
        "flows/sweep_pages.py",
        "flows/schedules.py",
        "cli/shown.py",
        "server/app.py",
        "server/prefect_patches.py",
    },
    "prefect_dask": {"tasks/launch/shard_task.py"},
    "distributed": set(),
    "dask": set(),
    "vllm": {"models/generation/vllm_child.py"},
    "peft": {"models/adapters.py", "models/merging.py"},
    "tensorboard": set(),
    "openai": {"models/generation/server_client.py"},
    "lm_eval": {"models/evaluators/harness.py"},
    "mlflow": {"tasks/trackers/mlflow_tracker.py"},
    "wandb": {"tasks/trackers/wandb_tracker.py"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def layer(path):
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may(path):
    mine = layer(path)
    for name in imports(path):
        if name.startswith("alignflow.") and mine in ALLOWED:
            assert name.split(".")[1] in ALLOWED[mine], f"{mine} imports {name}"
        top = name.split(".")[0]
        if top in HEAVY:
            relative = str(path.relative_to(ROOT))
            assert any(relative == place or relative.startswith(f"{place}/") for place in HEAVY[top]), (
                f"{relative} imports {name}"
            )


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table, rows in catalogue.TABLES.items() for name in rows]
)
def test_every_address_of_the_catalogue_resolves_and_is_described(table, name):
    row = catalogue.TABLES[table][name]
    assert callable(row.resolve()) and row.summary.endswith(".") and row.version


def test_every_stage_that_can_be_shared_out_says_by_what_and_has_the_field():
    rows = [row for row in catalogue.STAGES.values() if row.fills]
    assert len(rows) == len([row for row in catalogue.STAGES.values() if "shards" in row.config.model_fields]) == 4
    for row in rows:
        assert callable(replace(row, address=row.fills).resolve()) and row.config().shards == 1


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small_and_public_ones_are_explained(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 380
    if path.read_text().strip():
        assert ast.get_docstring(tree), "a module says what it holds"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            explained = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1] if explained else node.body[0]
            assert node.end_lineno - first.lineno < 60, f"{node.name} is too long"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_no_pickle_no_shell_and_no_remote_code():
    for path in MODULES:
        names = set(imports(path))
        assert not names & {"pickle", "cloudpickle", "dill", "shelve", "joblib"}, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                text = ast.unparse(node.func)
                assert text not in {"torch.load", "torch.save", "os.system", "eval", "exec"}, f"{path}: {text}"
                for keyword in node.keywords:
                    assert not (keyword.arg == "shell" and called in {"run", "Popen", "call"}), path
                    assert not (
                        keyword.arg == "trust_remote_code"
                        and isinstance(keyword.value, ast.Constant)
                        and keyword.value.value
                    ), path


def test_the_kernel_is_asked_through_psutil_but_for_what_it_does_not_know():
    asked = {str(path.relative_to(ROOT)) for path in MODULES if re.search(r"[\"']/proc/", path.read_text())}
    assert asked == {"data/host.py", "server/logins.py", "tasks/launch/machine.py", "tasks/launch/precision.py"}
