"""SFT learns from whole rows or not at all, and what it saves under ZeRO 3 is the whole model."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from training_support import set_sizes
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from alignflow.data.artifacts import file_digest, payload_files
from alignflow.data.configs.training import SFTConfig
from alignflow.data.errors import TrainingError
from alignflow.data.records import assistant, read_table, user, write_table
from alignflow.data.rendering import encode_turns
from alignflow.models.trainers.saved_state import SavedStates
from alignflow.models.trainers.sft import train_sft

CONFIG = SFTConfig(learning_rate=5e-3, max_steps=3, batch_size=14, max_length=64)


def long_rows(checkpoint, count):
    """Demonstrations whose prompt alone has at least 200 tokens: cut to 64, nothing would be left to learn from."""
    prompt = "the cat " * 100
    assert len(AutoTokenizer.from_pretrained(checkpoint)(prompt)["input_ids"]) >= 200
    return [
        {"id": f"long{index}", "source": "t", "messages": [*user(f"{prompt}{index}"), *assistant("cat")]}
        for index in range(count)
    ]


def written(rows, heldout, path):
    write_table(rows, "demonstrations", path / "train.parquet")
    write_table(heldout, "demonstrations", path / "heldout.parquet")
    return path


def digests(directory):
    return {name: file_digest(directory / name) for name in payload_files(directory)}


def test_rows_whose_prompt_leaves_no_room_for_an_answer_are_refused_where_there_are_no_others(
    tiny_checkpoint, tmp_path, new_run
):
    rows, run = long_rows(tiny_checkpoint, 3), new_run()
    with pytest.raises(TrainingError, match=r"no demonstrations to learn from\n  set sft.max_length"):
        train_sft(CONFIG, base=tiny_checkpoint, demonstrations=written(rows, rows[:1], tmp_path / "data"), run=run)
    assert run.warnings[0] == "3 rows of train.parquet are over sft.max_length 64 and were dropped" and not list(
        run.out.iterdir()
    )


def with_learned_positions(checkpoint, out):
    """A GPT-2 with 128 positions, and the checkpoint's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=1, n_head=2)
    ).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_rows_over_the_models_context_are_left_out_whatever_max_length_says(
    positions, tiny_checkpoint, demonstrations, tmp_path, new_run
):
    base = tiny_checkpoint if positions == "rotary" else with_learned_positions(tiny_checkpoint, tmp_path / "gpt2")
    train, run = read_table(demonstrations / "train.parquet"), new_run()
    data = written([*train, *long_rows(tiny_checkpoint, 2)], train[:3], tmp_path / "data")
    metrics = train_sft(CONFIG.model_copy(update={"max_length": 512}), base=base, demonstrations=data, run=run)
    assert run.warnings == ["2 rows of train.parquet are over the model's context of 128 tokens and were dropped"]
    assert math.isfinite(metrics["eval_loss"])


def test_among_other_rows_they_are_left_out_and_said_and_the_rest_trains_as_without_them(
    tiny_checkpoint, demonstrations, tmp_path, new_run
):
    long, (train, heldout) = (
        long_rows(tiny_checkpoint, 2),
        (read_table(demonstrations / f"{side}.parquet") for side in ("train", "heldout")),
    )
    mixed, run = written([*train, *long], [*heldout, *long[:1]], tmp_path / "mixed"), new_run("mixed")
    found = train_sft(CONFIG, base=tiny_checkpoint, demonstrations=mixed, run=run)
    assert found == train_sft(CONFIG, base=tiny_checkpoint, demonstrations=demonstrations, run=new_run("plain"))
    assert all(math.isfinite(value) and value > 0 for value in found.values())
    assert run.warnings == [
        f"{count} rows of {side}.parquet are over sft.max_length 64 and were dropped"
        for side, count in (("train", 2), ("heldout", 1))
    ]
    assert digests(run.out) == digests(new_run("plain").out)


@pytest.fixture
def everything_is_shared_out():
    before = set_sizes(persistent=0, chunk_tokens=16)
    yield
    set_sizes(*before)


def test_a_model_trained_and_saved_under_zero_3_has_no_empty_tensor_and_loads_equal(
    everything_is_shared_out, tiny_checkpoint, demonstrations, new_run
):
    for name, runtime in (("plain", {"engine": "torch"}), ("shared", {"engine": "deepspeed", "zero_stage": 3})):
        train_sft(CONFIG, base=tiny_checkpoint, demonstrations=demonstrations, run=new_run(name, **runtime))
    base, plain, shared = (
        load_file(path / "model.safetensors") for path in (tiny_checkpoint, new_run("plain").out, new_run("shared").out)
    )
    shapes = {name: value.shape for name, value in base.items()}
    assert {name: value.shape for name, value in shared.items()} == shapes and all(
        shape.numel() for shape in shapes.values()
    )
    moved = [name for name, value in shared.items() if not torch.equal(value, base[name])]
    assert moved == list(base), "what was saved is what was trained"
    ids = torch.tensor([[4, 9, 20, 30, 31, 1]])
    with torch.no_grad():
        loaded, expected = (
            AutoModelForCausalLM.from_pretrained(new_run(name).out)(ids).logits for name in ("shared", "plain")
        )
    torch.testing.assert_close(loaded, expected, atol=1e-3, rtol=1e-3)
    assert all(torch.allclose(value, plain[name], atol=1e-4) for name, value in shared.items())


