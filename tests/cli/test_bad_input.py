"""A user's mistake gets one clear message on stderr and exit status 2, no traceback, and leaves the store as it was."""

import json
import os
import subprocess
import sys
from functools import partial

import cli_support
import pytest

TINY = "recipes/tiny.yaml"


@pytest.fixture
def alignflow(repository):
    """Run the command line in this process; returns what a finished process says."""
    return partial(cli_support.alignflow, cwd=repository)


@pytest.fixture
def started(repository):
    """Run the command line as a process of its own: Prefect reads its settings when it is imported."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "alignflow", *map(str, arguments)],
            cwd=repository,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )

    return run


CASES = [
    (["plan", TINY, "--set", "align.beta=0.2"], "beta is an option of the method", "write align.options.beta"),
    (["plan", TINY, "--set", "aling.beta=1"], "unknown key 'aling'", "did you mean 'align'?"),
    (["plan", TINY, "--set", "align.options.betta=1"], "unknown key 'align.options.betta'", "did you mean 'beta'?"),
    (["plan", TINY, "--set", "align.options.beta=-1"], "align.options.beta", "greater than 0"),
    (["plan", TINY, "--set", "align.options.beta=much"], "align.options.beta", "number"),
    (["plan", TINY, "--set", "align.method=dop"], "unknown name 'dop'", "did you mean 'dpop'?"),
    (
        ["plan", TINY, "--set", "align.method=ppo", "--set", "align.sft_coefficient=0.2"],
        "no use for it",
        "alignflow methods ppo",
    ),
    (
        ["plan", TINY, "--set", "align.method=kto", "--set", "align.metric_for_best_model=eval_rewards/margins"],
        "no use for it",
        "alignflow methods kto",
    ),
    (
        ["plan", TINY, "--set", "align.method=ppo", "--set", "align.options={klcoef: 1}"],
        "align.options.klcoef",
        "did you mean 'kl_coef'?",
    ),
    (
        ["plan", TINY, "--set", "align.method=ppo", "--set", "align.options={advantage: gea}"],
        "unknown name 'gea'",
        "did you mean 'gae'?",
    ),
    (
        ["plan", TINY, "--set", "align.method=ppo", "--set", "align.options={rewards: [{name: reward_modle}]}"],
        "align.options.rewards.0.name",
        "did you mean 'reward_model'?",
    ),
    (
        [
            "plan",
            TINY,
            "--set",
            "align.method=ppo",
            "--set",
            "align.options={rewards: [{name: judge, options: {judge: {name: rubrik}}}]}",
        ],
        "align.options.rewards.0.options.judge.name",
        "did you mean 'rubric'?",
    ),
    (["check-losses", "nowhere.json"], "not a file of loss cases", "docs/methods/policy_gradients.md"),
    (["plan", TINY, "--set", "label.judge.name=rubrik"], "unknown name 'rubrik'", "did you mean 'rubric'?"),
    (["plan", TINY, "--set", "label.judge.options={temprature: 1}"], "temprature", "did you mean 'temperature'?"),
    (["plan", TINY, "--set", "align.options={x: 1}"], "align.options.x", ""),
    (["plan", TINY, "--set", "evaluate.evaluators=[win_rat]"], "win_rat", "did you mean 'win_rate'?"),
    (["plan", TINY, "--set", "data.prompts.0.format=alpacca"], "alpacca", "did you mean 'alpaca'?"),
    (["plan", TINY, "--set", "data.prompts.9.path=x"], "not a place in a list of 1", ""),
    (["plan", TINY, "--set", "nonsense"], "not of the form name=value", ""),
    (["plan", TINY, "--set", "engine.device=cuda"], "no NVIDIA GPU", "cpu"),
    (["plan", TINY, "--set", "engine.nodes=2"], "need a rendezvous address", "HOST:PORT"),
    (["plan", TINY, "--set", "engine.offload=optimizer"], "in CPU memory already", "none"),
    (["node", "--node-rank", "0"], "cannot join", "node 0 runs the recipe"),
    (["schedule", "list"], "no server is up", "alignflow up"),
    (["schedule", "add", "pipeline", "--recipe", "nowhere.yaml", "--every", "60"], "no such recipe", "alignflow new"),
    (["label", "--prompts", "nowhere.jsonl", "--model", "./nowhere"], "nowhere", ""),
    (["label", "--prompts", "nowhere.jsonl", "--model", "sft-0000"], "no artifact matches", "alignflow list"),
    (
        ["label", "--prompts", "x.jsonl", "--model", "m", "--judge", "rubrik"],
        "unknown name 'rubrik'",
        "did you mean 'rubric'?",
    ),
    (["plan", "nowhere.yaml"], "no such recipe", "alignflow new"),
    (
        ["plan", TINY, "--set", "gates=[{stage: rewrad, metric: x, minimum: 1}]"],
        "no step 'rewrad' for a gate",
        "did you mean 'reward'?",
    ),
    (["plan", TINY, "--set", "gates=[{stage: reward, metric: x}]"], "gates.0: a gate needs a minimum or a maximum", ""),
    (
        ["plan", TINY, "--set", "gates=[{stage: reward, metric: x, minimun: 1}]"],
        "unknown key 'gates.0.minimun'",
        "did you mean 'minimum'?",
    ),
    (["run", TINY, "--approve", "reward.accuracy"], "no gate 'reward.accuracy' to approve", "the recipe has no gates"),
    (["run", TINY, "--only", "algin"], "has no step 'algin'", "did you mean 'align'?"),
    (["run", TINY, "--only", "align"], "init", "--only"),
    (["stages", "alignn"], "unknown name 'alignn'", "did you mean 'align'?"),
    (["lineage", "nothing"], "no artifact matches", "alignflow list"),
    (["chat", "nothing"], "no artifact matches", ""),
    (["new", "--model", "./nowhere", "--data", "./nowhere", "--output", "x.yaml"], "no such file", "--model"),
]


@pytest.mark.parametrize(("arguments", "what", "advice"), CASES, ids=[" ".join(case[0][-2:]) for case in CASES])
def test_one_clear_message_and_status_2(alignflow, arguments, what, advice):
    done = alignflow(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert what in done.stderr and advice in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "what"), [("a: [1\n", "not readable as YAML"), ("- 1\n", "must be a mapping"), ("", "must be a mapping")]
)
def test_a_file_that_is_no_recipe(alignflow, tmp_path, text, what):
    (tmp_path / "recipe.yaml").write_text(text)
    done = alignflow("plan", tmp_path / "recipe.yaml")
    assert done.returncode == 2 and what in done.stderr


def test_debug_shows_where_it_came_from(alignflow):
    assert "Traceback" in alignflow("plan", TINY, "--set", "align.betta=1", "--debug").stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_write_permission(alignflow, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    done = alignflow("plan", TINY, ALIGNFLOW_HOME=str(tmp_path / "closed" / "store"))
    assert done.returncode == 2 and "write permission" in done.stderr


def test_a_store_where_a_file_stands(alignflow, tmp_path):
    (tmp_path / "file").write_text("")
    done = alignflow("plan", TINY, ALIGNFLOW_HOME=str(tmp_path / "file"))
    assert done.returncode == 2 and "cannot be written" in done.stderr


def test_a_store_of_a_newer_schema(alignflow, tmp_path):
    (tmp_path / "store").mkdir(exist_ok=True)
    (tmp_path / "store" / "store.json").write_text(json.dumps({"schema_version": 99}))
    done = alignflow("plan", TINY, ALIGNFLOW_HOME=str(tmp_path / "store"))
    assert done.returncode == 2 and "schema version 99" in done.stderr


def test_a_prefect_server_that_does_not_answer(started):
    done = started("run", TINY, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1 and "no Prefect server answers" in done.stderr


def test_a_missing_data_file_blocks_the_plan(alignflow):
    done = alignflow("plan", TINY, "--set", "data.prompts.0.path=./nowhere.jsonl")
    assert done.returncode == 2 and "blocked" in done.stdout


@pytest.mark.parametrize("table", ["stages", "methods", "judges", "formats", "evaluators"])
def test_the_catalogue_is_listed(alignflow, table):
    from alignflow.data import catalogue

    done = alignflow(table, COLUMNS="200")
    assert done.returncode == 0 and all(name in done.stdout for name in catalogue.TABLES[table])


def test_debug_shows_where_it_failed(started):
    assert "Traceback" not in started("plan", "nowhere.yaml").stderr
    shown = started("plan", "nowhere.yaml", "--debug").stderr
    assert "Traceback" in shown and "no such recipe" in shown
