"""One row per method: it trains from the catalogue's row, and fits 16 rows by the criterion of its family."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignflow.data import catalogue
from alignflow.data.configs.training import AlignConfig, LoRAConfig
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.data.run import Runtime
from alignflow.models.policy import load_policy
from alignflow.models.trainers.offline import train_offline
from alignflow.models.trainers.offline_rows import read_demonstrations

METHODS = {name: row for name, row in catalogue.METHODS.items() if row.learns_from().feeds}
CRINGE = {"alpha": 0.5, "top_k": 3}
OPTIONS = {
    "gpo": {"form": "exponential"},
    "f_dpo": {"f_divergence_type": "js_divergence"},  # where the default is a method with a row of its own
    "cringe": CRINGE,
    "pairwise_cringe": {**CRINGE, "b": 5.0, "tau": 5.0},  # options without a default
}
WITH_NLL = {"cpo", "orpo"}
WORDS = ["cat", "dog", "bird", "house", "hill", "rain", "mat"]
STEPS = {
    "pairs": 16,
    "unpaired": 16,
    "lists": 48,
    "demonstrations": 96,
    "negatives": 16,
    "scored": 48,
    "best_and_worst": 16,
    "selected": 16,
}
KINDS = {
    "pairs": "preferences",
    "unpaired": "unpaired",
    "lists": "rankings",
    "demonstrations": "demonstrations",
    "negatives": "rankings",
    "scored": "rankings",
    "best_and_worst": "preferences",
    "selected": "demonstrations",
}
ALWAYS_THERE = {"demonstrations": set(), "scored": set(), "selected": {"nll_loss"}}
"""Metrics that all methods of a family show, where these are not those of the NLL."""


@pytest.fixture
def sixteen(preferences, tmp_path):
    """Sixteen rows of each kind of data, to learn from and to be asked about."""
    pairs = read_table(preferences / "train.parquet")[:16]
    unpaired = [
        {
            "id": f"u{i}",
            "source": "t",
            "prompt": user(f"the {WORDS[i % 7]}"),
            "label": i % 2 == 0,
            "ended": i % 3 != 0,
            "completion": assistant(f"{'cat' if i % 2 == 0 else 'dog'} {WORDS[i % 5]}"),
        }
        for i in range(16)
    ]
    rankings = [
        {
            "id": f"r{i}",
            "source": "t",
            "prompt": user(f"the {WORDS[i % 7]}"),
            "scores": [1.0, 0.5, 0.0],
            "completions": [f"cat {WORDS[i % 5]}", f"bird {WORDS[i % 5]}", f"dog {WORDS[i % 5]}"],
            "ended": [True, i % 2 == 0, True],
        }
        for i in range(16)
    ]
    demonstrations = [
        {
            "id": f"d{i}",
            "source": "t",
            "messages": [*user(f"the {WORDS[i % 7]}"), *assistant(f"{WORDS[i % 5]} {WORDS[i % 3]}")],
        }
        for i in range(16)
    ]
    found = {}
    kinds = {"preferences": pairs, "unpaired": unpaired, "rankings": rankings, "demonstrations": demonstrations}
    for kind, rows in kinds.items():
        found[kind] = tmp_path / "sixteen" / kind
        for side in ("train", "heldout"):
            write_table(rows, kind, found[kind] / f"{side}.parquet")
    return found


@pytest.fixture(scope="module", autouse=True)
def teacher(tiny_checkpoint, tmp_path_factory):
    """The same model with noise on its weights: 0.05 nats from the student's distributions."""
    path = tmp_path_factory.mktemp("models") / "teacher"
    shutil.copytree(tiny_checkpoint, path)
    weights, generator = load_file(path / "model.safetensors"), torch.Generator().manual_seed(0)
    save_file(
        {name: w + 0.1 * torch.randn(w.shape, generator=generator) for name, w in weights.items()},
        path / "model.safetensors",
        {"format": "pt"},
    )
    OPTIONS["gkd"] = {"teacher": str(path)}
    return path


