"""Training on sampled answers: it learns what its reward says, loses nothing to a kill, and says what goes wrong."""

import importlib
import json
import math
from dataclasses import replace

import pytest
import torch

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import AlignConfig, LoRAConfig, RewardConfig
from alignflow.data.errors import RecipeError, TrainingError
from alignflow.data.records import assistant, user, write_table
from alignflow.data.run import Run, Runtime
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.policy import load_policy
from alignflow.models.rewards.sources import WeightedRewards
from alignflow.models.rollouts import answer_statistics
from alignflow.models.trainers import online, online_loop, participants, rollout_source, update
from alignflow.models.trainers.align import align
from alignflow.models.trainers.reward import train_reward
from alignflow.models.trainers.saved_state import SavedStates

WORDS = ["cat", "dog", "bird", "house", "hill", "rain", "mat"]
CODE = """
def letters(prompt, completion, row):
    assert prompt[0]["role"] == "user" and row["id"]
    return completion.count("a") - 0.2 * len(completion)

def sometimes(prompt, completion, row):
    if len(completion) % 2:
        raise ValueError("odd")
    return 1.0

def always(prompt, completion, row):
    return 1.0

def odd(prompt, completion, row):
    return float(completion.count("a") > 0)

def never(prompt, completion, row):
    return None
"""


