"""A plan knows what each step needs before anything runs, and refuses what cannot fit."""

import json

import pytest
from flow_support import publish_all
from model_directory_support import write_model_directory

from alignflow.data.configs.loading import load_recipe
from alignflow.data.errors import UserError
from alignflow.data.estimate.place import GIB, MIB
from alignflow.data.estimate.shapes import built_shape, read_shape
from alignflow.data.estimate.tokens import implied_tokens
from alignflow.data.run import Runtime
from alignflow.flows import capacity
from alignflow.flows.calls import plan
from alignflow.flows.capacity import TOLERANCE, Estimator, duration, refuse_too_large, size
from alignflow.tasks.launch.machine import Machine
from alignflow.tasks.store.past_runs import EarlierRun

SMALL_MACHINE = Machine(memory=2 * GIB, available=GIB, free_disk=2 * GIB)
BIG = (
    "model.build.hidden_size=4096",
    "model.build.num_hidden_layers=32",
    "model.build.num_attention_heads=32",
    "model.build.num_key_value_heads=32",
    "model.build.intermediate_size=11008",
    "model.build.vocab_size=32000",
)
MACHINE = Machine(memory=64 * GIB, available=60 * GIB, free_disk=10_000 * GIB)


@pytest.fixture
def estimates(repository, store):
    """Name -> need of a recipe's steps on a machine."""

    def make(*settings, name="tiny", machine=MACHINE):
        recipe = load_recipe(repository / "recipes" / f"{name}.yaml", settings)
        steps = plan(recipe, store, len(machine.gpus))
        return {need.name: need for need in Estimator(recipe, store, machine).needs(steps)}

    return make


@pytest.mark.parametrize("name", ["tiny", "quickstart"])
def test_the_shipped_recipes_fit_a_small_machine(estimates, name):
    found = estimates(name=name, machine=SMALL_MACHINE)
    assert not any(need.too_large or need.tight or need.unknown for need in found.values())
    assert all(found[stage].memory for stage in ("init", "sft", "sample", "reward", "align", "evaluate"))
    assert found["prepare"].memory is found["label"].memory is found["report"].memory is None
    assert found["sft"].disk > found["init"].disk > 0 and found["sft"].time == ""


@pytest.mark.parametrize(
    ("name", "hidden", "layers", "heads", "keys", "inner", "vocabulary"),
    [
        ("stories3m", 192, 6, 6, 2, 512, 4096),
        ("paft", 192, 6, 6, 2, 512, 4096),
        ("smollm2", 576, 30, 9, 3, 1536, 49152),
    ],
)
def test_the_recipes_for_real_models_fit_a_small_machine(
    estimates, tmp_path, name, hidden, layers, heads, keys, inner, vocabulary
):
    config = {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
    }
    write_model_directory(tmp_path / "model", **config)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    data = [f"data.{kind}=[{{path: {tmp_path}/rows.jsonl}}]" for kind in ("demonstrations", "prompts", "general")]
    found = estimates(
        f"model.path={tmp_path / 'model'}", *data, name=name, machine=Machine(memory=8 * GIB, free_disk=10 * GIB)
    )
    assert not any(need.too_large or need.unknown for need in found.values())


def test_what_cannot_fit_is_named_with_its_parts_and_a_change(estimates):
    found = estimates(*BIG)
    assert not found["init"].too_large and not found["sample"].too_large
    reason, *advice = found["sft"].too_large
    assert (
        "sft needs about" in reason and "memory" in reason and "optimizer" in reason and "there are 64.0 GiB" in reason
    )
    assert advice and all(line.startswith("  ") for line in advice)


def test_only_a_chosen_step_stops_a_run(estimates):
    needs = list(estimates(*BIG).values())
    refuse_too_large(needs, frozenset({"init", "prepare", "sample"}))
    with pytest.raises(UserError, match="cannot fit") as refusal:
        refuse_too_large(needs, frozenset({"init", "sft"}))
    assert "--even-if-too-large" in str(refusal.value) and refusal.value.exit_status == 2


def test_a_need_a_little_over_the_limit_is_tight_and_runs(estimates):
    total = estimates()["sft"].memory.peak.total
    assert estimates(machine=Machine(memory=int(total * (1 - TOLERANCE / 2))))["sft"].tight
    too_large = estimates(machine=Machine(memory=int(total * (1 - TOLERANCE) * 0.95)))["sft"]
    assert too_large.too_large and not too_large.tight