TURNS = [
    {
        "id": "two",
        "source": "t",
        "messages": [*user("the cat"), *assistant("cat hill"), *user("the dog"), *assistant("dog")],
    },
    {
        "id": "one",
        "source": "t",
        "messages": [*user("a bird in the rain"), *assistant("bird bird bird bird bird bird")],
    },
]


def stepped(new_run, name, base, data, runtime=None, **fields):
    """One step on all rows; its run and metrics."""
    run = new_run(name, **(runtime or {}))
    return run, train_sft(
        CONFIG.model_copy(update={"max_steps": 1, "batch_size": 2, **fields}), base=base, demonstrations=data, run=run
    )


def nll_of_turns(base):
    """Row -> the NLL of each assistant turn's tokens, from the whole conversation with plain transformers."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    found = {}
    for row in TURNS:
        encoded = encode_turns(tokenizer, row["messages"])
        with torch.no_grad():
            logps = model(torch.tensor([encoded.ids])).logits[0].log_softmax(-1)
        turns, before = [], False
        for place, counted in enumerate(encoded.supervised):
            turns += [[]] if counted and not before else []
            if counted:
                turns[-1].append(-float(logps[place - 1, encoded.ids[place]]))
            before = counted
        found[row["id"]] = turns
    return found


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("tokens", [64, 8192])
@pytest.mark.parametrize("train_on", ["all_assistant_turns", "last_turn"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_the_loss_is_the_mean_over_tokens_or_rows_of_all_turns_or_the_last(
    reduction, train_on, tokens, tiny_checkpoint, tmp_path, new_run
):
    data = written(TURNS, TURNS, tmp_path / "data")
    run, _ = stepped(
        new_run,
        "run",
        tiny_checkpoint,
        data,
        {"micro_batch_tokens": tokens},
        loss_reduction=reduction,
        train_on=train_on,
        logging_steps=1,
    )
    turns = nll_of_turns(tiny_checkpoint)
    assert [len(found) for found in turns.values()] == [2, 1]
    rows = [found[-1] if train_on == "last_turn" else sum(found, []) for found in turns.values()]
    wanted = mean([mean(row) for row in rows]) if reduction == "sequence_mean" else mean(sum(rows, []))
    loss = json.loads((run.side / "curves.jsonl").read_text().splitlines()[0])["loss"]
    assert loss == pytest.approx(wanted, rel=1e-5)


def test_the_held_out_loss_is_the_same_mean(tiny_checkpoint, tmp_path, new_run):
    data = written(TURNS, TURNS, tmp_path / "data")
    fields = {"loss_reduction": "sequence_mean", "train_on": "last_turn", "learning_rate": 1e-12}
    _, metrics = stepped(new_run, "run", tiny_checkpoint, data, **fields)
    assert metrics["eval_loss"] == pytest.approx(
        mean([mean(found[-1]) for found in nll_of_turns(tiny_checkpoint).values()]), rel=1e-5
    )


NOISY = {"neftune_noise_alpha": 5.0, "max_steps": 6, "batch_size": 14, "save_steps": 2}


def test_noise_changes_what_is_learnt_and_not_what_is_evaluated(tiny_checkpoint, demonstrations, new_run):
    plain, noisy, again = (
        stepped(new_run, name, tiny_checkpoint, demonstrations, **fields, learning_rate=1e-12)[1]
        for name, fields in (
            ("plain", {}),
            ("noisy", {"neftune_noise_alpha": 15.0}),
            ("again", {"neftune_noise_alpha": 15.0}),
        )
    )
    assert noisy == again and abs(noisy["loss"] - plain["loss"]) > 1e-4
    assert noisy["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-6)


def test_a_training_with_noise_that_was_killed_ends_with_the_same_bytes(
    tiny_checkpoint, demonstrations, new_run, monkeypatch
):
    whole = stepped(new_run, "whole", tiny_checkpoint, demonstrations, **NOISY)[1]
    saved = SavedStates.save

    def save_then_die(self, step, *arguments):
        saved(self, step, *arguments)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(SavedStates, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        stepped(new_run, "killed", tiny_checkpoint, demonstrations, **NOISY)
    monkeypatch.undo()
    assert stepped(new_run, "killed", tiny_checkpoint, demonstrations, **NOISY)[1] == whole
    assert digests(new_run("killed").out) == digests(new_run("whole").out)


def test_noise_does_not_depend_on_micro_batches(tiny_checkpoint, demonstrations, new_run):
    found = [
        stepped(new_run, str(tokens), tiny_checkpoint, demonstrations, {"micro_batch_tokens": tokens}, **NOISY)[1]
        for tokens in (64, 8192)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-4)