def config_of(method, **changes):
    settings = {"learning_rate": 5e-3, "max_steps": 16, "batch_size": 16, "max_length": 64, "logging_steps": 1}
    return AlignConfig(method=method, options=OPTIONS.get(method, {}), **{**settings, **changes})


def trained(config, checkpoint, data, run, kind=None):
    kind = kind or KINDS[METHODS[config.method].family]
    return train_offline(config, policy=checkpoint, reference=None, run=run, **{kind: data[kind]})


def curve(run):
    return [json.loads(line) for line in (run.side / "curves.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", METHODS)
def test_it_fits_16_rows_by_the_criterion_of_its_family(method, new_run, tiny_checkpoint, sixteen):
    run = new_run()
    family = METHODS[method].family
    found = trained(config_of(method, max_steps=STEPS[family]), tiny_checkpoint, sixteen, run)
    CRITERIA[METHODS[method].family](method, found, curve(run)[0])
    assert all(math.isfinite(value) for value in found.values())
    assert ALWAYS_THERE.get(METHODS[method].family, {"nll_loss", "eval_nll_loss"}) <= set(found)


def orders_answers(method, found, first):
    """Pairs and lists: the implicit reward orders nearly all of them, and the loss is lower than at the first step."""
    assert found["eval_rewards/accuracies"] > 0.9 and found["eval_rewards/margins"] > 0
    assert (
        found["eval_loss"] < first["loss"] or METHODS[method].whole_step
    )  # with a beta of each step, losses are no measure
    assert {
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
        "rewards/margins",
        "logps/chosen",
        "logps/rejected",
    } <= set(found)


def tells_good_from_bad(method, found, first):
    """Labels: good answers end with a higher reward than bad ones; what is to be forgotten falls, and what is kept holds."""
    assert found["eval_rewards/chosen"] > found["eval_rewards/rejected"]
    assert found["eval_logps/rejected"] < first["logps/rejected"] - 1.0
    assert found["eval_logps/chosen"] > first["logps/chosen"] - 1.0


def becomes_its_teacher(method, found, first):
    """Distillation: nearly nothing is left of the divergence, which is the loss. Its log-probabilities at temperature 0.9 are not shown."""
    assert first["divergence"] > 0.04 and found["eval_divergence"] < 0.005 and found["eval_loss"] < 0.005
    assert "nll_loss" not in found and "eval_nll_loss" not in found


def lowers_the_negative(method, found, first):
    """Negatives: the log-probability of the negative answer falls, and the samples, which nothing replaces, hold."""
    assert found["eval_logps/rejected"] < first["logps/rejected"] - 1.0
    assert found["eval_logps/chosen"] > first["logps/chosen"] - 1.0
    assert found["eval_rewards/accuracies"] > 0.9 and found["eval_loss"] < first["loss"]


def regresses_on_scores(method, found, first):
    """Scores: the residual r - V - tau rho, whose square the loss is, goes; V starts at 0 and ends at what the scores are."""
    assert first["values"] == 0 and first["rewards"] == pytest.approx(0, abs=1e-3)
    assert first["loss"] == pytest.approx(0.5, abs=0.05), "the variance of scores of mean 0 and variance 1, halved"
    assert found["eval_loss"] < 0.2 * first["loss"] and abs(found["eval_residuals"]) < 0.2
    assert "nll_loss" not in found, "no answer is good or bad"


def becomes_more_probable(method, found, first):
    """Chosen answers: their NLL falls, and it is the loss."""
    assert found["eval_loss"] < first["loss"] - 0.5


CRITERIA = {
    "best_and_worst": orders_answers,
    "selected": becomes_more_probable,
    "pairs": orders_answers,
    "lists": orders_answers,
    "unpaired": tells_good_from_bad,
    "demonstrations": becomes_its_teacher,
    "negatives": lowers_the_negative,
    "scored": regresses_on_scores,
}

SPLIT = [
    "dpo",
    "wpo",
    "kto",
    "bco",
    "npo",
    "cringe",
    "lipo",
    "pro",
    "beta_dpo",
    "tdpo2",
    "ld_dpo",
    "pairwise_cringe",
    "gkd",
    "d2o",
    "dro_v",
    *sorted(WITH_NLL),
]


@pytest.mark.parametrize("method", SPLIT)
def test_a_step_is_the_same_for_any_split_into_micro_batches(method, new_run, tiny_checkpoint, sixteen):
    """What is a mean over the tokens of a step, or comes from all of its rows, must not depend on how it is cut."""
    config = config_of(method, learning_rate=1e-2, max_steps=2, max_grad_norm=0)
    found, norms = [], []
    for tokens in (8192, 48):
        run = new_run(str(tokens), micro_batch_tokens=tokens)
        found.append(trained(config, tiny_checkpoint, sixteen, run))
        norms.append([point["grad_norm"] for point in curve(run) if "grad_norm" in point])
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    assert set(found[0]) == set(found[1])
    compared = {
        "loss",
        "nll_loss",
        "eval_logps/chosen",
        "eval_logps/rejected",
        "eval_nll_loss",
        "eval_loss",
        "eval_divergence",
        "eval_values",
        "eval_rewards",
    }
    assert len(compared & set(found[0])) >= 3
    for name in compared & set(found[0]):  # eval: after the step
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize("method", sorted(WITH_NLL))
def test_the_nll_that_is_shown_is_the_mean_over_tokens_that_enters_the_loss(method, new_run, tiny_checkpoint, sixteen):
    """The loss at weight 1 of the NLL, without the preference term that the shown figures give."""
    options = {"cpo": {"beta": 1e-9}, "orpo": {"beta": 0.0}}[method]  # the preference term: ln 2, and 0
    run = new_run("nll", micro_batch_tokens=256)
    config = config_of(method, learning_rate=1e-2, max_steps=1, max_grad_norm=0).model_copy(update={"options": options})
    found = trained(config, tiny_checkpoint, sixteen, run)
    preference = {"cpo": math.log(2), "orpo": 0.0}[method]
    assert found["nll_loss"] == pytest.approx(found["loss"] - preference, rel=1e-5)
    assert found["eval_nll_loss"] == pytest.approx(found["eval_loss"] - preference, rel=1e-5)


AT_THE_START = {
    "dpo": math.log(2),
    "ipo": 1 / (4 * 0.1**2),
    "apo_zero": 0.0,
    "kto": 0.5,
    "bco": math.log(2),
    "npo": None,
    "tdpo1": math.log(2),
    "tdpo2": math.log(2),
    "ld_dpo": math.log(2),
    "beta_dpo": math.log(2),
    "d2o": math.log(2),
}
"""The first loss where policy and reference are one model; None: 2 ln 2 / beta on what is forgotten, beside the NLL of the rest."""


@pytest.mark.parametrize("method", AT_THE_START)
def test_the_first_loss_is_what_the_formula_says(method, new_run, tiny_checkpoint, sixteen):
    run = new_run()
    trained(config_of(method, max_steps=1), tiny_checkpoint, sixteen, run)
    first = curve(run)[0]
    expected = AT_THE_START[method] if AT_THE_START[method] is not None else 2 * math.log(2) / 0.1 + first["nll_loss"]
    assert first["loss"] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("method", "kind"), [("kto", "preferences"), ("lipo", "preferences"), ("d2o", "preferences")])