def test_a_full_disk_is_named(estimates):
    found = estimates(machine=Machine(memory=64 * GIB, free_disk=MIB // 4))
    assert "disk" in found["sft"].too_large[0] and "alignflow gc" in found["sft"].too_large[1]


def test_a_machine_that_says_nothing_refuses_nothing(estimates):
    assert not any(need.too_large for need in estimates(*BIG, machine=Machine()).values())


def test_a_model_of_unknown_shape_is_unknown_and_refused_nowhere(estimates, tmp_path):
    write_model_directory(tmp_path, model_type="something new")
    found = estimates(f"model.path={tmp_path}", machine=SMALL_MACHINE)
    assert all(found[stage].unknown for stage in ("init", "sft", "sample", "reward", "align", "evaluate"))
    assert (
        not found["prepare"].unknown
        and not found["report"].unknown
        and not any(need.too_large for need in found.values())
    )


def test_made_steps_need_nothing_and_tell_what_they_know(estimates, store, made, repository):
    recipe = load_recipe(repository / "recipes" / "tiny.yaml")
    statistics = json.loads((store.payload(made["prepare"]) / "statistics.json").read_text())
    tokens = implied_tokens("sft", recipe.sft, statistics, None)
    assert tokens.count > 0 and not tokens.at_most, "the real statistics say how long rows are"
    found = estimates()
    assert found["init"].memory is None and found["init"].time == "" and found["sft"].memory
    again = Estimator(recipe, store, MACHINE).needs(plan(recipe, store), frozenset({"init"}))
    assert again[0].memory and again[0].time.endswith("last time")


def test_sizes_and_times_are_short():
    assert [size(value) for value in (3 * MIB, 1.5 * GIB, 200 * GIB)] == ["3 MiB", "1.5 GiB", "200 GiB"]
    assert [duration(value) for value in (3, 120, 7200, 300_000)] == ["3 s", "2.0 min", "2.0 h", "3.5 days"]


def on_gpus(monkeypatch, **runtime):
    """Let the recipe's engine come out as a GPU one, on whatever machine the test runs."""
    chosen = Runtime(device="cuda", precision="bf16", engine="deepspeed", **runtime)
    monkeypatch.setattr("alignflow.flows.capacity.resolve_runtime", lambda engine, width, visible: chosen)


ONE_GPU = {
    "one_gpu_1b_full": {
        "model_type": "olmo2",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "intermediate_size": 8192,
        "vocab_size": 100352,
    },
    "one_gpu_8b_lora": {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 12288,
        "vocab_size": 151936,
    },
}
"""Recipe -> the shape of its model on the Hub."""
SMALL_GPU = {
    "one_gpu_1b_full": ("engine.zero_stage=2", "engine.offload=optimizer"),
    "one_gpu_8b_lora": ("engine.micro_batch_tokens=2048",),
}
"""Recipe -> what its head says for a GPU of 24 GB."""


@pytest.mark.parametrize("name", ONE_GPU)
def test_the_recipes_for_one_gpu_fit_the_gpus_that_they_are_for(estimates, repository, tmp_path, name):
    write_model_directory(tmp_path / "model", **ONE_GPU[name])
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c", "completion": "b"}\n')
    own = [f"data.{kind}=[{{path: {tmp_path}/rows.jsonl}}]" for kind in ("demonstrations", "preferences")]
    own.append(f"model.path={tmp_path / 'model'}")
    large, small = (Machine(gpus=(memory * GIB,)) for memory in (79, 24))
    shipped = estimates(*own, name=name, machine=large)
    assert not any(need.too_large or need.tight or need.unknown for need in shipped.values())
    assert any(need.too_large or need.tight for need in estimates(*own, name=name, machine=small).values())
    changed = estimates(*own, *SMALL_GPU[name], name=name, machine=small)
    assert not any(need.too_large or need.tight or need.unknown for need in changed.values())
    head = (repository / "recipes" / f"{name}.yaml").read_text().split("\nname:")[0]
    assert all(f"--set {setting}" in head for setting in SMALL_GPU[name])


def test_on_gpus_the_smallest_one_is_the_limit(estimates, monkeypatch):
    on_gpus(monkeypatch)
    found = estimates(*BIG, machine=Machine(memory=2000 * GIB, gpus=(80 * GIB, 40 * GIB), free_disk=10_000 * GIB))
    assert not found["init"].too_large and not found["sample"].too_large
    reason, *advice = found["sft"].too_large
    assert "GPU memory, but there are 40.0 GiB" in reason
    assert any("zero_stage: 3" in line for line in advice) and "still too much" not in " ".join(advice)


def test_the_machines_memory_is_a_limit_of_offloading(estimates, monkeypatch):
    on_gpus(monkeypatch, zero_stage=2, processes=8, offload="optimizer")
    gpus = (80 * GIB,) * 8
    assert estimates(*BIG, machine=Machine(memory=100 * GIB, gpus=gpus))["sft"].too_large
    assert not estimates(*BIG, machine=Machine(memory=2000 * GIB, gpus=gpus))["sft"].too_large


def test_gpus_that_do_not_tell_refuse_nothing(estimates, monkeypatch):
    on_gpus(monkeypatch)
    assert not any(need.too_large for need in estimates(*BIG, machine=Machine(memory=2000 * GIB)).values())


def test_shards_on_this_machine_take_its_memory_each(estimates):
    big = (*BIG, "engine.precision=fp32")  # what `auto` means depends on the processor
    assert not estimates(*big)["sample"].too_large
    reason, advice, *_ = estimates(*big, "sample.shards=4")["sample"].too_large
    assert "there are 64.0 GiB" in reason and "sample.shards 4" in advice
    elsewhere = ("engine.task_runner=dask", "engine.dask_address=tcp://host:8786")
    assert not estimates(*big, "sample.shards=4", *elsewhere)["sample"].too_large


def test_all_members_of_an_ensemble_are_in_memory_where_scores_are_used(estimates, repository):
    """A further member adds its fp32 weights, once, to each step that scores, and nothing to a training of another member."""
    one, two, three = (
        estimates(*BIG, "align.method=ppo", "engine.precision=fp32", f"reward.members={count}") for count in (1, 2, 3)
    )
    weights = 4 * built_shape(load_recipe(repository / "recipes/tiny.yaml", BIG).model.build).scoring_parameters
    more = [three[name].memory.peak.total - two[name].memory.peak.total for name in ("reward", "align")]
    more.append(two["align"].memory.peak.total - one["align"].memory.peak.total)
    assert more == pytest.approx([weights] * 3, abs=1)
    scoring = [
        [phase.parts["weights"] for phase in found["evaluate"].memory.phases if phase.name == "scoring"][-1]
        for found in (one, two, three)
    ]
    assert scoring == [weights, 2 * weights, 3 * weights]
    assert one["reward"].memory == two["reward.1"].memory == two["reward.2"].memory
    assert two["reward"].disk == 0, "an ensemble names its members and copies none"


def test_reward_models_of_the_users_own_count_with_shapes_of_their_own(estimates, tmp_path):
    places = []
    for width in (64, 128):
        config = {
            "hidden_size": width,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 2 * width,
            "vocab_size": 1000,
        }
        places.append(tmp_path / str(width))
        write_model_directory(places[-1], **config)
    found = estimates(f"replace.reward={json.dumps([str(place) for place in places])}", "align.method=ppo")
    wanted = 4 * sum(read_shape(place).scoring_parameters for place in places)
    (phase,) = found["reward"].memory.phases
    assert phase.parts["weights"] == wanted


def test_a_training_on_labelled_answers_counts_them_and_no_pairs(repository, store, monkeypatch):
    """The step `label` is made, with 3 pairs and 8 answers that have a label."""
    recipe = load_recipe(repository / "recipes" / "tiny.yaml", ("align.method=kto", "align.max_steps=-1"))
    metrics = {"label": {"pairs/train": 3.0, "unpaired/good": 5.0, "unpaired/bad": 3.0}}
    steps = publish_all(recipe, store, until="reward", metrics=metrics)
    (store.payload(steps["prepare"].ref()) / "statistics.json").write_text("{}")
    counted = {}

    def tokens(stage, config, statistics, *others):
        counted[stage] = implied_tokens(stage, config, statistics, *others)

    monkeypatch.setattr(capacity, "nearest_run", lambda *_: EarlierRun(1.0, 1.0, None))
    monkeypatch.setattr(capacity, "implied_tokens", tokens)
    Estimator(recipe, store, MACHINE).needs(plan(recipe, store))
    assert counted["align"].count == 8 * recipe.align.max_length and counted["align"].at_most
