"""Every engine takes the same steps: DeepSpeed is measured against plain torch."""

import subprocess
import sys

import pytest
import torch
from training_support import reader_of, whole_state
from transformers import AutoModelForCausalLM

from alignflow.data.configs.training import SFTConfig
from alignflow.data.run import Runtime
from alignflow.models.engines.base import ENGINES, make_engine

CONFIG = SFTConfig(weight_decay=0.1, max_grad_norm=1.0)


def train(path, engine_name, steps, splits=1, start=None, **runtime):
    """Some steps on fixed batches, each split into `splits` backward passes; returns the state and the norms."""
    model = AutoModelForCausalLM.from_pretrained(path)
    engine = make_engine(model, CONFIG, Runtime(engine=engine_name, **runtime))
    first = 0
    if start is not None:
        first, state = start
        engine.load_parts(reader_of(state))
    norms = []
    for step in range(first, steps):
        ids = torch.randint(5, 300, (4, 12), generator=torch.Generator().manual_seed(step))
        for part in ids.chunk(splits):
            loss = torch.nn.functional.cross_entropy(
                model(part).logits[:, :-1].flatten(0, 1), part[:, 1:].flatten(), reduction="sum"
            )
            engine.backward(loss / ids[:, 1:].numel())
        norms.append(engine.step(1e-2))
    state = whole_state(engine)
    engine.close()
    return state, norms


def assert_close(first, second, tolerance):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], atol=tolerance, rtol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(scope="module")
def oracle(tiny_checkpoint):
    return train(tiny_checkpoint, "torch", 4)


@pytest.mark.parametrize("name", list(ENGINES))
@pytest.mark.parametrize("splits", [1, 2])
def test_every_engine_and_any_accumulation_takes_the_same_steps(name, splits, tiny_checkpoint, oracle):
    state, norms = train(tiny_checkpoint, name, 4, splits)
    assert_close(state, oracle[0], 2e-4)
    assert norms == pytest.approx(oracle[1], rel=1e-3)


@pytest.mark.parametrize("name", list(ENGINES))
def test_a_state_that_is_loaded_goes_on_bit_for_bit(name, tiny_checkpoint):
    whole, _ = train(tiny_checkpoint, name, 5)
    half, _ = train(tiny_checkpoint, name, 2)
    resumed, _ = train(tiny_checkpoint, name, 5, start=(2, half))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_agree(stage, tiny_checkpoint, oracle):
    state, _ = train(tiny_checkpoint, "deepspeed", 4, zero_stage=stage)
    assert_close(state, oracle[0], 2e-4)


def test_a_training_does_not_load_the_compiler():
    code = (
        "import sys\n"
        "import torch\n"
        "from alignflow.data.configs.training import SFTConfig\n"
        "from alignflow.data.run import Runtime\n"
        "from alignflow.models.engines.base import make_engine\n"
        "compiled = torch.compile\n"
        "make_engine(torch.nn.Linear(4, 4), SFTConfig(), Runtime(engine='deepspeed')).close()\n"
        "assert torch.compile is compiled and 'torch._inductor.compile_fx' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
