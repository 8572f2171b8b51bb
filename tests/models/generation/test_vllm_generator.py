"""vLLM itself, on a CPU, against transformers: one engine for most tests, since a start takes twenty seconds of CPU."""

import math
import os
import random
import signal
import sys
import threading

import numpy
import pytest
import torch
from adapter_support import make_adapter
from engine_support import engine_place, needed_vllm
from tiny_model import TEXT, make_checkpoint, wide_awake
from transformers import AutoModelForCausalLM
from waiting import wait_until

from alignflow.data.configs.generators import GeneratorConfig, VLLMOptions
from alignflow.data.errors import ModelError
from alignflow.data.host import started
from alignflow.data.run import Runtime
from alignflow.models.generation import vllm_generator, vllm_lease
from alignflow.models.generation.base import Sampling, make_generator
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.generation.vllm_generator import VLLMGenerator

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
GREEDY = Sampling(24, temperature=0.0)
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def place():
    needed_vllm()
    with engine_place() as directory:
        yield directory


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return wide_awake(
        make_checkpoint(
            tmp_path_factory.mktemp("model"), hidden_size=64, num_attention_heads=2, max_position_embeddings=256
        )
    )


@pytest.fixture(scope="module")
def trusted(model):
    return TransformersGenerator(model, Runtime())


@pytest.fixture(scope="module")
def engine(place, model):
    with_vllm = VLLMGenerator(model, Runtime())
    yield with_vllm
    with_vllm.close()


@pytest.fixture(scope="module")
def prompts(trusted):
    draw = random.Random(0)
    return [
        trusted.tokenizer(" ".join(draw.choices(WORDS, k=draw.randint(1, 60))))["input_ids"][:180] for _ in range(32)
    ]


def test_greedy_answers_in_fp32_are_those_of_transformers(engine, trusted, prompts):
    made = engine.generate(prompts, GREEDY, range(len(prompts)))
    assert made == trusted.generate(prompts, GREEDY, range(len(prompts)))
    assert len({row.ids for row in made}) > 16  # a model that says one thing would show nothing


def test_log_probabilities_of_options_are_those_of_transformers_among_all_tokens(engine, trusted, prompts):
    options = [5, 33, 70, 200]
    mine, theirs = (each.score_options(prompts, options) for each in (engine, trusted))
    torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), atol=1e-4, rtol=0)
    assert all(math.fsum(map(math.exp, row)) < 1 for row in mine)


def test_the_whole_vocabulary_can_be_options_and_sums_to_1(engine, trusted, prompts):
    (row,) = engine.score_options(prompts[:1], range(320))
    assert math.fsum(map(math.exp, row)) == pytest.approx(1, abs=1e-4)


def test_a_prompt_that_fills_the_context_is_scored_and_one_more_token_is_refused(engine, trusted, prompts):
    full = (prompts[0] * 256)[:256]
    assert engine.context_length == 256
    assert engine.score_options([full], [5])[0] == pytest.approx(trusted.score_options([full], [5])[0], abs=1e-4)
    with pytest.raises(ModelError, match="exceed the context of 256"):
        engine.score_options([[*full, 5]], [5])
    with pytest.raises(ModelError, match="exceed the context of 256"):
        engine.generate([full], GREEDY, [0])


def test_a_sampled_answer_depends_on_its_seed_and_prompt_and_not_on_its_batch(engine, prompts):
    sampling, seeds = Sampling(16), [2**64 - 1 - number for number in range(len(prompts))]
    made = engine.generate(prompts, sampling, seeds)
    alone = [engine.generate([prompt], sampling, [seed])[0] for prompt, seed in zip(prompts[:4], seeds, strict=False)]
    assert made[:4] == alone and made != engine.generate(prompts, sampling, seeds[::-1])