def test_pairs_feed_a_method_of_another_family(method, kind, new_run, tiny_checkpoint, sixteen):
    run = new_run()
    found = trained(config_of(method), tiny_checkpoint, sixteen, run, kind)
    CRITERIA[METHODS[method].family](method, found, curve(run)[0])


def test_with_an_adapter_the_live_reference_is_the_base(new_run, tiny_checkpoint, sixteen):
    run = new_run()
    found = trained(config_of("tdpo2", lora=LoRAConfig(r=4)), tiny_checkpoint, sixteen, run)
    assert curve(run)[0]["loss"] == pytest.approx(math.log(2), abs=2e-4) and found["eval_rewards/accuracies"] > 0.9


@pytest.mark.parametrize(("beta", "statistic"), [(0.0, "forward_kl"), (1.0, "reverse_kl")])
def test_beta_and_temperature_of_gkd_are_those_of_its_divergence(
    beta, statistic, new_run, tiny_checkpoint, sixteen, teacher
):
    """The first loss is the mean over all tokens of assistant turns, and not one over answers."""
    run, options = new_run(), {**OPTIONS["gkd"], "beta": beta, "temperature": 2.0}
    student, other = load_policy(tiny_checkpoint, Runtime()), load_policy(teacher, Runtime())
    rows = read_demonstrations(sixteen["demonstrations"] / "train.parquet", student.tokenizer, 64, run, "align")
    expected = student.token_statistics(list(rows.answers), (statistic,), reference=other, temperature=2.0).values[
        statistic
    ]
    trained(config_of("gkd", max_steps=1).model_copy(update={"options": options}), tiny_checkpoint, sixteen, run)
    assert curve(run)[0]["loss"] == pytest.approx(float(expected.detach().mean()), rel=1e-4)


