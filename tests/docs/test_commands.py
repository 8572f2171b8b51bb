"""Every command, recipe and piece of code in README.md and docs/ is one that works: parsed by the real command line, not run."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import typer
import yaml

from alignflow.cli.app import app
from alignflow.cli.jobs import Source
from alignflow.cli.new import asked_for, looked_at, written
from alignflow.data import catalogue
from alignflow.data.configs.generation import JudgeConfig
from alignflow.data.configs.loading import load_recipe, parse_recipe
from alignflow.data.configs.smoke import smoke_recipe
from alignflow.data.errors import UserError
from alignflow.data.run import Run, Runtime
from alignflow.flows.graph import nodes
from alignflow.tasks.store.artifact_names import is_name

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
UsageError = typer.BadParameter.__base__  # of the click that typer brings along
FREE = {"prefect server start", "pre-commit install", "pre-commit run --all-files"}
"""Commands of other programs that the docs may give as they are."""


def fences(document, *languages):
    """The texts of a document's fenced blocks in some languages."""
    return [
        textwrap.dedent(text)
        for _, language, text in FENCE.findall(document.read_text(encoding="utf-8"))
        if language in languages
    ]


def commands(text):
    """The command lines of a block of shell, as words, without assignments before them."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words:
            yield words


class Checker:
    """Checks command lines in the order of a document: a recipe that `alignflow new` writes is there for the commands after it."""

    def __init__(self, folder):
        self.folder = folder

    def check(self, words):
        program = Path(words[0]).name
        if " ".join(words) in FREE:
            return
        if program == "alignflow":
            self.alignflow(words[1:])
        elif program == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(words[1:]) <= set(targets), f"no such target: {words}"
        elif program == "python":
            self.python(words[1:])
        else:
            assert words == [".", ".venv/bin/activate"], f"a command that this test does not know: {words}"

    def python(self, arguments):
        """A module or a script that exists, and whose help knows every option."""
        target = arguments[:2] if arguments[0] == "-m" else arguments[:1]
        environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"
        }  # what a person's shell has
        done = subprocess.run(
            [sys.executable, *target, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        for word in arguments[len(target) :]:
            assert not word.startswith("--") or word in done.stdout, f"{target} has no {word}"
            assert "/" not in word or (ROOT / word).exists(), f"no such file: {word}"

    def alignflow(self, arguments):
        """Parse with the real command line, then look at what the values name."""
        group = typer.main.get_command(app)
        arguments = [word for word in arguments if word != "--debug"]  # `main` takes it away first
        context = group.make_context("alignflow", arguments[:1], resilient_parsing=True)
        command = group.get_command(context, arguments[0])
        assert command is not None, f"no such command: {arguments[0]}"
        rest = arguments[1:]
        while hasattr(command, "commands"):  # a group of commands: schedule add
            context, (name, *rest) = (
                command.make_context(command.name, rest[:1], parent=context, resilient_parsing=True),
                rest,
            )
            command = command.get_command(context, name)
            assert command is not None, f"no such command: {name}"
        values = command.make_context(command.name, rest, parent=context).params
        if values.get("recipe"):
            self.recipe(values)
        elif arguments[0] == "new":
            given = [
                looked_at(str(ROOT / path)) if "/" in path else Source(path)  # a file of the reader's own
                for path in values["data"] or ()
            ]
            text = written(asked_for(values["task"], given), values["model"], self.folder, values["full"])
            (self.folder / values["output"]).write_text(text)
        elif arguments[0] in catalogue.TABLES and values["name"]:
            catalogue.look_up(catalogue.TABLES[arguments[0]], values["name"], arguments[0])
        elif arguments[0] == "list":
            assert values["stage"] in ("", *catalogue.STAGES), f"no such stage: {values['stage']}"
        for reference in values.get("references") or [values.get("reference")] * ("reference" in values):
            known = is_name(self.folder, reference) or reference.partition("-")[0] in catalogue.STAGES
            assert known, f"no step, not last, and not the start of a key: {reference}"

    def recipe(self, values):
        """The recipe loads with its settings, is whole, and has the steps that are named."""
        written = self.folder / values["recipe"]
        recipe = load_recipe(written if written.exists() else ROOT / values["recipe"], values["settings"] or ())
        steps = {node.name for node in nodes(smoke_recipe(recipe) if values.get("smoke") else recipe)}
        named = {values.get("only"), values.get("until"), values.get("start"), *(values.get("force") or ())} - {None}
        assert named <= steps, f"no such step: {named - steps}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_is_one_that_exists(document, tmp_path, monkeypatch):
    checker = Checker(tmp_path)
    for text in fences(document, "python"):
        if (named := re.match(r"# (\w+\.py)\n", text)) is not None:  # a file that commands of the document name
            (tmp_path / named[1]).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for text in fences(document, "sh"):
        for words in commands(text):
            checker.check(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_cannot_hide_in_a_block_that_nobody_checks(document):
    languages = {language for _, language, _ in FENCE.findall(document.read_text(encoding="utf-8"))}
    assert languages <= {"sh", "yaml", "python", "text", "mermaid"}


WRONG = {
    "alignflow rnu recipes/tiny.yaml": "no such command: rnu",
    "PYTHONPATH=. alignflow nothing": "no such command: nothing",
    "alignflow run": "Missing argument",
    "alignflow run recipes/nowhere.yaml": "no such recipe",
    "alignflow run written_by_nobody.yaml --smoke": "no such recipe",
    "alignflow run recipes/tiny.yaml --onyl align": "No such option",
    "alignflow run recipes/tiny.yaml --only algin": "no such step: {'algin'}",
    "alignflow run recipes/tiny.yaml --force algin": "no such step: {'algin'}",
    "alignflow plan recipes/tiny.yaml --set align.betta=1": "unknown key 'align.betta'",
    "alignflow plan recipes/tiny.yaml --set align.beta": "not of the form name=value",
    "alignflow new --model m": "a recipe needs data",
    "alignflow new --task dop --data chats.jsonl": "did you mean 'dpo'?",
    "alignflow new --task dpo --data examples/quickstart/demonstrations.jsonl.gz": "dpo needs pairs",
    "alignflow gc --keep-last few": "--keep-last",
    "alignflow schedule ad pipeline": "no such command: ad",
    "alignflow schedule add pipeline --recipe recipes/nowhere.yaml --every 60": "no such recipe",
    "alignflow schedule add pipeline --evry 60": "No such option",
    "alignflow methods dop": "unknown name 'dop'",
    "alignflow list algn": "no such stage: algn",
    "alignflow lineage nothing": "not the start of a key: nothing",
    "alignflow chat sft- nothing": "not the start of a key: nothing",
    ".venv/bin/alignflow stages --wrong": "No such option",
    "make tset": "no such target",
    "python -m alignflow.tasks.vresions": "No module named alignflow.tasks.vresions",
    "python -m alignflow.tasks.keys.versions --nuetral all x": "has no --nuetral",
    "python docs/nothing.py --check": "can't open file",
    "python docs/make_tables.py --chekc": "has no --chekc",
    "python -m pytest tests/nowhere": "no such file: tests/nowhere",
    "prefect server stop": "does not know",
    "frobnicate": "does not know",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_is_found(line, tmp_path):
    (words,) = commands(line)
    with pytest.raises((UsageError, UserError, AssertionError)) as raised:
        Checker(tmp_path).check(words)
    assert WRONG[line] in getattr(raised.value, "format_message", lambda: str(raised.value))()


def test_a_recipe_that_new_writes_is_known_afterwards(tmp_path):
    checker = Checker(tmp_path)
    checker.check(
        shlex.split("alignflow new --task rlaif --data examples/quickstart/prompts.jsonl.gz --output mine.yaml")
    )
    checker.check(shlex.split("alignflow run mine.yaml --smoke --only align"))
    with pytest.raises(AssertionError, match="no such step"):
        checker.check(shlex.split("alignflow run mine.yaml --only init_"))


def test_readme_and_tutorial_show_every_command():
    shown = {
        words[1]
        for document in ("README.md", "docs/tutorial.md")
        for text in fences(ROOT / document, "sh")
        for words in commands(text)
        if Path(words[0]).name == "alignflow"
    }
    assert shown == set(typer.main.get_command(app).commands)


def yaml_blocks():
    return [
        pytest.param(text, id=f"{path.name}-{number}")
        for path in DOCUMENTS
        for number, text in enumerate(fences(path, "yaml"))
    ]


@pytest.mark.parametrize("text", yaml_blocks())
def test_every_yaml_block_is_a_recipe_or_a_rubric(text, tmp_path):
    content = yaml.safe_load(text)
    if "principles" in content:
        from alignflow.models.judges.rubric import load_constitution

        (tmp_path / "rubric.yaml").write_text(text)
        assert load_constitution(str(tmp_path / "rubric.yaml")).principles
    else:
        recipe = parse_recipe(content, tmp_path, "the docs")
        assert "data" not in content or nodes(recipe)


def test_the_recipe_of_ones_own_pairs_has_the_steps_that_the_readme_says(tmp_path):
    (text,) = [text for text in fences(ROOT / "README.md", "yaml") if text.startswith("# pairs.yaml")]
    steps = [node.name for node in nodes(parse_recipe(yaml.safe_load(text), tmp_path, "README.md"))]
    assert steps == ["init", "prepare", "reference", "align", "report"]
    assert f"That recipe has the steps {', '.join(steps[:-1])} and {steps[-1]}." in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_or_a_heading_of_the_docs_leads_somewhere(document):
    broken = []
    for target in LINK.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        if ":" in target:
            continue  # another site
        name, _, heading = target.partition("#")
        path = (document.parent / name) if name else document
        if not path.exists() or (heading and path.suffix == ".md" and heading not in anchors(path)):
            broken.append(target)
    assert not broken


def anchors(path):
    """The names of a page's headings in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def python_block(document, name):
    """The names that a document's only Python block with `name` in it defines."""
    (text,) = [text for text in fences(ROOT / document, "python") if name in text]
    defined = {}
    exec(compile(text, document, "exec"), defined)
    return defined