def test_an_answer_ends_at_a_stop_token_which_is_told_and_no_part_of_it(engine, trusted, prompts):
    made = engine.generate(prompts * 4, Sampling(64), range(4 * len(prompts)))
    stops = set(trusted._stop.tolist())
    ended = [row for row in made if row.ended]
    assert 0 < len(ended) < len(made)
    assert all(row.stop in stops and not stops & set(row.ids) and row.tokens <= 64 for row in ended)
    assert all(row.stop is None and len(row.ids) == 64 and not stops & set(row.ids) for row in made if not row.ended)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(12, 0.5, logps=True), Sampling(12, 0.7, top_p=0.8, logps=True), Sampling(12, 1.3, top_k=5, logps=True)],
    ids=["cold", "top_p", "top_k"],
)
def test_log_probabilities_of_an_answer_are_those_that_its_tokens_were_drawn_with(engine, trusted, prompts, sampling):
    for prompt, row in zip(prompts[:6], engine.generate(prompts[:6], sampling, range(6)), strict=True):
        tokens = [*row.ids, *([row.stop] if row.ended else [])]
        assert len(row.logps) == len(tokens)
        prefixes = [[*prompt, *tokens[:length]] for length in range(len(tokens))]
        raw = torch.tensor(trusted.score_options(prefixes, range(320))) / sampling.temperature
        wanted = [cut(logits, sampling)[token] for logits, token in zip(raw, tokens, strict=True)]
        torch.testing.assert_close(torch.tensor(row.logps), torch.stack(wanted), atol=1e-3, rtol=0)


def cut(logits, sampling):
    """Log-probabilities after top_k, then top_p of what is left, written anew."""
    if sampling.top_k:
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], -math.inf)
    probabilities, order = torch.softmax(logits, -1).sort(descending=True)
    outside = probabilities.cumsum(-1) - probabilities >= sampling.top_p
    return torch.log_softmax(logits.index_fill(0, order[outside], -math.inf), -1)


def test_the_frequencies_of_sampled_tokens_are_the_models_probabilities(engine, trusted, prompts):
    count = 4000
    made = engine.generate([prompts[0]] * count, Sampling(1), range(count))
    drawn = numpy.bincount([row.ids[0] if row.ids else row.stop for row in made], minlength=320) / count
    wanted = numpy.exp(trusted.score_options([prompts[0]], range(320))[0])
    assert numpy.abs(drawn - wanted).max() < 4 * math.sqrt(0.25 / count)


def test_the_trainers_process_is_as_it_was(place, model, engine, prompts):
    random.seed(3), numpy.random.seed(3), torch.manual_seed(3)
    states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    before, threads = dict(os.environ), torch.get_num_threads()
    distributed = torch.distributed.is_initialized()  # another test of this process may have done that
    engine.generate(prompts, Sampling(8), range(len(prompts)))
    engine.score_options(prompts, [5])
    assert (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert dict(os.environ) == before and torch.get_num_threads() == threads
    assert torch.distributed.is_initialized() == distributed and "vllm" not in sys.modules


def test_a_second_engine_on_the_same_weights_is_the_same_process_and_is_not_verified_again(
    engine, place, model, capsys, monkeypatch
):
    monkeypatch.setattr(vllm_generator, "expectations", lambda trusted: pytest.fail("verified again"))
    second = VLLMGenerator(model, Runtime(threads=2), VLLMOptions(idle_s=30))
    assert second.pid == engine.pid
    second.close()


def test_a_setting_that_vllm_does_not_know_is_refused_and_never_ignored(engine, prompts):
    """Its server ignores `guided_choice`, and answers with free text."""
    with pytest.raises(ModelError, match="guided_choice"):
        engine._ask(
            "generate",
            prompts=prompts[:1],
            seeds=[0],
            stop=[],
            allowed=0,
            logps=False,
            sampling={"guided_choice": ["A", "B"]},
        )
    assert engine.generate(prompts[:1], GREEDY, [0])


def test_a_process_that_is_killed_in_the_middle_of_a_request_is_started_once_more(engine, trusted, prompts, capsys):
    before = engine.pid
    long = Sampling(64, temperature=0.0)
    threading.Timer(0.3, os.kill, (before, signal.SIGKILL)).start()
    answers = []
    while engine.pid == before:  # until the signal finds a request
        answers.append(engine.generate(prompts * 8, long, range(8 * len(prompts))))
    assert not started(before) and answers[-1] == trusted.generate(prompts * 8, long, range(8 * len(prompts)))
    assert "ended during a request" in capsys.readouterr().out


@pytest.fixture(scope="module")
def adapters(model, tmp_path_factory):
    """Two LoRA adapters on the model, and one on the first of them."""
    root = tmp_path_factory.mktemp("adapters")
    make_adapter(model, root / "a")
    make_adapter(model, root / "b", r=8, target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "up_proj"))
    return root


