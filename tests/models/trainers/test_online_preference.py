"""Training on comparisons of sampled answers: it learns what is preferred, loses nothing to a kill, and counts what teaches nothing."""

import importlib
import json
import math
from dataclasses import replace

import pytest
import torch
from live_engine import Elsewhere

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import AlignConfig, LoRAConfig
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.data.records import user, write_table
from alignflow.data.run import Run, Runtime
from alignflow.models.generation import live
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.policy import load_policy
from alignflow.models.trainers import online_loop, online_preference, preference_update
from alignflow.models.trainers.align import align
from alignflow.models.trainers.saved_state import SavedStates

WORDS = ["cat", "dog", "bird", "house", "hill", "rain", "mat"]
CODE = '''
from alignflow.models.judges.base import Verdict

def letters(prompt, completion, row):
    return 3.0 * completion.count("a") - len(completion)

def same(prompt, completion, row):
    return 1.0

def never(prompt, completion, row):
    return None

class Letters:
    """Prefers the answer with the larger share of the letter a."""

    pointwise, fingerprint = False, ""

    def __init__(self, options, inputs):
        pass

    def compare(self, pairs):
        return [Verdict(self.probability(share(first.text), share(second.text))) for first, second in pairs]

    def probability(self, first, second):
        return 0.5 if first == second else 0.9 if first > second else 0.1

    def score(self, candidates):
        return [None for _ in candidates]

    def details(self, candidates):
        return [{} for _ in candidates]

    def close(self):
        pass

class Seated(Letters):
    """Prefers the first seat, whatever stands there."""

    def compare(self, pairs):
        return [Verdict(0.5, orders=(0.8, 0.2)) for _ in pairs]

def share(text):
    return text.count("a") / (len(text) + 1)
'''
METHODS = {
    "online_dpo": {"num_generations": 2},
    "xpo": {"alpha": 1e-3},
    "nash_md": {"mixture_coef": 0.25, "beta": 0.01},
    "nash_ema": {"ema_decay": 0.5, "beta": 0.01},
}


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    """A module of the user's with rewards and judges."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_comparisons.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    root = tmp_path_factory.mktemp("prompts")
    rows = [
        {"id": f"q{i}", "source": "t", "prompt": user(f"the {WORDS[i % 7]} {WORDS[i % 3]}"), "instructions": None}
        for i in range(12)
    ]
    write_table(rows, "prompts", root / "train.parquet")
    return root


def function(name):
    return {"rewards": [{"name": "function", "options": {"function": f"own_comparisons:{name}"}}]}


def judge(name="Letters"):
    return {"judge": {"name": f"own_comparisons:{name}"}}


def config_of(method, steps=3, **options):
    chosen = {"response_length": 6, "samples_steps": 2, "samples": 2, **METHODS[method], **options}
    if "judge" not in chosen and "rewards" not in chosen:
        chosen |= judge()
    return AlignConfig(
        method=method,
        learning_rate=3e-3,
        max_steps=steps,
        batch_size=6,
        max_length=64,
        logging_steps=1,
        save_steps=1,
        options=chosen,
    )


def train(config, run, checkpoint, prompts):
    return align(config, policy=checkpoint, reference=checkpoint, prompts=prompts, run=run)


def lines(run, name="curves"):
    return [json.loads(line) for line in (run.side / f"{name}.jsonl").read_text().splitlines()]


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


SHOWN = {
    "objective/kl",
    "objective/entropy",
    "objective/non_score_reward",
    "val/contain_eos_token",
    "completions/mean_length",
    "completions/repetition",
    "pairs/kept",
    "pairs/tie",
    "pairs/identical",
    "rewards/accuracies",
    "logps/chosen",
    "loss",
    "grad_norm",
    "lr",
    "beta",
    "episode",
}


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("online_dpo", {"rewards/chosen", "rewards/margins", "objective/scores", "objective/scores_margin"}),
        ("nash_md", {"rewards/probabilities", "loss/kl", "loss/score", "objective/scores"}),
    ],
)
def test_the_score_rises_and_the_curves_have_trls_names(method, more, new_run, tiny_checkpoint, prompts):
    run = new_run()
    config = config_of(method, 8, **function("letters")).model_copy(update={"batch_size": 16, "learning_rate": 2e-2})
    metrics = train(config, run, tiny_checkpoint, prompts)
    curve = lines(run)
    assert [point["step"] for point in curve] == list(range(1, 9)) and curve[0].keys() >= SHOWN | more
    first, last = (sum(point["objective/scores"] for point in part) / 2 for part in (curve[:2], curve[-2:]))
    assert last > first and curve[-1]["objective/kl"] > 0
    assert metrics["updates"] == 8 and metrics["updates/skipped"] == 0 and run.tokens > 0
    assert load_policy(run.out, Runtime()).model.config.vocab_size


@pytest.mark.parametrize("method", list(METHODS))
def test_at_the_first_step_policy_reference_and_opponent_are_one(method, new_run, tiny_checkpoint, prompts):
    run = new_run()
    train(config_of(method, 1), run, tiny_checkpoint, prompts)
    (point,) = lines(run)
    assert point["objective/kl"] == pytest.approx(0, abs=1e-4)
    if method in ("online_dpo", "xpo"):
        bonus = point.get("loss/xpo", 0.0)
        assert point["loss"] - bonus == pytest.approx(math.log(2), abs=1e-4)
        assert bonus <= 0 and (bonus < 0) == (method == "xpo")


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def nth_call(target, name, count, monkeypatch):
    """Let the `count`-th call of a function die before it does anything."""
    real, calls = getattr(target, name), []

    def dying(*arguments, **named):
        calls.append(1)
        if len(calls) == count:
            raise Killed
        return real(*arguments, **named)

    monkeypatch.setattr(target, name, dying)


# The second update is killed; a micro-batch holds about two pairs.
PHASES = {
    "sampling": (online_preference, "sample_rollouts", 2),
    "sampled": (online_preference, "compared", 2),
    "log-probabilities": (online_preference, "answer_statistics", 2),
    "mid-update": (preference_update, "_batch", 5),
    "after the step": (online_loop.OnlineLoop, "record", 2),
    "saving": (SavedStates, "save", 6),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_checkpoint, prompts):
    """A run per method that nothing disturbs."""
    found = {}

    def run_of(method):
        if method not in found:
            root = tmp_path_factory.mktemp("undisturbed")
            places = {name: root / name for name in ("out", "side", "work", "rows")}
            for place in places.values():
                place.mkdir()
            found[method] = Run(**places, runtime=Runtime(micro_batch_tokens=64))
            train(config_of(method), found[method], tiny_checkpoint, prompts)
        return found[method]

    return run_of


@pytest.mark.parametrize(
    ("method", "phase"),
    [
        *(("online_dpo", phase) for phase in PHASES),
        ("xpo", "mid-update"),
        ("nash_md", "sampled"),
        *(("nash_ema", phase) for phase in ("sampling", "mid-update")),
    ],
)
def test_a_kill_in_any_phase_ends_with_the_bytes_of_an_undisturbed_run(
    method, phase, undisturbed, new_run, tiny_checkpoint, prompts, monkeypatch
):
    whole = undisturbed(method)
    target, name, count = PHASES[phase]
    if phase == "sampling" and method != "online_dpo":
        count = 4  # the opponent's answers of the second update
    with monkeypatch.context() as patch:
        nth_call(target, name, count, patch)
        with pytest.raises(Killed):
            train(config_of(method), new_run(micro_batch_tokens=64), tiny_checkpoint, prompts)
    assert not list(new_run().out.iterdir())
    sampled = []
    monkeypatch.setattr(
        online_preference,
        "sample_rollouts",
        lambda *a, real=online_preference.sample_rollouts: sampled.append(a[3]) or real(*a),
    )
    run = new_run(micro_batch_tokens=64)
    train(config_of(method), run, tiny_checkpoint, prompts)
    assert digests(whole.out) == digests(run.out)
    for file in ("curves", "samples", "alarms"):
        assert lines(whole, file) == lines(run, file), file
    assert (1 in sampled) == (phase == "sampling"), "answers that were sampled are not sampled again"


@pytest.mark.parametrize("method", ["online_dpo", "nash_ema"])
def test_a_kill_long_after_the_last_state_ends_with_the_same_bytes(
    method, new_run, tiny_checkpoint, prompts, monkeypatch
):
    whole, run = new_run("whole"), new_run("killed")
    train(config_of(method, 5), whole, tiny_checkpoint, prompts)
    monkeypatch.setattr(online_loop.StateSchedule, "due", lambda self, done: done == 2)
    with monkeypatch.context() as dying, pytest.raises(Killed):
        nth_call(online_loop.OnlineLoop, "record", 5, dying)
        train(config_of(method, 5), run, tiny_checkpoint, prompts)
    assert SavedStates(run.work).steps() == [2]
    train(config_of(method, 5), new_run("killed"), tiny_checkpoint, prompts)
    assert digests(whole.out) == digests(run.out) and lines(whole) == lines(run)


def test_small_micro_batches_change_results_by_rounding_only(new_run, tiny_checkpoint, prompts):
    points = []
    for tokens in (8192, 32):
        run = new_run(str(tokens), micro_batch_tokens=tokens)
        train(config_of("online_dpo", 2, pair_loss="ipo"), run, tiny_checkpoint, prompts)
        points.append(lines(run)[1])
    assert points[0] == pytest.approx(points[1], abs=2e-3, rel=2e-2)


def test_ties_teach_nothing_are_counted_and_an_update_of_ties_is_skipped(new_run, tiny_checkpoint, prompts):
    run = new_run()
    with pytest.raises(TrainingError, match="none of 2 updates had a comparison that prefers an answer"):
        train(config_of("online_dpo", 2, **function("same")), run, tiny_checkpoint, prompts)
    assert sum("no step was taken" in warning for warning in run.warnings) == 2
    for point in lines(run):
        assert point["pairs/kept"] == 0 and point["pairs/tie"] + point["pairs/identical"] == 1 and point["lr"] == 0
        assert "loss" not in point


@pytest.mark.parametrize(
    ("compare", "reason"),
    [(judge("Seated"), "pairs/changes_with_the_order"), (function("never"), "pairs/no_label")],
)
def test_seats_and_failures_are_no_preferences(compare, reason, new_run, tiny_checkpoint, prompts):
    run = new_run()
    with pytest.raises(TrainingError, match="none of 1 updates"):
        train(config_of("online_dpo", 1, **compare), run, tiny_checkpoint, prompts)
    (point,) = lines(run)
    assert point[reason] > 0.5 and point["pairs/kept"] == 0


def test_a_nash_update_learns_from_ties_as_one_half(new_run, tiny_checkpoint, prompts):
    """At the reference P = 1/2 and rho = 0: the gradient is 0, and the step that is taken moves nothing."""
    run = new_run()
    train(config_of("nash_md", 1, **judge("Seated")), run, tiny_checkpoint, prompts)
    (point,) = lines(run)
    assert point["pairs/kept"] == 1 and point["rewards/probabilities"] == 0.5 and point["grad_norm"] < 1e-5


def test_several_answers_give_the_pair_of_the_best_and_the_worst(new_run, tiny_checkpoint, prompts):
    two, four = new_run("two"), new_run("four")
    for run, count in ((two, 2), (four, 4)):
        train(config_of("online_dpo", 1, num_generations=count, **function("letters")), run, tiny_checkpoint, prompts)
    (narrow,), (wide,) = lines(two), lines(four)
    assert wide["objective/scores_margin"] > narrow["objective/scores_margin"] > 0
    assert wide["episode"] == 24 and narrow["episode"] == 12


def adapted(method, steps):
    return config_of(method, steps).model_copy(update={"lora": LoRAConfig(r=2), "learning_rate": 5e-2})


def test_an_adapter_is_its_own_reference_and_part_of_the_mixture_and_has_a_moving_average(
    new_run, tiny_checkpoint, prompts
):
    pytest.importorskip("peft")
    for method in ("xpo", "nash_md", "nash_ema"):
        run = new_run(method)
        train(adapted(method, 2), run, tiny_checkpoint, prompts)
        first, second = lines(run)
        assert first["objective/kl"] == pytest.approx(0, abs=1e-4) and second["objective/kl"] != first["objective/kl"]
        assert [path.name for path in run.out.glob("*.safetensors")] == ["adapter_model.safetensors"]


def test_a_killed_average_of_an_adapter_goes_on_with_the_bytes_of_an_undisturbed_one(
    new_run, tiny_checkpoint, prompts, monkeypatch
):
    pytest.importorskip("peft")
    whole = new_run("whole")
    train(adapted("nash_ema", 3), whole, tiny_checkpoint, prompts)
    with monkeypatch.context() as patch:
        nth_call(online_loop.OnlineLoop, "record", 3, patch)
        with pytest.raises(Killed):
            train(adapted("nash_ema", 3), new_run("killed"), tiny_checkpoint, prompts)
    run = new_run("killed")
    train(adapted("nash_ema", 3), run, tiny_checkpoint, prompts)
    assert digests(whole.out) == digests(run.out) and lines(whole) == lines(run)


@pytest.fixture
def elsewhere(tiny_checkpoint, monkeypatch):
    """The engines that trainings made: each computes apart from its trainer."""
    made = []
    monkeypatch.setattr(
        live, "make_live_engine", lambda *_: made.append(Elsewhere(tiny_checkpoint, Runtime())) or made[-1]
    )
    return made


MISMATCH = {
    f"sampling/{name}"
    for name in (
        "probe_difference",
        "probe_difference_mean",
        "sampling_logp_difference/mean",
        "sampling_logp_difference/max",
        "importance_sampling_ratio/mean",
        "importance_sampling_ratio/min",
        "importance_sampling_ratio/max",
    )
}


@pytest.mark.parametrize("method", list(METHODS))
def test_another_engine_samples_the_policys_answers_with_its_weights_of_now_and_the_opponents_stay_with_the_trainer(
    method, new_run, tiny_checkpoint, prompts, elsewhere, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        Elsewhere,
        "generate",
        lambda self, ids, *more: asked.append(len(ids)) or TransformersGenerator.generate(self, ids, *more),
        raising=False,
    )
    own, other = new_run("own"), new_run("other")
    train(config_of(method), own, tiny_checkpoint, prompts)
    train(config_of(method, generator="vllm"), other, tiny_checkpoint, prompts)
    (engine,) = elsewhere
    assert engine.taken == 3 and sum(asked) == 3 * 6 * METHODS[method].get("num_generations", 1)
    assert not lines(own)[0].keys() & MISMATCH
    for one, two in zip(lines(own), lines(other), strict=True):
        weighed = {"sampling/importance_sampling_clipped"} if method.startswith("nash") else set()
        assert two.keys() - one.keys() == MISMATCH | weighed
        assert {name: two[name] for name in one} == pytest.approx(one, rel=1e-3, abs=1e-4), "the same answers"
        assert 0 < two["sampling/sampling_logp_difference/max"] < 1e-4
        assert two["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("phase", ["sampled", "mid-update", "after the step"])
def test_after_a_kill_another_engine_gets_the_restored_weights(
    phase, new_run, tiny_checkpoint, prompts, elsewhere, monkeypatch
):
    config, (target, name, count) = config_of("nash_ema", generator="vllm"), PHASES[phase]
    whole = new_run("whole", micro_batch_tokens=64)
    train(config, whole, tiny_checkpoint, prompts)
    with monkeypatch.context() as patch:
        nth_call(target, name, count, patch)
        with pytest.raises(Killed):
            train(config, new_run("killed", micro_batch_tokens=64), tiny_checkpoint, prompts)
    run = new_run("killed", micro_batch_tokens=64)
    train(config, run, tiny_checkpoint, prompts)
    assert digests(whole.out) == digests(run.out) and lines(whole) == lines(run)
    assert sum(engine.taken for engine in elsewhere) == 3 + 3, "answers that are on disk need no engine"


def test_a_policy_gradient_weighs_what_another_engine_drew_and_a_loss_of_pairs_does_not(
    new_run, tiny_checkpoint, prompts, elsewhere, monkeypatch
):
    """An engine that gives each token half its probability: the ratio is 2, and held at the bound 1.5."""
    real = TransformersGenerator.generate

    def halved(self, *arguments):
        return [
            replace(found, logps=tuple(value - math.log(2) for value in found.logps))
            for found in real(self, *arguments)
        ]

    monkeypatch.setattr(Elsewhere, "generate", halved, raising=False)
    norms = {}
    for method in ("nash_md", "online_dpo"):
        for name, options in (
            ("own", {}),
            ("weighed", {"generator": "vllm", "importance_sampling_clip_max": 1.5}),
            ("unweighed", {"generator": "vllm", "importance_sampling_correction": False}),
        ):
            if method == "online_dpo":
                options = {key: value for key, value in options.items() if key == "generator"}
            run = new_run(f"{method}-{name}")
            train(config_of(method, 1, **function("letters"), **options), run, tiny_checkpoint, prompts)
            (point,) = lines(run)
            norms[method, name] = point["grad_norm"]
            assert point.get("sampling/importance_sampling_ratio/mean", 2.0) == pytest.approx(2, abs=1e-3)
            clipped = {"weighed": 1.0, "unweighed": 0.0}.get(name) if method == "nash_md" else None
            assert point.get("sampling/importance_sampling_clipped") == clipped
    assert norms["nash_md", "weighed"] == pytest.approx(1.5 * norms["nash_md", "own"], rel=1e-3)
    assert norms["nash_md", "unweighed"] == pytest.approx(norms["nash_md", "own"], rel=1e-3)
    assert norms["online_dpo", "weighed"] == pytest.approx(norms["online_dpo", "own"], rel=1e-3)


def test_an_engine_that_misses_the_weights_ends_the_training(new_run, tiny_checkpoint, prompts, elsewhere, monkeypatch):
    monkeypatch.setattr(Elsewhere, "off", 0.02)
    with pytest.raises(TrainingError, match="its results differ from the trainer's"):
        train(config_of("online_dpo", generator="vllm"), new_run(), tiny_checkpoint, prompts)


def test_the_watcher_teaches_nothing_and_samples_show_both_answers(new_run, tiny_checkpoint, prompts):
    with_judge, without = new_run("with"), new_run("without")
    train(config_of("online_dpo", 2, heldout_judge={"name": "rubric"}), with_judge, tiny_checkpoint, prompts)
    train(config_of("online_dpo", 2), without, tiny_checkpoint, prompts)
    assert "objective/heldout_judge" in lines(with_judge)[0] and digests(with_judge.out) == digests(without.out)
    sample = lines(without, "samples")[0]
    assert sample.keys() >= {"prompt", "completion", "against", "probability", "taught", "kl", "tokens", "ended"}
    if sample["taught"]:
        assert sample["probability"] > 0.5


def test_an_alarm_may_stop_the_run_with_the_last_good_weights(new_run, tiny_checkpoint, prompts):
    config = config_of("online_dpo", 6, alarms={"kl_limit": 1e-3}, on_alarm="stop")
    run = new_run()
    metrics = train(config.model_copy(update={"learning_rate": 3e-2}), run, tiny_checkpoint, prompts)
    (told, *_) = lines(run, "alarms")
    assert told["alarm"] == "kl" and metrics["stopped_at"] == told["step"] and metrics["updates"] == told["step"] - 1


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("online_dpo", {"judge": {"name": "nobody"}}, "unknown name 'nobody'"),
        ("online_dpo", {"pair_loss": "ddpo"}, "unknown name 'ddpo'"),
        ("online_dpo", {"pair_loss": "kto"}, "not a loss of single pairs"),
        ("online_dpo", {"pair_loss": "simpo"}, "not a loss of single pairs"),
        ("online_dpo", {"pair_loss": "ipo", "soft_labels": True}, "no soft labels"),
        ("online_dpo", {"pair_loss_options": {"label_smooth": 0.1}}, "label_smooth"),
        ("online_dpo", {**judge(), **function("letters")}, "leave one of them out"),
        ("xpo", {"heldout_judge": {"name": "llm"}}, "has no scores"),
        ("nash_md", {"response_length": 64}, "no room for a prompt"),
        ("nash_md", {"mixture_coef": 1.5}, "mixture_coef"),
        ("nash_md", {"importance_sampling_clip_min": 4.0}, "importance_sampling_clip_max 3"),
    ],
)
def test_names_and_numbers_are_checked_before_a_model_loads(method, changes, message, new_run, prompts, tmp_path):
    with pytest.raises(RecipeError, match=message):
        train(config_of(method, **changes), new_run(), tmp_path / "no model here", prompts)


def test_soft_labels_aim_at_the_judges_probability(new_run, tiny_checkpoint, prompts):
    """At the reference the gradient of DPO is proportional to target - 1/2: 0.4 for the judge's 0.9 in place of 0.5."""
    norms = {}
    for soft in (True, False):
        run = new_run(str(soft))
        train(config_of("online_dpo", 1, soft_labels=soft), run, tiny_checkpoint, prompts)
        norms[soft] = lines(run)[0]["grad_norm"]
    assert norms[True] == pytest.approx(0.8 * norms[False], rel=1e-3)


