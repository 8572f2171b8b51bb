"""The decode loop: what the model would say row by row, whatever the batch, the padding and who finishes first."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.errors import ModelError, RecipeError
from alignflow.data.run import Runtime
from alignflow.models.generation.base import Sampling, make_generator
from alignflow.models.generation.decoding import Decoding
from alignflow.models.generation.drawing import uniform_streams
from alignflow.models.generation.kv_cache import make_cache
from alignflow.models.generation.transformers_generator import stop_ids

PROMPTS = [[1, 40, 41, 42], [1, 50], [1, *range(60, 90)], [1, 40, 41, 42], [1, 70, 71]]


@pytest.fixture(scope="module")
def generator(checkpoint):
    return make_generator(checkpoint, Runtime())


@pytest.fixture(scope="module")
def model(checkpoint):
    return AutoModelForCausalLM.from_pretrained(checkpoint).eval()


def greedy_without_cache(model, prompt, limit, stop, vocabulary):
    ids = list(prompt)
    for _ in range(limit):
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1, :vocabulary].argmax())
        if token in stop:
            return tuple(ids[len(prompt) :]), True
        ids.append(token)
    return tuple(ids[len(prompt) :]), False


def test_greedy_is_the_plain_loop_over_the_whole_sequence(generator, model):
    made = generator.generate(PROMPTS, Sampling(20, temperature=0), [0] * len(PROMPTS))
    for prompt, generation in zip(PROMPTS, made, strict=True):
        ids, ended = greedy_without_cache(model, prompt, 20, {2, 13}, len(generator.tokenizer))
        assert (generation.ids, generation.ended) == (ids, ended)


def test_a_row_depends_on_its_seed_and_not_on_its_batch(generator):
    seeds = [11, 12, 13, 14, 15]
    together = generator.generate(PROMPTS, Sampling(24), seeds)
    alone = [generator.generate([prompt], Sampling(24), [seed])[0] for prompt, seed in zip(PROMPTS, seeds, strict=True)]
    shuffled = generator.generate(PROMPTS[::-1], Sampling(24), seeds[::-1])[::-1]
    assert together == alone == shuffled


def test_samples_of_one_prompt_differ_by_their_seed(generator):
    made = generator.generate([PROMPTS[0]] * 6, Sampling(12), list(range(6)))
    assert len({generation.ids for generation in made}) > 1
    assert generator.generate([PROMPTS[0]] * 6, Sampling(12), [3] * 6) == [made[3]] * 6


def test_rows_end_at_a_stop_token_that_is_not_among_their_ids(generator):
    made = generator.generate(PROMPTS * 20, Sampling(40, temperature=2.0), list(range(100)))
    assert {generation.ended for generation in made} == {True, False}
    for generation in made:
        assert not {2, 13} & set(generation.ids)
        assert generation.tokens == len(generation.ids) + generation.ended
        assert generation.ended or len(generation.ids) == 40
        assert generation.tokens <= 40


def test_tokens_beyond_the_tokenizer_are_never_made(generator):
    made = generator.generate(PROMPTS * 10, Sampling(30, temperature=5.0), list(range(50)))
    assert max(token for generation in made for token in generation.ids) < len(generator.tokenizer)


def test_finished_rows_leave_the_batch(generator, monkeypatch):
    sizes = []
    forward = generator._forward
    monkeypatch.setattr(generator, "_forward", lambda ids, *rest: sizes.append(len(ids)) or forward(ids, *rest))
    made = generator.generate(PROMPTS * 8, Sampling(40, temperature=2.0), list(range(40)))
    unfinished = [sum(generation.tokens > step for generation in made) for step in range(1, len(sizes))]
    assert all(size <= count / (1 - 0.125) + 1 for size, count in zip(sizes[1:], unfinished, strict=True))
    assert sizes[-1] < 40


@pytest.fixture
def few_lines(monkeypatch):
    monkeypatch.setattr("alignflow.models.generation.transformers_generator.LINES", 4)


def test_prompts_that_wait_take_the_lines_of_rows_that_ended_and_nothing_changes(generator, monkeypatch):
    prompts = [[1, *range(40, 40 + (7 * index) % 23)] for index in range(40)]
    sampling, seeds = Sampling(30, temperature=1.5, logps=True), list(range(40))
    alone = [generator.generate([prompt], sampling, [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    widths = []
    forward = generator._forward
    monkeypatch.setattr("alignflow.models.generation.transformers_generator.LINES", 4)
    monkeypatch.setattr(
        generator, "_forward", lambda ids, *rest: widths.append(tuple(ids.shape)) or forward(ids, *rest)
    )
    together = generator.generate(prompts, sampling, seeds)
    assert together == alone
    for one, other in zip(together, alone, strict=True):
        assert one.logps == pytest.approx(other.logps, abs=1e-4)
    steps = [count for count, width in widths if width == 1]
    assert max(steps) == 4 and sum(steps) < 1.4 * sum(generation.tokens for generation in alone)


def test_the_samples_of_one_prompt_share_its_prefill_when_they_wait_too(generator, few_lines, monkeypatch):
    prefilled = []
    forward = generator._forward
    monkeypatch.setattr(
        generator,
        "_forward",
        lambda ids, *rest: (prefilled.append(len(ids)) if ids.shape[1] > 1 else None) or forward(ids, *rest),
    )
    generator.generate([[1, 40 + index // 4, 60] for index in range(40)], Sampling(8, temperature=2.0), list(range(40)))
    assert sum(prefilled) <= 20


def test_log_probabilities_are_those_of_the_drawn_tokens(generator, model):
    sampling = Sampling(16, temperature=1.3, top_k=20, top_p=0.9, logps=True)
    for prompt, made in zip(PROMPTS, generator.generate(PROMPTS, sampling, range(5)), strict=True):
        tokens = [*made.ids, *([made.stop] if made.ended else [])]
        assert len(made.logps) == len(tokens) == made.tokens
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
        for token, row, logp in zip(tokens, logits[:, : len(generator.tokenizer)] / 1.3, made.logps, strict=True):
            best = torch.softmax(row, -1).topk(20)
            weights = best.values / best.values.sum()
            weights = torch.where(weights.cumsum(-1) - weights < 0.9, weights, 0)
            expected = (weights / weights.sum())[best.indices == token].log()
            assert logp == pytest.approx(float(expected), abs=1e-4)


def test_no_log_probabilities_where_none_are_asked_for(generator):
    assert generator.generate(PROMPTS[:1], Sampling(4), [0])[0].logps is None


def test_option_scores_are_log_probabilities_of_the_next_token(generator, model):
    scores = generator.score_options(PROMPTS, [5, 9])
    for prompt, row in zip(PROMPTS, scores, strict=True):
        with torch.no_grad():
            expected = torch.log_softmax(model(input_ids=torch.tensor([prompt])).logits[0, -1].float(), -1)[[5, 9]]
        assert row == pytest.approx(expected.tolist(), abs=1e-5)


def test_option_scores_do_not_depend_on_the_token_budget(checkpoint):
    small, large = (make_generator(checkpoint, Runtime(micro_batch_tokens=tokens)) for tokens in (8, 8192))
    for one, other in zip(small.score_options(PROMPTS, [5, 9]), large.score_options(PROMPTS, [5, 9]), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_nothing_in_nothing_out(generator):
    assert generator.generate([], Sampling(4), []) == [] and generator.score_options([], [5]) == []


def test_bf16_loads_and_computes_in_bf16(checkpoint):
    generator = make_generator(checkpoint, Runtime(precision="bf16"))
    assert {parameter.dtype for parameter in generator._model.parameters()} == {torch.bfloat16}
    assert len(generator.generate(PROMPTS, Sampling(4), [0] * 5)) == 5


def test_a_prompt_beyond_the_context_is_refused(generator):
    with pytest.raises(ModelError, match="context of 96"):
        generator.generate([[1] * 90], Sampling(10), [0])


def test_an_empty_prompt_is_refused(generator):
    with pytest.raises(ModelError, match="row 1"):
        generator.generate([[1], []], Sampling(10), [0, 1])


def test_a_directory_without_a_model_is_refused(tmp_path, checkpoint):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    with pytest.raises(ModelError):
        make_generator(tmp_path, Runtime())


def test_an_unknown_engine_names_the_known_ones(checkpoint):
    with pytest.raises(RecipeError, match="transformers"):
        make_generator(checkpoint, Runtime(), GeneratorConfig(name="transformer"))


def test_stop_tokens_come_from_tokenizer_and_generation_config(generator):
    assert stop_ids(generator.tokenizer, generator._model.generation_config) == [2, 13]


def test_a_line_that_has_ended_goes_no_further_than_the_context():
    """Seen: long prompts that fill the context waited, ended, beside refilled lines, and asked for positions that the model lacks."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=7, n_positions=40, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    model, highest = GPT2LMHeadModel(config).eval(), []
    long, short = (
        [[1 + (row * 7 + place) % 6 for place in range(24)] for row in range(64)],
        [[1, 2, 3 + row % 4] for row in range(200)],
    )

    def forward(ids, mask, positions, cache):
        highest.append(int(positions.max()))
        return model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache).logits[:, -1]

    prompts = [tuple(prompt) for prompt in long + short]
    for seed in range(8):
        made = Decoding(
            prompts,
            uniform_streams([seed * 1000 + row for row in range(len(prompts))], 16),
            Sampling(16),
            forward=torch.no_grad()(forward),
            new_cache=lambda room: make_cache(config, room),
            stop=torch.tensor([0]),
            lines=64,
            tokens=8192,
        ).run()
        assert len(made) == len(prompts)
    assert max(highest) == 39
