"""The base model is checked before anything trains on it, and building one is deterministic."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.chat_templates import TEMPLATES
from alignflow.data.configs.inputs import BuildConfig, InitConfig, SourceConfig
from alignflow.data.errors import DataError, ModelError
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Runtime
from alignflow.models.checkpoints import save_checkpoint
from alignflow.models.initialise import initialise
from alignflow.models.policy import load_policy

SMALL = BuildConfig(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    intermediate_size=32,
    vocab_size=300,
)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("the cat sat on the mat. " * 30)
    return (SourceConfig(path=str(path), format="text"),)


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


def test_a_built_model_loads_in_transformers_and_is_the_same_each_time(new_run, corpus):
    runs = [new_run(name) for name in ("a", "b")]
    for run in runs:
        metrics = initialise(InitConfig(build=SMALL, corpus=corpus), run=run)
    assert digests(runs[0].out) == digests(runs[1].out)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(runs[0].out), AutoTokenizer.from_pretrained(runs[0].out)
    assert metrics["vocabulary"] == len(tokenizer) == model.config.vocab_size
    assert tokenizer.pad_token_id != tokenizer.eos_token_id == model.generation_config.eos_token_id
    assert tokenizer.chat_template == TEMPLATES["turns"]


def test_another_seed_gives_other_weights(new_run, corpus):
    for seed in (0, 1):
        initialise(InitConfig(build=SMALL, corpus=corpus, seed=seed), run=new_run(str(seed)))
    assert digests(new_run("0").out)["model.safetensors"] != digests(new_run("1").out)["model.safetensors"]


def test_a_model_without_a_template_gets_one_and_says_so(new_run, tiny_checkpoint, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    tokenizer.chat_template, tokenizer.pad_token = None, None
    AutoModelForCausalLM.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    run = new_run()
    initialise(InitConfig(path=str(tmp_path / "bare")), run=run)
    loaded = AutoTokenizer.from_pretrained(run.out)
    assert (
        loaded.chat_template == TEMPLATES["instruction"]
        and loaded.pad_token_id is not None
        and "instruction" in run.warnings[0]
    )


def test_a_local_path_leaves_no_trace_in_the_payload(new_run, tiny_checkpoint):
    run = new_run()
    initialise(InitConfig(path=str(tiny_checkpoint)), run=run)
    assert not [
        name for name in payload_files(run.out) if str(tiny_checkpoint) in (run.out / name).read_text(errors="replace")
    ]


@pytest.mark.parametrize("template", ["nosuch", "./missing.jinja"])
def test_an_unknown_template_is_refused(new_run, tiny_checkpoint, template):
    with pytest.raises(ModelError, match="unknown chat template"):
        initialise(InitConfig(path=str(tiny_checkpoint), chat_template=template), run=new_run())


@pytest.mark.parametrize(
    ("header", "reason"),
    [("", "ignores add_generation_prompt"), ("{{ 'assistant: ' if add_generation_prompt }}", "does not end")],
)
def test_a_template_without_a_header_for_an_answer_or_without_an_end_is_refused(
    header, reason, new_run, tiny_checkpoint, tmp_path
):
    (tmp_path / "bare.jinja").write_text(
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}" + header
    )
    with pytest.raises(ModelError, match=reason):
        initialise(InitConfig(path=str(tiny_checkpoint), chat_template=str(tmp_path / "bare.jinja")), run=new_run())


def test_arguments_and_the_date_are_written_into_the_checkpoint_s_template(new_run, tiny_checkpoint, tmp_path):
    (tmp_path / "dated.jinja").write_text("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}{{ tone }}" + TEMPLATES["turns"])
    run = new_run()
    initialise(
        InitConfig(
            path=str(tiny_checkpoint),
            chat_template=str(tmp_path / "dated.jinja"),
            chat_template_kwargs={"tone": "kind"},
        ),
        run=run,
    )
    tokenizer = load_tokenizer(run.out)
    assert "strftime_now" not in tokenizer.chat_template
    assert re.match(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dkind<",
        tokenizer.apply_chat_template([{"role": "user", "content": "q"}], tokenize=False),
    )
    assert any("writes today's date" in warning for warning in run.warnings)


def test_a_model_without_a_context_length_is_refused(new_run, tiny_checkpoint, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "odd")
    AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 0}))
    with pytest.raises(ModelError):
        initialise(InitConfig(path=str(tmp_path / "odd")), run=new_run())


def test_an_empty_corpus_is_refused(new_run):
    with pytest.raises(DataError, match="no text"):
        initialise(InitConfig(build=SMALL), run=new_run())


def test_rows_of_the_corpus_that_are_left_out_are_told_with_their_reasons(new_run, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "the cat sat on the mat"}\nbroken\n[1]\n')
    run = new_run()
    initialise(
        InitConfig(build=SMALL, corpus=(SourceConfig(path=str(tmp_path / "rows.jsonl"), format="text"),)), run=run
    )
    assert "without 2 rows of the corpus: not_a_row 1, not_json 1" in run.warnings[0]


def test_a_corpus_of_which_nothing_can_be_used_is_refused_with_the_reason(new_run, tmp_path, monkeypatch):
    monkeypatch.setattr("alignflow.data.sources.soundness.MOST_BYTES", 100)
    (tmp_path / "book.txt").write_text("x" * 101)
    with pytest.raises(DataError, match="1 row of the corpus cannot be used .over_16_MiB 1"):
        initialise(
            InitConfig(build=SMALL, corpus=(SourceConfig(path=str(tmp_path / "book.txt"), format="text"),)),
            run=new_run(),
        )


def test_a_directory_without_weights_is_refused(new_run, tiny_checkpoint, tmp_path):
    AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "empty")
    with pytest.raises(ModelError, match="causal language model"):
        initialise(InitConfig(path=str(tmp_path / "empty")), run=new_run())


@pytest.mark.parametrize("place", ["with its tokenizer", "bare"])
def test_an_adapter_of_others_is_merged_into_its_base(place, tiny_checkpoint, tmp_path, new_run):
    peft = pytest.importorskip("peft")
    base = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    model = peft.get_peft_model(
        base, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    )
    ids = torch.tensor([[4, 9, 20]])
    wanted = model(ids).logits
    model.save_pretrained(tmp_path / "adapter")  # its config names the place of the base
    if place == "with its tokenizer":
        AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "adapter")
    run = new_run()
    initialise(InitConfig(path=str(tmp_path / "adapter")), run=run)
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(run.out)(ids).logits, wanted, atol=1e-5, rtol=1e-5)
    assert (run.out / "model.safetensors").is_file() and not (run.out / "adapter_config.json").exists()


def test_a_base_whose_weights_bf16_holds_exactly_is_stored_in_bf16(tiny_checkpoint, new_run, tmp_path):
    """Every stage reads the same fp32 numbers from half the space."""
    plain = load_policy(tiny_checkpoint, Runtime())
    for values in plain.model.parameters():
        values.data = values.data.bfloat16().float()
    (tmp_path / "given").mkdir()
    save_checkpoint(plain.model, plain.tokenizer, tmp_path / "given", {"A model": "of a test"})
    run = new_run()
    initialise(InitConfig(path=str(tmp_path / "given")), run=run)
    stored = load_file(run.out / "model.safetensors")
    assert {values.dtype for values in stored.values()} == {torch.bfloat16}
    assert json.loads((run.out / "config.json").read_text())["dtype"] == "bfloat16"
    again = dict(load_policy(run.out, Runtime()).model.named_parameters())
    assert all(torch.equal(values, again[name]) for name, values in plain.model.named_parameters())


def test_a_base_that_bf16_would_round_stays_in_fp32(tiny_checkpoint, new_run):
    run = new_run()
    initialise(InitConfig(path=str(tiny_checkpoint)), run=run)
    stored, given = (load_file(place / "model.safetensors") for place in (run.out, tiny_checkpoint))
    assert all(torch.equal(values, given[name]) and values.dtype == torch.float32 for name, values in stored.items())