def test_the_judge_of_the_docs_judges(tmp_path, monkeypatch):
    from alignflow.models.judges.base import Candidate, make_judge

    (text,) = [text for text in fences(ROOT / "docs" / "extending.md", "python") if text.startswith("# my_judges.py\n")]
    (tmp_path / "my_judges.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    run = Run(tmp_path, tmp_path, tmp_path, tmp_path, Runtime())
    judge = make_judge(JudgeConfig(name="my_judges:Shorter"), policy=None, reward_model=None, run=run)
    (verdict,) = judge.compare([(Candidate([], "short"), Candidate([], "a longer answer"))])
    assert verdict.probability > 0.5


def test_the_loss_of_ones_own_in_the_docs_is_a_method_that_learns_its_pairs(tmp_path):
    from alignflow.data.own_methods import loaded_method
    from alignflow.models.losses import pairs_of_tokens
    from alignflow.models.own_loss import loss_of

    (text,) = [text for text in fences(ROOT / "docs" / "extending.md", "python") if text.startswith("# my_losses.py\n")]
    assert len([line for line in text.splitlines() if line.strip()]) <= 20
    (tmp_path / "my_losses.py").write_text(text)
    row = loaded_method(f"{tmp_path / 'my_losses.py'}:capped")
    chosen, rejected = torch.zeros(2, 1, 3, requires_grad=True).unbind()
    ones, zeros = torch.ones(1, 3), torch.zeros(1, 3)
    batch = pairs_of_tokens((chosen, rejected), (ones, ones), (zeros, zeros))
    output = loss_of(row)(batch, row.options(beta=2.0))
    torch.testing.assert_close(output.loss, torch.tensor([0.693147]))
    gradient = torch.autograd.grad(output.loss.sum(), (chosen, rejected))
    assert (gradient[0] == -1.0).all() and (gradient[1] == 1.0).all()  # beta * sigmoid(0), up for chosen


def test_the_loss_of_the_docs_computes_what_it_says():
    from alignflow.models.losses.base import pairs_of_tokens

    defined = python_block("docs/extending.md", "def simpo")
    batch = pairs_of_tokens(
        (torch.tensor([[-1.0, -1.0]]), torch.tensor([[-2.0, -2.0, -2.0]])), (torch.ones(1, 2), torch.ones(1, 3))
    )
    found = defined["simpo"](batch, defined["SimPOOptions"](gamma=1.0))
    torch.testing.assert_close(found.loss, torch.tensor([0.313262]))  # -log sigmoid(2 * (-1 + 2) - 1)


def test_the_format_of_the_docs_parses():
    defined = python_block("docs/extending.md", "sources/qa.py")
    row = {"question": "Why?", "reply": "So."}
    assert [message["content"] for message in defined["parse"](row, "demonstrations")[0]["messages"]] == ["Why?", "So."]
    assert defined["parse"](row, "prompts")[0]["prompt"][0]["role"] == "user"


def test_the_stage_of_the_docs_runs(tmp_path):
    from alignflow.data.records import write_table

    defined = python_block("docs/extending.md", "def lengths")
    write_table([{"completions": ["one two", "one two three four"]}], "completions", tmp_path / "train.parquet")
    run = Run(tmp_path, tmp_path, tmp_path, tmp_path, Runtime())
    assert defined["lengths"](defined["LengthsConfig"](limit=3), completions=tmp_path, run=run) == {
        "words/mean": 3.0,
        "long": 0.5,
    }
