"""A recipe that alignflow writes from the data."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def alignflow(repository):
    """Run the command line; returns the finished process."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "alignflow", *map(str, arguments)],
            cwd=repository,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )

    return run


def test_a_new_recipe_is_valid_and_fits_the_data(alignflow, tmp_path, repository):
    model = tmp_path / "model"
    model.mkdir()
    output = tmp_path / "mine.yaml"
    done = alignflow(
        "new",
        "--model",
        model,
        "--data",
        repository / "examples" / "quickstart" / "demonstrations.jsonl.gz",
        "--output",
        output,
    )
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    assert (
        "demonstrations:" in text
        and "\n  learning_rate: 2.0e-05  # Peak learning rate, after warm-up. (> 0, <= 10)\n" in text
    )
    assert alignflow("plan", output).returncode in (0, 2)
    again = alignflow("new", "--model", model, "--data", model, "--output", output)
    assert again.returncode == 2 and "exists already" in again.stderr


@pytest.mark.parametrize("kind", ["prompts", "preferences"])
def test_every_line_of_a_new_recipe_can_be_uncommented(kind):
    import re

    import yaml

    from alignflow.cli.new import recipe_text
    from alignflow.data.configs.recipe import Recipe

    text = recipe_text("model", "data.jsonl", kind)
    as_it_stands = Recipe.model_validate(yaml.safe_load(text))
    assert getattr(as_it_stands.data, kind)[0].path == "data.jsonl"
    assert (
        as_it_stands.sft == Recipe().sft
        and as_it_stands.align == Recipe().align
        and "reward" not in as_it_stands.model_fields_set
    )
    lines = [
        re.sub(r"^( *)# (?=[ -]*\{?[a-z_]+:)", r"\1", line) for line in text.splitlines() if "more sources" not in line
    ]
    everything = "\n".join(lines[2:]).partition("replace:")[0] + "\n".join(lines).partition("reward_model\n")[2]
    uncommented = Recipe.model_validate(yaml.safe_load(everything))
    assert uncommented.align == Recipe().align and len(uncommented.gates) == text.count("{stage:")
