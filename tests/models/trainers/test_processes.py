"""Two processes roll out, score and train their shares: sums run over both, and the first update's figures are one process's.

Under ZeRO 3, where models that sample are whole in each process meanwhile and at no other time, every method does what it does under ZeRO 1.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import make_checkpoint, wide_awake

from alignflow.data.artifacts import file_digest
from alignflow.data.configs.training import AlignConfig
from alignflow.data.records import user, write_table
from alignflow.models.advantages import whiten
from alignflow.models.sequences import length_mask
from alignflow.models.trainers.align import align

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # two processes that load DeepSpeed

CONFIG = AlignConfig(
    method="ppo",
    learning_rate=1e-3,
    max_steps=2,
    batch_size=10,
    max_length=64,
    logging_steps=1,
    options={
        "response_length": 6,
        "num_ppo_epochs": 1,
        "normalize_scores": "mean_std",
        "whiten_rewards": True,
        "rewards": [{"name": "judge", "options": {"judge": {"name": "rubric"}}}],
    },
)
SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from alignflow.data.configs.training import AlignConfig
from alignflow.data.run import Run, Runtime
from alignflow.models.advantages import whiten
from alignflow.models.engines import group
from alignflow.models.in_step import passes_in_step
from alignflow.models.sequences import length_mask
from alignflow.models.trainers import online
from alignflow.models.trainers.align import align
from safetensors.torch import save_file


def save_weights(policy, out, card):
    save_file({name: value.detach().clone() for name, value in policy.model.named_parameters()}, out / "weights.safetensors")


online.save_model = save_weights  # each process its own, to compare them
root, checkpoint, prompts, config = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), AlignConfig.model_validate_json(sys.argv[4])
torch.set_num_threads(1)
rank = int(os.environ["RANK"])
places = {name: root / f"{name}-{rank}" for name in ("out", "side", "rows")} | {"work": root / "work"}
for place in places.values():
    place.mkdir(parents=True, exist_ok=True)
runtime = Runtime(engine="deepspeed", micro_batch_tokens=64)
group.join(runtime)
values = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
half = slice(2 * rank, 2 * rank + 2)
white = whiten(values[half], length_mask(torch.tensor([5, 3, 2, 4]))[half])
passes = passes_in_step([40] * (3 - 2 * rank), 40)
align(config, policy=Path(checkpoint), reference=Path(checkpoint), prompts=prompts, run=Run(**places, runtime=runtime))
found = {"white": white.tolist(), "passes": [counts for _, counts in passes], "share": group.share(list(range(5)))}
(root / f"found-{rank}.json").write_text(json.dumps(found))
group.leave()
"""


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    root = tmp_path_factory.mktemp("prompts")
    words = ("cat", "dog", "bird", "red house", "hill", "rain")
    rows = [
        {"id": f"q{i}", "source": "t", "prompt": user(f"the {word}"), "instructions": None}
        for i, word in enumerate(words)
    ]
    write_table(rows, "prompts", root / "train.parquet")
    return root


def in_two_processes(root, script, *arguments):
    """Run a script in two processes; its first argument is the folder."""
    (root / "script.py").write_text(script)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(root / "script.py"),
        str(root),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
    }
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture(scope="module")
def two(tmp_path_factory, tiny_checkpoint, prompts):
    """The folder that two processes left."""
    root = tmp_path_factory.mktemp("two")
    in_two_processes(root, SCRIPT, tiny_checkpoint, prompts, CONFIG.model_dump_json())
    return root


def found(two, rank):
    return json.loads((two / f"found-{rank}.json").read_text())


def test_whitening_is_that_of_the_whole_batch(two):
    values = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = whiten(values, length_mask(torch.tensor([5, 3, 2, 4])))
    both = torch.tensor([*found(two, 0)["white"], *found(two, 1)["white"]], dtype=torch.float64)
    torch.testing.assert_close(both, wanted, atol=1e-12, rtol=1e-12)


def test_both_make_equally_many_passes(two):
    assert found(two, 0)["passes"] == [True] * 3 and found(two, 1)["passes"] == [True, False, False]