@pytest.fixture(autouse=True)
def own_rewards(tmp_path, monkeypatch):
    """A module of the user's with reward functions."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_rewards.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_checkpoint):
    """Prompts, demonstrations, and a small reward model that prefers `cat` to `dog`."""
    root = tmp_path_factory.mktemp("data")
    questions = [
        {"id": f"q{i}", "source": "t", "prompt": user(f"the {WORDS[i % 7]} {WORDS[i % 3]}"), "instructions": None}
        for i in range(12)
    ]
    write_table(questions, "prompts", root / "prompts" / "train.parquet")
    shown = [
        {"id": f"d{i}", "source": "t", "messages": [*user(f"the {WORDS[i % 7]}"), *assistant("the cat sat")]}
        for i in range(6)
    ]
    write_table(shown, "demonstrations", root / "demonstrations" / "train.parquet")
    pairs = [
        {
            "id": f"p{i}",
            "source": "t",
            "prompt": user(f"the {WORDS[i % 7]}"),
            "chosen": assistant(f"cat {WORDS[i % 5]}"),
            "rejected": assistant(f"dog {WORDS[(i + 1) % 5]}"),
            "chosen_ended": True,
            "rejected_ended": True,
        }
        for i in range(20)
    ]
    places = {name: root / "reward" / name for name in ("out", "side", "work", "rows")}
    for place in places.values():
        place.mkdir(parents=True)
    for side in ("train", "heldout"):
        write_table(pairs, "preferences", root / "pairs" / f"{side}.parquet")
    config = RewardConfig(learning_rate=5e-3, max_steps=6, batch_size=20, max_length=64)
    train_reward(config, base=tiny_checkpoint, preferences=root / "pairs", run=Run(**places, runtime=Runtime()))
    return {"prompts": root / "prompts", "demonstrations": root / "demonstrations", "reward_model": places["out"]}


def function(name):
    return {"name": "function", "options": {"function": f"own_rewards:{name}"}}


def ppo(steps=3, **options):
    chosen = {
        "response_length": 6,
        "num_ppo_epochs": 2,
        "num_mini_batches": 2,
        "rewards": [function("letters")],
        "samples_steps": 2,
        "samples": 2,
        **options,
    }
    return AlignConfig(
        method="ppo",
        learning_rate=3e-3,
        max_steps=steps,
        batch_size=12,
        max_length=64,
        logging_steps=1,
        save_steps=1,
        options=chosen,
    )


def train(config, run, checkpoint, data, *more):
    """The stage body, on the inputs that the options name."""
    given = {name: data[name] for name in ("prompts", *more)}
    return align(config, policy=checkpoint, reference=checkpoint, run=run, **given)


def lines(run, name="curves"):
    return [json.loads(line) for line in (run.side / f"{name}.jsonl").read_text().splitlines()]


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_the_reward_rises_and_the_curves_have_trls_names(engine, new_run, tiny_checkpoint, data):
    run = new_run(engine=engine)
    metrics = train(
        ppo(12, kl_coef=0.01, value_learning_rate=1e-2, num_mini_batches=1, num_ppo_epochs=4),
        run,
        tiny_checkpoint,
        data,
    )
    curve = lines(run)
    assert [point["step"] for point in curve] == list(range(1, 13))
    assert {
        "objective/kl",
        "objective/entropy",
        "objective/non_score_reward",
        "objective/rlhf_reward",
        "objective/scores",
        "objective/scores/own_rewards:letters",
        "policy/approxkl_avg",
        "policy/clipfrac_avg",
        "policy/entropy_avg",
        "loss/policy_avg",
        "loss/value_avg",
        "val/clipfrac_avg",
        "val/ratio",
        "val/ratio_var",
        "val/num_eos_tokens",
        "val/explained_variance",
        "lr",
        "episode",
        "completions/mean_length",
        "completions/stop_rate",
        "completions/repetition",
    } <= curve[0].keys()
    first, last = (sum(point["objective/scores"] for point in part) / 4 for part in (curve[:4], curve[-4:]))
    assert last > first and curve[-1]["objective/kl"] > 0
    assert metrics["updates"] == 12 and metrics["episodes"] == 144 and run.tokens > 0
    assert load_policy(run.out, Runtime()).model.config.vocab_size


def test_at_the_first_step_the_policy_is_the_sampler_and_the_reference(new_run, tiny_checkpoint, data):
    """KL 0; with one step the ratio is 1 and nothing is clipped; rewards are the scores."""
    run = new_run()
    train(ppo(1, num_ppo_epochs=1, num_mini_batches=1), run, tiny_checkpoint, data)
    (point,) = lines(run)
    assert point["objective/kl"] == pytest.approx(0, abs=1e-4) and point["val/ratio"] == pytest.approx(1, abs=1e-5)
    assert point["policy/approxkl_avg"] < 1e-9 and point["policy/clipfrac_avg"] == 0
    assert point["objective/rlhf_reward"] == pytest.approx(point["objective/scores"], abs=1e-4)


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


# Of updates with one batch of rollouts and four steps each; the second update is killed.
PHASES = {
    "rollout": (TransformersGenerator, "generate", 2),
    "scoring": (WeightedRewards, "score", 2),
    "log-probabilities": (online, "answer_statistics", 2),
    "first policy step": (update, "policy_step", 5),
    "last value step": (update, "value_step", 8),
    "after the steps": (online_loop.OnlineLoop, "record", 2),
    "saving": (SavedStates, "save", 6),  # two of the buffer and one after each update
}
FULL = {
    "adaptive_kl": True,
    "normalize_scores": "mean_std",
    "ptx_coefficient": 0.1,
    "entropy_coefficient": 0.01,
    "whiten_rewards": True,
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_checkpoint, data):
    """A run per engine that nothing disturbs."""
    found = {}

    def run_of(engine):
        if engine not in found:
            root = tmp_path_factory.mktemp("undisturbed")
            places = {name: root / name for name in ("out", "side", "work", "rows")}
            for place in places.values():
                place.mkdir()
            found[engine] = Run(**places, runtime=Runtime(engine=engine))
            train(ppo(**FULL), found[engine], tiny_checkpoint, data, "demonstrations")
        return found[engine]

    return run_of


@pytest.mark.parametrize("phase", list(PHASES))
@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_a_kill_in_any_phase_ends_with_the_bytes_of_an_undisturbed_run(
    phase, engine, undisturbed, new_run, tiny_checkpoint, data, monkeypatch
):
    whole = undisturbed(engine)
    nth_call(*PHASES[phase], monkeypatch)
    with pytest.raises(Killed):
        train(ppo(**FULL), new_run(engine=engine), tiny_checkpoint, data, "demonstrations")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(new_run().out.parents[1] / "code"))
    assert not list(new_run().out.iterdir())
    sampled = []
    monkeypatch.setattr(
        rollout_source,
        "sample_rollouts",
        lambda *a, real=rollout_source.sample_rollouts, **named: sampled.append(a[3]) or real(*a, **named),
    )
    run = new_run(engine=engine)
    train(ppo(**FULL), run, tiny_checkpoint, data, "demonstrations")
    assert digests(whole.out) == digests(run.out)
    for name in ("curves", "samples", "alarms"):
        assert lines(whole, name) == lines(run, name), name
    assert sampled == ([1, 2] if phase == "rollout" else [2]), "answers that were sampled are not sampled again"


AHEAD = {"rollout ahead": (TransformersGenerator, "generate", 3), "saving ahead": (SavedStates, "save", 6)}
"""Calls of a run that draws answers of the next update ahead; a save each of sampled, scored, ahead, and the state."""


@pytest.mark.parametrize("phase", [*AHEAD, "first policy step"])
def test_a_run_that_draws_ahead_ends_with_the_same_bytes_after_a_kill(
    phase, new_run, tiny_checkpoint, data, monkeypatch
):
    whole, run = new_run("whole"), new_run("killed")
    train(ppo(rollout_ahead=1), whole, tiny_checkpoint, data)
    assert [point["sampling/staleness"] for point in lines(whole)] == [0.0, 1.0, 1.0]
    with monkeypatch.context() as dying, pytest.raises(Killed):
        nth_call(*{**PHASES, **AHEAD}[phase], dying)
        train(ppo(rollout_ahead=1), run, tiny_checkpoint, data)
    train(ppo(rollout_ahead=1), new_run("killed"), tiny_checkpoint, data)
    assert digests(whole.out) == digests(run.out) and lines(whole) == lines(run)


@pytest.mark.parametrize("options", [{}, {"rollout_ahead": 1}, FULL], ids=["plain", "ahead", "full"])
def test_a_kill_long_after_the_last_state_ends_with_the_same_bytes(
    options, new_run, tiny_checkpoint, data, monkeypatch
):
    """States are kept when they cost little: the third and fourth update are done again from the state after the second."""
    config = ppo(5, **options).model_copy(update={"save_steps": 50})
    more = ("demonstrations",) if options is FULL else ()
    whole, run = new_run("whole"), new_run("killed")
    train(config, whole, tiny_checkpoint, data, *more)
    monkeypatch.setattr(online_loop.StateSchedule, "due", lambda self, done: done == 2)
    with monkeypatch.context() as dying, pytest.raises(Killed):
        nth_call(online_loop.OnlineLoop, "record", 5, dying)
        train(config, run, tiny_checkpoint, data, *more)
    assert SavedStates(run.work).steps() == [2]
    sampled = []
    monkeypatch.setattr(
        rollout_source,
        "sample_rollouts",
        lambda *a, real=rollout_source.sample_rollouts, **named: sampled.append(a[3]) or real(*a, **named),
    )
    train(config, new_run("killed"), tiny_checkpoint, data, *more)
    assert digests(whole.out) == digests(run.out) and lines(whole) == lines(run)
    assert sampled == ([] if options.get("rollout_ahead") else [2, 3, 4])


def test_small_micro_batches_change_results_by_rounding_only(new_run, tiny_checkpoint, data):
    points = []
    for tokens in (8192, 64):
        run = new_run(str(tokens), micro_batch_tokens=tokens)
        train(ppo(1, ptx_coefficient=0.1, entropy_coefficient=0.01), run, tiny_checkpoint, data, "demonstrations")
        points.append(lines(run)[0])
    assert points[0] == pytest.approx(points[1], abs=2e-3, rel=2e-2)


def test_the_value_model_starts_from_the_reward_model_where_that_gives_the_rewards(
    new_run, tiny_checkpoint, data, capfd
):
    rewards = {"rewards": [{"name": "reward_model"}]}
    run = new_run()
    train(ppo(1, **rewards), run, tiny_checkpoint, data, "reward_model")
    assert "starts from the reward model" in capfd.readouterr().out
    assert "objective/scores/reward_model" in lines(run)[0]
    train(ppo(1, init_value_from="policy", **rewards), new_run("other"), tiny_checkpoint, data, "reward_model")
    assert "starts from the policy" in capfd.readouterr().out


def test_several_sources_are_weighed_and_shown_by_name(new_run, tiny_checkpoint, data):
    run = new_run()
    rubric = {"name": "judge", "weight": 2.0, "options": {"judge": {"name": "rubric"}}}
    train(ppo(1, rewards=[rubric, {**function("letters"), "weight": -0.5}]), run, tiny_checkpoint, data)
    (point,) = lines(run)
    wanted = 2.0 * point["objective/scores/rubric:helpful"] - 0.5 * point["objective/scores/own_rewards:letters"]
    assert point["objective/scores"] == pytest.approx(wanted)


def test_a_reward_that_fails_is_no_score_counted_and_said_once(new_run, tiny_checkpoint, data):
    run = new_run()
    train(ppo(2, rewards=[function("sometimes")]), run, tiny_checkpoint, data)
    for point in lines(run):
        assert 0 < point["objective/unscored"] < 1 and point["objective/scores"] == 1.0, "a failure is not a 0"
    assert sum("raised ValueError: odd" in warning for warning in run.warnings) == 1
    assert None in [sample["score"] for sample in lines(run, "samples")] or lines(run, "samples")


def test_an_update_without_any_score_is_refused(new_run, tiny_checkpoint, data):
    run = new_run()
    with pytest.raises(TrainingError, match="none of 12 answers has a score"):
        train(ppo(rewards=[function("never")]), run, tiny_checkpoint, data)
    assert "returned None" in run.warnings[0]


def test_target_kl_ends_the_policy_steps_of_an_update(new_run, tiny_checkpoint, data):
    run = new_run()
    train(ppo(2, target_kl=1e-9), run, tiny_checkpoint, data)
    assert all(point["policy/stopped_early"] == 1.0 for point in lines(run))


def test_in_the_warm_up_the_value_model_alone_learns(new_run, tiny_checkpoint, data):
    run = new_run()
    train(ppo(2, value_warmup_steps=2), run, tiny_checkpoint, data)
    policy, start = (load_policy(path, Runtime()).model.state_dict() for path in (run.out, tiny_checkpoint))
    assert all(torch.equal(value, start[name]) for name, value in policy.items())
    assert all("loss/value_avg" in point and "loss/policy_avg" not in point for point in lines(run))


def test_an_alarm_is_told_kept_and_may_stop_the_run_with_the_last_good_weights(new_run, tiny_checkpoint, data):
    """A KL limit that the second or third update passes; what is published are the weights of the update before."""

    def run_of(name, steps, **options):
        config = ppo(steps, whiten_advantages=False, alarms={"kl_limit": 1e-3}, **options)
        run = new_run(name)
        return run, train(
            config.model_copy(update={"lr_scheduler_type": "constant", "warmup_ratio": 0.0}), run, tiny_checkpoint, data
        )

    warned, metrics = run_of("warned", 4)
    (told, *_) = lines(warned, "alarms")
    assert told["alarm"] == "kl" and told["step"] > 1 and metrics["updates"] == 4 and metrics["alarms"] >= 1
    assert any(f"alarm kl at update {told['step']}" in warning for warning in warned.warnings)
    stopped, metrics = run_of("stopped", 4, on_alarm="stop")
    assert metrics["stopped_at"] == told["step"] and metrics["updates"] == told["step"] - 1
    short, _ = run_of("short", told["step"] - 1)
    assert file_digest(stopped.out / "model.safetensors") == file_digest(short.out / "model.safetensors")


def test_an_adapter_trains_alone_and_is_its_own_reference(new_run, tiny_checkpoint, data, monkeypatch):
    """The reference is the policy with the adapter off: no second model, and KL 0 at first."""
    pytest.importorskip("peft")
    loaded = []
    for name in ("load_learner", "load_frozen"):
        real = getattr(participants, name)
        monkeypatch.setattr(participants, name, lambda *a, real=real, **named: loaded.append(a) or real(*a, **named))
    run = new_run()
    train(ppo(2).model_copy(update={"lora": LoRAConfig(r=2), "learning_rate": 5e-2}), run, tiny_checkpoint, data)
    first, second = lines(run)
    assert (
        len(loaded) == 1
        and first["objective/kl"] == pytest.approx(0, abs=1e-4)
        and second["objective/kl"] != first["objective/kl"]
    )
    assert not (run.out / "model.safetensors").exists()
    with pytest.raises(RecipeError, match="dropout"):
        train(ppo(1).model_copy(update={"lora": LoRAConfig(lora_dropout=0.1)}), new_run("other"), tiny_checkpoint, data)


def test_the_curves_are_tensorboards_too(new_run, tiny_checkpoint, data):
    run = new_run()
    train(ppo(1), run, tiny_checkpoint, data)
    assert list((run.side / "tensorboard").iterdir())


def test_the_held_out_judge_watches_and_gives_no_reward(new_run, tiny_checkpoint, data):
    with_judge, without = new_run("with"), new_run("without")
    train(ppo(2, heldout_judge={"name": "rubric"}), with_judge, tiny_checkpoint, data)
    train(ppo(2), without, tiny_checkpoint, data)
    assert "objective/heldout_judge" in lines(with_judge)[0] and "objective/heldout_judge" not in lines(without)[0]
    assert digests(with_judge.out) == digests(without.out)


def test_samples_stand_beside_the_artifact(new_run, tiny_checkpoint, data):
    run = new_run()
    train(ppo(3), run, tiny_checkpoint, data)
    samples = lines(run, "samples")
    assert [sample["step"] for sample in samples] == [1, 1, 2, 2, 3, 3]
    assert {"prompt", "completion", "score", "scores/own_rewards:letters", "kl", "tokens", "ended"} <= samples[0].keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": [{"name": "function", "options": {"function": "own_rewards:nothing"}}]}, "no function"),
        ({"rewards": [{"name": "function", "options": {"function": "nowhere:f"}}]}, "no function"),
        ({"rewards": [{"name": "judge", "options": {"judge": {"name": "llm"}}}]}, "has no scores"),
        ({"heldout_judge": {"name": "llm"}}, "has no scores"),
        ({"advantage": "gea"}, "unknown name 'gea'"),
        ({"num_mini_batches": 13}, "13 mini-batches of 12"),
        ({"num_generations": 5}, "not a multiple of 5"),
        ({"advantage": "grpo"}, "there is one"),
        ({"response_length": 64}, "no room for a prompt"),
        ({"adaptive_kl": True, "kl_horizon": 2}, "take kl_coef to 0 or below"),
    ],
)
def test_names_and_numbers_are_checked_before_a_model_loads(changes, message, new_run, data, tmp_path):
    with pytest.raises(RecipeError, match=message):
        train(ppo(**changes), new_run(), tmp_path / "no model here", data)


def test_a_value_model_cannot_start_from_a_reward_model_that_is_not_there(new_run, tiny_checkpoint, data):
    with pytest.raises(RecipeError, match="no reward model"):
        train(ppo(init_value_from="reward_model"), new_run(), tiny_checkpoint, data)


def test_prompts_that_are_too_long_are_left_out_and_counted(new_run, tiny_checkpoint, data):
    run = new_run()
    with pytest.raises(TrainingError, match="no prompts"):
        train(ppo().model_copy(update={"max_length": 7}), run, tiny_checkpoint, data)
    assert "12 prompts are over 1 tokens" in run.warnings[0]


def group_method(method, steps=2, **options):
    """A policy-gradient method in groups of two."""
    chosen = {
        "response_length": 6,
        "num_generations": 2,
        "rewards": [function("letters")],
        "samples": 0,
        **options,
    }
    return AlignConfig(
        method=method,
        learning_rate=3e-3,
        max_steps=steps,
        batch_size=12,
        max_length=64,
        logging_steps=1,
        options=chosen,
    )


def test_a_group_method_has_no_value_model_and_its_kl_in_the_loss(new_run, tiny_checkpoint, data):
    run = new_run()
    train(group_method("grpo"), run, tiny_checkpoint, data)
    first, second = lines(run)
    assert first["frac_reward_zero_std"] < 1 and first["policy/kl_avg"] == pytest.approx(0, abs=1e-6)
    assert second["policy/kl_avg"] > 0 and "loss/value_avg" not in first
    assert first["val/ratio"] == pytest.approx(1, abs=1e-5)


def test_without_rounds_prompts_that_teach_nothing_stay_and_leave_the_weights_as_they_are(
    new_run, tiny_checkpoint, data
):
    """All answers score 1: every group is even, and no gradient comes of it."""
    run = new_run()
    options = {"rewards": [function("always")], "kl_coef": 0.0, "alarms": {"window": 2}}
    train(group_method("grpo", **options), run, tiny_checkpoint, data)
    assert [point["frac_reward_zero_std"] for point in lines(run)] == [1, 1]
    assert [alarm["alarm"] for alarm in lines(run, "alarms")] == ["zero_variance"]
    policy, start = (load_policy(path, Runtime()).model.state_dict() for path in (run.out, tiny_checkpoint))
    assert all(torch.equal(value, start[name]) for name, value in policy.items())


def test_dynamic_sampling_takes_further_prompts_and_survives_a_kill_bit_for_bit(
    new_run, tiny_checkpoint, data, monkeypatch
):
    """The reward differs for few answers, so that one round does not fill an update; a kill falls into the second round of the second."""
    config = group_method("dapo", 3, dynamic_sampling=2, rewards=[function("odd")], overlong_buffer=0.0)
    whole = new_run("whole")
    train(config, whole, tiny_checkpoint, data)
    points = lines(whole)
    assert max(point["dynamic_sampling/rounds"] for point in points) > 1
    taken = [update for update, point in enumerate(points) if point["dynamic_sampling/unfilled"]]
    assert sum("did not fill the update" in text for text in whole.warnings) == (1 if taken else 0)
    rounds = int(points[0]["dynamic_sampling/rounds"])
    nth_call(TransformersGenerator, "generate", rounds + 2, monkeypatch)
    with pytest.raises(Killed):
        train(config, new_run("killed"), tiny_checkpoint, data)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(new_run("whole").out.parents[1] / "code"))
    run = new_run("killed")
    train(config, run, tiny_checkpoint, data)
    assert digests(whole.out) == digests(run.out) and lines(whole) == lines(run)


def test_an_engine_that_drew_otherwise_is_corrected_and_shown(new_run, tiny_checkpoint, data, monkeypatch):
    """The engine says log-probabilities that are half a nat lower than the trainer's: every ratio is exp 0.5."""

    def drawn(*arguments, real=rollout_source.sample_rollouts, **named):
        found = real(*arguments, **named)
        logps = answer_statistics(policy, found.rows, ("logps",), 1.0)["logps"]
        return replace(found, behaviour_logps=logps - 0.5)

    policy = load_policy(tiny_checkpoint, Runtime())
    losses = {}
    for name, options in (("plain", {"importance_sampling_correction": False}), ("corrected", {})):
        monkeypatch.setattr(rollout_source, "sample_rollouts", drawn)
        run = new_run(name)
        train(group_method("dr_grpo", 1, **options), run, tiny_checkpoint, data)
        monkeypatch.undo()
        monkeypatch.syspath_prepend(str(run.out.parents[1] / "code"))
        (point,) = lines(run)
        assert point["sampling/sampling_logp_difference/mean"] == pytest.approx(0.5, abs=1e-3)
        assert point["sampling/importance_sampling_ratio/max"] == pytest.approx(math.exp(0.5), abs=1e-2)
        losses[name] = point["policy/grad_norm"]
    assert losses["corrected"] == pytest.approx(math.exp(0.5) * losses["plain"], rel=1e-3)


def test_k1_as_a_loss_is_told(new_run, tiny_checkpoint, data):
    run = new_run()
    train(group_method("grpo", 1, kl_estimator="k1"), run, tiny_checkpoint, data)
    assert any("gradient with mean 0" in warning for warning in run.warnings)


def test_mini_batches_may_cut_a_group(new_run, tiny_checkpoint, data):
    run = new_run()
    train(group_method("grpo", steps=1, num_generations=12, num_mini_batches=4), run, tiny_checkpoint, data)
    assert len(lines(run)) == 1

    with pytest.raises(RecipeError, match="too few for 1 processes and 13 mini-batches|13 mini-batches of 12"):
        train(group_method("grpo", num_generations=12, num_mini_batches=13), new_run(), tiny_checkpoint, data)