def test_the_opponent_of_nash_ema_is_the_average_of_the_weights(new_run, tiny_checkpoint, prompts):
    """With decay 0 it is the policy itself, so that only the seeds of its answers tell it from nash_md without reference."""
    ema, mixture = new_run("ema"), new_run("mixture")
    train(config_of("nash_ema", 3, ema_decay=0.0), ema, tiny_checkpoint, prompts)
    train(config_of("nash_md", 3, mixture_coef=0.0), mixture, tiny_checkpoint, prompts)
    for one, other in zip(lines(ema), lines(mixture), strict=True):
        assert one["rewards/probabilities"] == pytest.approx(other["rewards/probabilities"], abs=1e-6)
    ours, theirs = (load_policy(run.out, Runtime()).model.state_dict() for run in (ema, mixture))
    assert all(torch.allclose(value, theirs[name], atol=1e-5) for name, value in ours.items())


def test_the_answers_that_rewards_see_have_their_lengths_in_tokens(new_run, tiny_checkpoint, prompts, monkeypatch):
    """Without them a check of lengths scores nothing."""
    seen, real = [], online_preference.compared
    monkeypatch.setattr(
        online_preference, "compared", lambda by, given, *rest: seen.extend(given) or real(by, given, *rest)
    )
    train(config_of("online_dpo", 1), new_run(), tiny_checkpoint, prompts)
    assert len(seen) == 12 and all(1 <= episode.tokens <= 6 for episode in seen)
