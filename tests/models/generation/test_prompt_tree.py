"""Prompts as a tree: every prompt is found in it whole, and a model says after each what it says after that prompt alone."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from alignflow.data.run import Runtime
from alignflow.models.generation.prompt_tree import computes_trees, grow, shared_length, tree_batches
from alignflow.models.generation.transformers_generator import TransformersGenerator
from tests.models.generation.conftest import byte_tokenizer

SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = SMALL | {
    "intermediate_size": 48,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
TREES = {
    "llama": lambda: transformers.LlamaConfig(**WIDE, **ENDS),
    "qwen2": lambda: transformers.Qwen2Config(**WIDE, **ENDS),
    "qwen3": lambda: transformers.Qwen3Config(**WIDE, head_dim=8, **ENDS),
    "mistral, window 6": lambda: transformers.MistralConfig(**WIDE, sliding_window=6, **ENDS),
    "gemma3, windows 6": lambda: transformers.Gemma3TextConfig(
        **WIDE, head_dim=8, sliding_window=6, layer_types=["sliding_attention", "full_attention"], **ENDS
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3, **ENDS
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        **SMALL, intermediate_size=48, max_position_embeddings=128, initializer_range=0.3, **ENDS
    ),
    "mixtral": lambda: transformers.MixtralConfig(**WIDE, num_local_experts=4, **ENDS),
}
NO_TREES = {
    "gemma2, soft caps": lambda: transformers.Gemma2Config(**WIDE, head_dim=8, sliding_window=6, **ENDS),
    "bloom, ALiBi": lambda: transformers.BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, **ENDS
    ),
    "mamba, no positions": lambda: transformers.MambaConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=8, **ENDS
    ),
}


def made(config):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return TransformersGenerator.around(model, byte_tokenizer(), Runtime(micro_batch_tokens=16))


@pytest.fixture(scope="module", params=[*TREES, *NO_TREES])
def engine(request):
    return made((TREES | NO_TREES)[request.param]())


tokens = st.integers(3, 8)
beginnings = st.lists(st.lists(tokens, max_size=20), min_size=1, max_size=3)


@st.composite
def prompt_lists(draw):
    """Lists of prompts that share beginnings at several levels; equal ones, one-token ones and ones without anything in common."""
    prompts = [tuple(draw(st.lists(tokens, min_size=1, max_size=30)))]
    for _ in range(draw(st.integers(0, 7))):
        base = prompts[draw(st.integers(0, len(prompts) - 1))]
        kept = draw(st.sampled_from([0, 1, len(base) // 2, len(base)]))
        prompts.append((*base[:kept], *draw(st.lists(tokens, max_size=15))) or (9,))
    return prompts


@given(prompt_lists())
@settings(deadline=None, max_examples=200)
def test_every_prompt_stands_in_the_tree_whole_and_once_per_run(prompts):
    tree = grow(prompts)
    ids = tree.input_ids[0].tolist()
    paths = {}
    for run in tree.runs:
        stretches = (*run.before, (run.start, run.length))
        paths[run.start + run.length - 1] = [
            place for start, length in stretches for place in range(start, start + length)
        ]
    for prompt, last in zip(prompts, tree.last.tolist(), strict=True):
        path = paths[last]
        assert tuple(ids[place] for place in path) == prompt
        assert [int(tree.position_ids[0, place]) for place in path] == list(range(len(prompt)))
    assert sum(run.length for run in tree.runs) == len(ids) <= sum(map(len, set(prompts)))


@given(prompt_lists(), st.integers(1, 60))
@settings(deadline=None)
def test_batches_take_every_prompt_once_and_keep_to_their_tokens(prompts, most):
    batches = tree_batches(prompts, most)
    assert sorted(index for batch in batches for index in batch) == list(range(len(prompts)))
    for batch in batches:
        new = len(prompts[batch[0]]) + sum(
            len(prompts[after]) - shared_length(prompts[before], prompts[after])
            for before, after in zip(batch, batch[1:], strict=False)
        )
        assert new <= most or len({prompts[index] for index in batch}) == 1


@given(st.lists(tokens, max_size=40), st.lists(tokens, max_size=40), st.lists(tokens, max_size=40))
def test_the_shared_length_is_found(shared, one, other):
    length = shared_length(tuple(shared + one), tuple(shared + other))
    expected = 0
    while (
        expected < min(len(shared + one), len(shared + other))
        and (shared + one)[expected] == (shared + other)[expected]
    ):
        expected += 1
    assert length == expected


@given(prompt_lists())
@settings(deadline=None, max_examples=10)
def test_options_have_the_log_probabilities_of_a_plain_forward_pass(engine, prompts):
    scores = engine.score_options(prompts, [5, 9])
    for prompt, row in zip(prompts, scores, strict=True):
        with torch.no_grad():
            logits = engine._model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
        assert row == pytest.approx(torch.log_softmax(logits.float(), -1)[[5, 9]].tolist(), abs=1e-4)


@pytest.mark.parametrize("name", TREES)
def test_these_models_compute_trees(name):
    assert computes_trees(made(TREES[name]())._model, takes_last=True)


@pytest.mark.parametrize("name", NO_TREES)
def test_these_models_are_left_to_batches_with_padding(name):
    assert not computes_trees(made(NO_TREES[name]())._model, takes_last=True)


def test_a_shared_beginning_is_computed_once(monkeypatch):
    engine = made(TREES["llama"]())
    engine._micro_batch_tokens = 1000
    engine.score_options([[5]], [5])
    widths = []
    forward = engine._model.forward
    monkeypatch.setattr(
        engine._model, "forward", lambda **given: widths.append(given["input_ids"].numel()) or forward(**given)
    )
    beginning = list(range(3, 43))
    engine.score_options([[*beginning, *range(first, first + 10)] for first in range(50, 90, 10)], [5])
    assert widths == [40 + 4 * 10]


def test_after_scoring_the_model_has_its_own_attention_again():
    engine = made(TREES["llama"]())
    before = engine._model.config._attn_implementation
    engine.score_options([[5, 6], [5, 7]], [5])
    assert engine._model.config._attn_implementation == before
