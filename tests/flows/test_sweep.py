"""Members of a sweep: which there are, what each changes in the recipe, and that one that fails does not stop the others."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignflow.cli.sweep import axes_of, is_there
from alignflow.data.artifacts import ArtifactRef
from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.flows.calls import plan
from alignflow.flows.pipeline import Outcome
from alignflow.flows.sweep import Axes, options_of, run_members

CRINGE = ("cringe.alpha=0.5", "cringe.top_k=3")


def members(load, methods, rates, options=(), seeds=()):
    axes = Axes(methods=methods, learning_rates=rates, options=options, seeds=seeds)
    return axes.members(load, Path("/nowhere"))


@pytest.fixture
def load(repository):
    return lambda changes: load_recipe(repository / "recipes" / "tiny.yaml", list(changes.items()))


def test_a_member_is_the_recipe_with_a_method_and_a_rate(load):
    found = members(load, ["dpo", "kto"], [1e-5, 1e-4], ["kto.beta=0.2"])
    assert [member.name for member in found] == ["dpo 1e-05", "dpo 0.0001", "kto 1e-05", "kto 0.0001"]
    assert found[2].recipe.align.options == {"beta": 0.2} and found[0].recipe.align.options == {}
    base = load({})
    for member in found:
        assert (
            member.recipe.align.learning_rate == member.learning_rate
            and member.recipe.align.max_steps == base.align.max_steps
        )
        assert member.recipe.sft == base.sft and member.recipe.data == base.data


def test_the_method_of_the_recipe_keeps_its_options(repository):
    def load(changes):
        return load_recipe(
            repository / "recipes" / "tiny.yaml",
            [("align.options", {"beta": 0.3, "label_smoothing": 0.1}), *changes.items()],
        )

    assert load({}).align.method == "dpo"
    found = {
        member.method: member.recipe.align.options for member in members(load, ["dpo", "kto"], [1e-5], ["dpo.beta=0.2"])
    }
    assert found == {"dpo": {"beta": 0.2, "label_smoothing": 0.1}, "kto": {}}


def test_without_names_it_is_every_method_of_data_that_is_there_and_has_defaults(load):
    names = [member.method for member in members(load, [], [1e-5])]
    assert {"dpo", "sdpo", "simpo", "kto", "lipo", "tdpo2"} <= set(names) and not {"ppo", "cringe"} & set(names)
    assert "cringe" in [member.method for member in members(load, [], [1e-5], CRINGE)]


def test_what_a_method_has_no_use_for_is_left_at_its_default(repository):
    def load(changes):
        return load_recipe(repository / "recipes" / "tiny.yaml", [("align.sft_coefficient", 0.3), *changes.items()])

    found = {
        member.method: member.recipe.align.sft_coefficient for member in members(load, ["dpo", "kto", "orpo"], [1e-5])
    }
    assert found == {"dpo": 0.3, "kto": 0.0, "orpo": 0.0}


@pytest.mark.parametrize(
    ("methods", "options", "words"),
    [
        (["dpo"], ["dop.beta=1"], "dop"),
        (["dpo"], ["kto.beta=1.0"], "options of 'kto'"),
        (["dpo"], ["dpo.beat=1.0"], "beat"),
        (["dpo"], ["dpo=1.0"], "not of the form METHOD.NAME=VALUE"),
        (["cringe"], [], "alpha"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_runs(methods, options, words, load):
    with pytest.raises(RecipeError, match=words):
        members(load, methods, [1e-5], options)


def test_a_loss_of_ones_own_is_a_member_beside_the_others(repository, tmp_path):
    text = (
        (repository / "docs" / "extending.md")
        .read_text()
        .partition("```python\n# my_losses.py\n")[2]
        .partition("```")[0]
    )
    (tmp_path / "my_losses.py").write_text(text)
    mine = f"{tmp_path / 'my_losses.py'}:capped"
    options = ["my_losses.py:capped.cap=2.5", "dpo.beta=0.3", f"{mine}.beta=0.2"]
    assert options_of(options, tmp_path) == {mine: {"cap": 2.5, "beta": 0.2}, "dpo": {"beta": 0.3}}

    def load(changes):
        return load_recipe(repository / "recipes" / "tiny.yaml", [("align.sft_coefficient", 0.3), *changes.items()])

    axes = Axes(methods=["dpo"], own=["my_losses.py:capped"], learning_rates=[1e-5], options=options)
    found = axes.members(load, tmp_path)
    assert [member.name for member in found] == ["dpo 1e-05", "my_losses.py:capped 1e-05"]
    assert found[1].recipe.align.options == {"cap": 2.5, "beta": 0.2} and found[1].family == "pairs"
    with pytest.raises(RecipeError, match="defines no nothing"):
        Axes(own=["my_losses.py:nothing"]).members(load, tmp_path)


def test_two_losses_of_one_name_are_refused_since_the_results_would_not_tell_them_apart(load, tmp_path):
    text = (
        "from alignflow.models.losses import method\n@method(needs_reference=False)\ndef mine(batch, options): pass\n"
    )
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "loss.py").write_text(text)
    with pytest.raises(RecipeError, match="two losses are called 'loss.py:mine'"):
        Axes(own=["a/loss.py:mine", "b/loss.py:mine"]).members(load, tmp_path)


def test_what_is_named_twice_is_one_member(load):
    axes = Axes(methods=["dpo", "dpo"], learning_rates=[1e-5, 1e-5], seeds=[1, 1])
    assert len(axes.members(load, Path())) == 1


def test_a_recipe_without_align_is_refused(repository):
    with pytest.raises(RecipeError, match="aligns nothing"):
        members(
            lambda changes: load_recipe(repository / "recipes" / "tiny.yaml", ["align=null", "evaluate=null"]),
            ["dpo"],
            [1e-5],
        )


def test_seeds_are_those_of_the_alignment_alone(load):
    found = members(load, ["dpo"], [1e-5], seeds=[0, 7])
    assert [member.name for member in found] == ["dpo 1e-05 seed 0", "dpo 1e-05 seed 7"]
    assert [member.recipe.align.seed for member in found] == [0, 7]
    assert found[0].recipe.sft == found[1].recipe.sft and found[0].recipe.seed == found[1].recipe.seed == 0


def test_without_learning_rates_it_is_the_recipes(load):
    assert [member.learning_rate for member in members(load, ["dpo", "kto"], [])] == [1e-4, 1e-4]


def test_a_member_is_the_recipe_with_its_settings_over_it(load):
    for member in members(load, ["kto"], [1e-5], ["kto.beta=0.2"], seeds=[3]):
        assert load(member.settings) == member.recipe


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("dop", "", ""), "unknown name 'dop'"),
        (("dpo", "fast", ""), "'fast' is not a list of numbers"),
        (("dpo", "", "1.5"), "'1.5' is not a list of numbers"),
    ],
)
def test_words_of_the_command_line_that_are_wrong_are_refused(words, what):
    with pytest.raises(RecipeError, match=what):
        axes_of(*words, ())


def test_the_path_of_a_loss_may_have_spaces():
    axes = axes_of("dpo ipo, my losses/mine.py:loss", "", "", [])
    assert (axes.methods, axes.own) == (("dpo", "ipo"), ("my losses/mine.py:loss",))


def test_words_of_the_command_line_are_methods_and_losses_of_ones_own():
    axes = axes_of("dpo,mine.py:loss", "1e-5, 1e-4", "1,2", ["dpo.beta=0.2"])
    assert (axes.methods, axes.own, axes.learning_rates, axes.seeds) == (
        ("dpo",),
        ("mine.py:loss",),
        (1e-5, 1e-4),
        (1, 2),
    )


class Kept:
    """A store that has what `run` made."""

    def __init__(self, folder, lines):
        self.folder = folder
        (folder / "side").mkdir()
        (folder / "side" / "curves.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def manifest(self, key):
        metrics = {"loss": 0.5} if key == "align" else {"kl": 1.5}
        return SimpleNamespace(key=key, metrics=metrics, warnings=[f"{key} warns"], cost={"wall_s": 12.0})

    def payload(self, ref):
        return self.folder / "payload"


def outcomes(*names):
    return [
        Outcome(name=name, ref=ArtifactRef(key=name, digest="d", kind="checkpoint"), ran=True, seconds=1.0)
        for name in names
    ]


def heard(found, store, run):
    results = []
    aligned = run_members(found, store, run, lambda member, result: results.append(result))
    return results, aligned


def test_a_member_that_fails_is_recorded_and_the_others_run(load, tmp_path):
    walked = []

    def run(member):
        walked.append(member.method)
        if member.method == "dpo":
            raise TrainingError("the loss is nan", where="align", do="lower it")
        return outcomes("align", "evaluate")

    found = members(load, ["dpo", "kto"], [1e-5])
    (failed, whole), aligned = heard(found, Kept(tmp_path, []), run)
    assert walked == ["dpo", "kto"] and "the loss is nan" in failed.error and not failed.key
    assert [failed.family, whole.family] == ["pairs", "unpaired"]
    assert whole.metrics == {"loss": 0.5, "kl": 1.5} and whole.warnings == ["align warns", "evaluate warns"]
    assert (whole.key, whole.seconds, whole.error, whole.not_learnt) == ("align", 12.0, "", "")
    assert [(outcome.name, outcome.ref.key) for outcome in aligned] == [("kto 1e-05", "align")]


def test_a_member_that_did_not_learn_is_named_by_its_curve(load, tmp_path):
    store = Kept(tmp_path, [{"step": step, "loss": 0.7} for step in range(1, 9)])
    ((result,), _) = heard(members(load, ["dpo"], [1e-5]), store, lambda member: outcomes("align"))
    assert result.not_learnt == "the loss did not fall: 0.7 in the first quarter, 0.7 in the last" and not result.error


def test_of_a_training_in_rounds_each_one_that_did_not_learn_is_named(load, tmp_path):
    store = Kept(tmp_path, [{"step": step, "loss": 0.7} for step in range(1, 9)])
    found = members(load, ["sdpo"], [1e-5])
    ((result,), aligned) = heard(found, store, lambda member: outcomes("align.1", "align.2"))
    assert [why.partition(":")[0] for why in result.not_learnt.split("; ")] == ["align.1", "align.2"]
    assert (result.key, result.rounds, aligned[0].ref.key) == ("align.2", 2, "align.2")


def test_where_adapters_are_merged_the_member_is_the_merged_model(load, tmp_path):
    found = members(load, ["dpo"], [1e-5])
    ((result,), aligned) = heard(found, Kept(tmp_path, []), lambda member: outcomes("align", "merge", "evaluate"))
    assert result.key == aligned[0].ref.key == "merge" and result.seconds == 12.0
    assert result.warnings == ["align warns", "merge warns", "evaluate warns"]


def test_a_member_that_a_gate_ends_before_align_is_recorded(load, tmp_path):
    ((result,), aligned) = heard(members(load, ["dpo"], [1e-5]), Kept(tmp_path, []), lambda member: outcomes("init"))
    assert result.error == "a gate ended it after init, before align" and not result.key and not aligned


def test_a_member_that_lacks_data_does_not_keep_the_others_from_a_rerun(load, store):
    """Where all else is in the store, its recipe was planned, and the refusal ended the sweep without a table."""
    member = members(load, ["dro_v"], [1e-5])[0]
    data = member.recipe.data.model_copy(
        update={"preferences": member.recipe.data.demonstrations, "prompts": (), "rankings": ()}
    )
    lacking = replace(member, recipe=member.recipe.model_copy(update={"data": data}))
    with pytest.raises(RecipeError, match="lists of answers"):
        plan(lacking.recipe, store)
    assert is_there(lacking, store) and not is_there(member, store)