def test_gkd_with_an_adapter_leaves_the_teacher_as_it_is(new_run, tiny_checkpoint, sixteen):
    """The teacher is not the student's base, so the first divergence is that of a training of all weights."""
    whole, adapted = new_run("whole"), new_run("adapted")
    trained(config_of("gkd", max_steps=1), tiny_checkpoint, sixteen, whole)
    trained(config_of("gkd", max_steps=4, lora=LoRAConfig(r=4)), tiny_checkpoint, sixteen, adapted)
    losses = [point["loss"] for point in curve(adapted) if "loss" in point]
    assert losses[0] == pytest.approx(curve(whole)[0]["loss"], rel=1e-4) and losses[-1] < losses[0]


def test_the_model_card_names_the_teacher_by_its_content_and_not_by_its_path(
    new_run, tiny_checkpoint, sixteen, teacher
):
    run = new_run()
    trained(config_of("gkd", max_steps=1), tiny_checkpoint, sixteen, run)
    card = (run.out / "README.md").read_text()
    assert "checkpoint with the digest" in card and str(teacher) not in card


@pytest.mark.parametrize("method", ["kto", "bco", "beta_dpo", "cringe", "dro_v"])
def test_what_is_kept_from_step_to_step_survives_a_kill(method, new_run, tiny_checkpoint, sixteen, monkeypatch):
    """The continued run has the figures of an undisturbed one."""
    config = config_of(method, max_steps=4, batch_size=8, save_steps=1)
    whole = trained(config, tiny_checkpoint, sixteen, new_run("whole"))
    from alignflow.models.trainers import whole_step

    before, steps = whole_step.StepFigures.before, []

    def die_at_the_third(self, rows):
        steps.append(rows)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return before(self, rows)

    monkeypatch.setattr(whole_step.StepFigures, "before", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        trained(config, tiny_checkpoint, sixteen, new_run("killed"))
    monkeypatch.undo()
    assert trained(config, tiny_checkpoint, sixteen, new_run("killed")) == whole and len(steps) == 3


@pytest.mark.parametrize("lora", [None, LoRAConfig(r=4)], ids=["two models", "an adapter"])
def test_npo_holds_by_the_kl_to_a_reference_that_runs_beside_the_policy(lora, new_run, tiny_checkpoint, sixteen):
    found = {}
    for weight in (0.0, 100.0):
        run = new_run(f"weight {weight}")
        options = {"retain": "kl", "retain_weight": weight}
        config = config_of("npo", max_steps=6, lora=lora).model_copy(update={"options": options})
        metrics = trained(config, tiny_checkpoint, sixteen, run)
        first = curve(run)[0]
        assert first["loss"] == pytest.approx(2 * math.log(2) / 0.1, abs=2e-4) and abs(first["retain_kl"]) < 1e-5
        found[weight] = metrics["eval_retain_kl"]
    assert 0 <= found[100.0] < found[0.0] / 2, "what is held stays nearer to the reference"
