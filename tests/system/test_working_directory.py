"""What lies in the folder where a command is typed is data: no Python file there is run, and no file there steers Prefect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from server_support import Server, give_history
from system_support import REPOSITORY

RECIPE = REPOSITORY / "recipes" / "tiny.yaml"
MODULES = (
    "pandas",
    "yaml",
    "torch",
    "numpy",
    "pydantic",
    "rich",
    "typer",
    "httpx",
    "jinja2",
    "transformers",
    "datasets",
    "tokenizers",
    "safetensors",
    "pyarrow",
    "prefect",
    "uvicorn",
    "matplotlib",
    "json",
    "logging",
    "sitecustomize",
    "usercustomize",
    "deepspeed",
    "scipy",
    "peft",
)
TRAP = """
import sys
with open({marker!r}, "a") as file:
    file.write("{name} " + " ".join(sys.argv) + chr(10))
raise ImportError("the file of somebody else was run")
"""
COMMANDS = {
    "command": [str(Path(sys.executable).with_name("alignflow"))],
    "module": [sys.executable, "-m", "alignflow"],
}


def set_traps(folder):
    """Fill a folder, as a clone may be filled, with files named like modules; returns the file in which they leave a mark."""
    marker = folder.parent / f"{folder.name}-marks"
    for name in MODULES:
        (folder / f"{name}.py").write_text(TRAP.format(marker=str(marker), name=name))
    return marker


def marks(marker):
    return marker.read_text() if marker.exists() else ""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "cloned"
    place.mkdir()
    return place


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for the file: each test has the stage forced that it is about, and finds those before it."""
    return tmp_path_factory.mktemp("store") / "store"


@pytest.fixture
def call(folder, store):
    def called(command, *arguments, **environment):
        shell = {
            name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"
        }  # which a test that imports our commands sets
        return _run(folder, command, arguments, {**shell, "ALIGNFLOW_HOME": str(store), **environment})

    return called


def _run(folder, command, arguments, settings):
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=folder, env=settings, capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize("how", COMMANDS)
def test_a_run_executes_no_file_of_the_working_directory(folder, call, how):
    marker = set_traps(folder)
    for name in (
        "sitecustomize",
        "usercustomize",
    ):  # Python runs these itself, before our first line, where PYTHONPATH has an empty entry
        (folder / f"{name}.py").unlink()
    done = call(
        COMMANDS[how], "run", RECIPE, "--until", "sample", "--force", "sample", PYTHONPATH=os.pathsep
    )  # `$NOTHING:` names no folder
    assert not marks(marker)
    assert done.returncode == 0 and "sample  ran" in done.stdout, done.stdout + done.stderr


def test_no_rank_of_torchrun_executes_a_file_of_the_working_directory(folder, call):
    marker = set_traps(folder)
    done = call(COMMANDS["command"], "run", RECIPE, "--until", "sft", "--force", "sft", "--set", "engine.processes=2")
    assert not marks(marker)
    assert done.returncode == 0 and "sft  ran" in done.stdout, done.stdout + done.stderr


def test_labelling_executes_no_file_of_the_working_directory(folder, call):
    marker = set_traps(folder)
    (folder / "prompts.jsonl").write_text("".join(f'{{"prompt": "What is {number}?"}}\n' for number in range(8)))
    call(COMMANDS["command"], "run", RECIPE, "--until", "init")
    done = call(
        COMMANDS["command"], "label", "--prompts", "prompts.jsonl", "--model", "init-", "--n", 2, "--max-new-tokens", 4
    )
    assert not marks(marker)
    assert "sample  ran" in done.stdout, done.stdout + done.stderr


def test_up_and_the_runs_of_its_worker_execute_no_file_of_the_working_directory(folder, history):
    marker = set_traps(folder)
    clone = folder / "alignflow"  # as `git clone` leaves it in its parent directory
    clone.mkdir()
    (clone / "__init__.py").write_text(TRAP.format(marker=str(marker), name="alignflow"))
    server = Server(folder)
    give_history(server.home.store, history)

    def say(*arguments):
        done = subprocess.run(
            [*COMMANDS["command"], *map(str, arguments)],
            env=server.environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert not marks(marker)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        say("up", "--port", server.port)
        run = server.start("init", recipe=str(RECIPE))
        state = server.ended(run)
        assert not marks(marker)
        assert state["type"] == "COMPLETED", (state, (server.home.run_logs / f"{run}.log").read_text())
    finally:
        say(
            "down"
        )  # not as `python -m alignflow`: that runs a package of this name in the working directory before our first line


HOSTILE = {
    "prefect.toml": '[logging]\nconfig_path = "logging.yml"\n',
    ".env": "PREFECT_LOGGING_CONFIG_PATH=logging.yml\n",
    "pyproject.toml": '[tool.prefect.logging]\nconfig_path = "logging.yml"\n',
    ".env with a quoted name": "'PREFECT_LOGGING_CONFIG_PATH'=logging.yml\n",
    ".env with an exported quoted name": "export 'PREFECT_LOGGING_CONFIG_PATH' = logging.yml\n",
    ".env with a bare carriage return": "A=1\rPREFECT_LOGGING_CONFIG_PATH=logging.yml\n",
    ".env with a no-break space": "\u00a0PREFECT_LOGGING_CONFIG_PATH=logging.yml\n",
}
LOGGING = """
version: 1
formatters: {{}}
handlers:
  console: {{"()": subprocess.Popen, args: [touch, {marker}]}}
root: {{handlers: [console]}}
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_whose_files_would_steer_prefect_is_refused(folder, call, name):
    marker, content = folder / "ran", HOSTILE[name]
    name = name.partition(" ")[0]
    (folder / name).write_bytes(content.encode())
    (folder / "logging.yml").write_text(LOGGING.format(marker=marker))
    done = call(COMMANDS["command"], "run", RECIPE, "--until", "init", "--force", "init")
    assert not marker.exists()
    assert done.returncode == 2 and name in done.stderr and "start in another folder" in done.stderr


def test_files_of_those_names_that_say_nothing_to_prefect_are_none_of_our_business(folder, call):
    (folder / ".env").write_text("PORT=80\n")
    (folder / "pyproject.toml").write_text('[project]\nname = "mine"\n')
    done = call(COMMANDS["command"], "run", RECIPE, "--until", "init", "--force", "init")
    assert done.returncode == 0 and "init  ran" in done.stdout, done.stderr