def test_adapters_answer_as_pefts_models_do_and_share_a_process(place, model, adapters, trusted, prompts):
    from peft import PeftModel

    engines = {name: VLLMGenerator(adapters / name, Runtime()) for name in ("a", "b")}
    base = trusted.generate(prompts, GREEDY, range(len(prompts)))
    assert engines["a"].pid == engines["b"].pid
    for name, engine in engines.items():
        wrapped = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), adapters / name).eval()
        peft = TransformersGenerator(model, Runtime())
        peft._model = wrapped
        wanted = peft.generate(prompts, GREEDY, range(len(prompts)))
        assert engine.generate(prompts, GREEDY, range(len(prompts))) == wanted != base
        mine, theirs = (each.score_options(prompts, [5, 70]) for each in (engine, peft))
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), atol=1e-4, rtol=0)
        engine.close()


class StaleChild:
    """A process whose taking up of weights lacks one of the two things that vLLM needs: `tied` or `prefix`."""

    TEXT = """
import importlib.util, json, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("child", {child!r})
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
class TakesWeights:
    def take_weights(self, path):
        if Path({mode!r}).read_text() != "tied":
            return child.TakesWeights.take_weights(self, path)
        from safetensors.torch import load_file
        self.reload_weights(weights_iterator=list(load_file(path).items()))
class Engine(child.Engine):
    def load(self, request):
        if Path({mode!r}).read_text() != "prefix":
            return super().load(request)
        self._llm.collective_rpc("take_weights", kwargs={{"path": request["path"]}})
settings = json.load(sys.stdin)
child.Host(settings["socket"], settings["idle_s"], settings["run"]).serve(Engine(settings["engine"]))
"""

    def __init__(self, folder):
        self.mode, self.file = folder / "mode", folder / "a" / "b" / "c" / "child.py"
        self.file.parent.mkdir(parents=True)
        (folder / "a" / "data").mkdir()
        (folder / "a" / "data" / "wire.py").write_text("")
        self.file.write_text(self.TEXT.format(child=str(vllm_lease.CHILD), mode=str(self.mode)))


@torch.no_grad()
def trained(model, number):
    """What a step of training leaves: other weights, in place."""
    generator = torch.Generator().manual_seed(number)
    for values in model.parameters():
        values.add_(torch.randn(values.shape, generator=generator), alpha=0.05)
    return model


def test_weights_are_taken_over_from_a_model_in_training_and_each_trap_is_caught(
    place, model, prompts, tmp_path, monkeypatch
):
    stale, shared = StaleChild(tmp_path), make_generator(model, Runtime(), GeneratorConfig(name="vllm"))
    live, engine = AutoModelForCausalLM.from_pretrained(model), VLLMGenerator(model, Runtime())
    assert live.config.tie_word_embeddings and shared.pid == engine.pid
    monkeypatch.setattr(vllm_lease, "CHILD", stale.file)
    monkeypatch.setattr(vllm_generator, "CHILD", stale.file)
    stale.mode.write_text("right")
    for step in range(2):
        engine.sync(trained(live, step))
        wanted = TransformersGenerator.around(live, engine.tokenizer, Runtime())
        assert engine.generate(prompts, GREEDY, range(32)) == wanted.generate(prompts, GREEDY, range(32))
    for trap in ("tied", "prefix"):
        stale.mode.write_text(trap)
        with pytest.raises(ModelError, match="after loading weights differ from those of the trainer's model"):
            engine.sync(trained(live, hash(trap) % 97))
        stale.mode.write_text("right")
        engine.sync(live)
    assert shared.generate(prompts, GREEDY, range(32)) != engine.generate(prompts, GREEDY, range(32))
    pid = engine.pid
    engine.close()
    wait_until(lambda: not started(pid))  # its weights are nobody else's
    assert not list(place.glob("*.weights"))