def test_the_first_update_is_that_of_one_process_and_both_end_with_the_same_weights(
    two, new_run, tiny_checkpoint, prompts
):
    """Same answers, wherever they are drawn; figures over all of them. Tolerance 1e-4: sums run in another order."""
    run = new_run(engine="deepspeed")
    align(CONFIG, policy=tiny_checkpoint, reference=tiny_checkpoint, prompts=prompts, run=run)
    single, double = (
        json.loads((side / "curves.jsonl").read_text().splitlines()[0]) for side in (run.side, two / "side-0")
    )
    names = [
        name
        for name in single
        if name.startswith(("objective/", "completions/", "val/num", "episode", "policy/entropy", "loss/"))
    ]
    assert {name: double[name] for name in names} == pytest.approx({name: single[name] for name in names}, abs=1e-4)
    assert file_digest(two / "out-0" / "weights.safetensors") == file_digest(two / "out-1" / "weights.safetensors")


CELLS_SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from alignflow.data.configs.training import AlignConfig
from alignflow.data.run import Run, Runtime
from alignflow.models.engines import deepspeed_engine, group
from alignflow.models.trainers.align import align

deepspeed_engine.PERSISTENT = 0  # the smallest parameter is shared out too
root, checkpoint, prompts, cells = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(1)
rank = int(os.environ["RANK"])
for name, (config, stage) in cells.items():
    runtime = Runtime(engine="deepspeed", micro_batch_tokens=64, processes=2, zero_stage=stage)
    places = {part: root / name / f"{part}-{rank}" for part in ("side", "rows")}
    places |= {part: root / name / part for part in ("work", "out")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    group.join(runtime)
    run = Run(**places, runtime=runtime, main=rank == 0)
    given = {} if config["method"] == "on_policy_distillation" else {"reference": checkpoint}
    align(AlignConfig.model_validate(config), policy=checkpoint, prompts=prompts, run=run, **given)
group.leave()
"""


COMPARED = {"response_length": 6, "rollout_batch_size": 4, "rewards": CONFIG.options["rewards"]}
METHODS = {
    "ppo": {**CONFIG.options, "rollout_batch_size": 4},
    "online_dpo": {**COMPARED, "num_generations": 2},
    "xpo": COMPARED,
    "nash_md": {**COMPARED, "mixture_coef": 0.25},
    "nash_ema": {**COMPARED, "ema_decay": 0.5},
    "on_policy_distillation": {"response_length": 6, "rollout_batch_size": 4},
}
"""The methods that sample, each with its options."""


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory, tiny_checkpoint, prompts):
    """The folder that two processes left of each method under ZeRO 1 and ZeRO 3, with and without an adapter.

    Nine answers, or prompts: one process has more, in more batches, and each decodes as long as its own answers are. Rate and
    model are such that the policy's third answers are not those of its opponents.
    """
    root, cells = tmp_path_factory.mktemp("shared"), {}
    policy = wide_awake(make_checkpoint(tmp_path_factory.mktemp("policy")))
    for method, options in METHODS.items():
        more = {"teacher": str(tiny_checkpoint)} if method == "on_policy_distillation" else {}
        plain = CONFIG.model_copy(
            update={
                "method": method,
                "learning_rate": 1e-3 if method == "ppo" else 2e-2,
                "max_steps": 3,
                "batch_size": 9,
                "options": {**options, **more},
            }
        ).model_dump(mode="json")
        adapted = {**plain, "lora": {"r": 2}, "learning_rate": 1e-2}
        for name, config in ((method, plain), (f"{method}-adapter", adapted)):
            cells |= {f"{name}-{stage}": (config, stage) for stage in (1, 3)}
    in_two_processes(root, CELLS_SCRIPT, policy, prompts, json.dumps(cells))
    return root


@pytest.mark.parametrize("kind", ["", "-adapter"])
@pytest.mark.parametrize("method", list(METHODS))
def test_under_zero_3_they_sample_and_train_as_under_zero_1_with_an_adapter_too(method, kind, shared_out):
    def left(name):
        (file,) = (shared_out / name / "out").glob("*model.safetensors")
        return load_file(file), (shared_out / name / "side-0" / "curves.jsonl").read_text().splitlines()

    (one, first), (three, second) = left(f"{method}{kind}-1"), left(f"{method}{kind}-3")
    assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in three.items()}
    assert max(float((one[key] - three[key]).abs().max()) for key in one) < 1e-4
    assert json.loads(first[-1]) == pytest.approx(json.loads(second[-1]), rel=1e-3, abs=1e-4)


def test_a_moving_average_and_a_mixture_write_other_answers_under_zero_3_too(shared_out):
    """Else the comparison above would say nothing of the averaged weights."""
    found = [
        json.loads((shared_out / f"{method}-3" / "side-0" / "curves.jsonl").read_text().splitlines()[-1])
        for method in ("nash_md", "nash_ema")
    ]
    assert found[0]["rewards/probabilities"] != found[1]["rewards/probabilities"]
