"""A training state is whole or not there, is read by any number of processes, and is not taken for another's."""

import shutil
from collections import namedtuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignflow.data.artifacts import file_digest
from alignflow.data.configs.training import SFTConfig
from alignflow.data.errors import StoreError
from alignflow.data.run import Runtime
from alignflow.data.seals import DIRECTORY_SEAL, seal_directory
from alignflow.models.engines import group
from alignflow.models.engines.base import make_engine
from alignflow.models.engines.parts import MOMENTS, TensorSlice
from alignflow.models.policy import load_policy
from alignflow.models.trainers import saved_state
from alignflow.models.trainers.saved_state import SavedStates, StateReader

WHOLE = {f"{kind}/w": torch.arange(10.0) + 100 * number for number, kind in enumerate(("weights", *MOMENTS))} | {
    "steps": torch.tensor([3.0])
}


class Half:
    """An engine that holds elements `start` to `stop` of one parameter."""

    def __init__(self, start=0, stop=10, zero_stage=1):
        self.start, self.stop, self.zero_stage, self.loaded = start, stop, zero_stage, {}

    def parts(self):
        own = {
            name: TensorSlice(value[self.start : self.stop], self.start, (10,))
            for name, value in WHOLE.items()
            if name != "steps"
        }
        return own | ({"steps": TensorSlice(WHOLE["steps"], 0, (1,))} if self.start == 0 else {})

    def load_parts(self, read):
        self.loaded = {name: read(name, self.start, self.stop) for name in WHOLE if name != "steps"} | {
            "steps": read("steps", 0, 1)
        }

    def description(self):
        return {"zero_stage": self.zero_stage}


@pytest.fixture
def states(tmp_path):
    heard = []
    made = SavedStates(tmp_path / "key", heard.append)
    made.heard = heard
    return made


@pytest.fixture
def as_process(monkeypatch):
    """Be one of several processes that ask each other nothing."""

    def become(rank, size):
        monkeypatch.setattr(group, "rank", lambda: rank)
        monkeypatch.setattr(group, "size", lambda: size)
        for name, answer in {
            "is_main": lambda: rank == 0,
            "barrier": lambda: None,
            "anywhere": bool,
            "gather": lambda value: [value] * size,
            "sum_all": dict,
        }.items():
            monkeypatch.setattr(group, name, answer)

    return become


def test_a_state_comes_back_with_generator_extra_and_tensors(states):
    torch.manual_seed(1)
    states.save(3, {"model": Half()}, {"beta": 0.1}, {"buffer": torch.ones(2)})
    drawn = torch.rand(4)
    engine = Half()
    saved = states.restore({"model": engine})
    assert (saved.step, saved.extra) == (3, {"beta": 0.1}) and torch.equal(saved.tensors["buffer"], torch.ones(2))
    assert all(torch.equal(engine.loaded[name], value) for name, value in WHOLE.items())
    assert torch.equal(torch.rand(4), drawn) and not states.heard


def test_two_states_are_kept(states, tmp_path):
    for step in (1, 2, 3):
        states.save(step, {"model": Half()})
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("cut", [100, -3])
def test_a_state_that_is_cut_short_is_passed_over(cut, states, tmp_path):
    for step in (1, 2):
        states.save(step, {"model": Half()})
    file = tmp_path / "key" / "step-00000002" / "model-00000.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    assert states.restore({"model": Half()}).step == 1


def test_a_state_that_was_left_half_written_is_no_state(states, tmp_path):
    states.save(1, {"model": Half()})
    (tmp_path / "key" / "step-00000001").rename(tmp_path / "key" / ".step-00000001")
    assert states.restore({"model": Half()}) is None
    states.save(2, {"model": Half()})
    assert [path.name for path in (tmp_path / "key").iterdir()] == ["step-00000002"], "what a kill left is removed"


def test_the_state_of_another_key_is_not_taken_up(states, tmp_path):
    states.save(1, {"model": Half()})
    shutil.copytree(tmp_path / "key", tmp_path / "other")
    assert SavedStates(tmp_path / "other").restore({"model": Half()}) is None


def test_the_state_of_other_engines_is_not_taken_up(states):
    states.save(1, {"model": Half()})
    assert states.restore({"model": Half(), "value": Half()}) is None


def test_each_process_writes_its_share_and_any_number_reads_it(states, tmp_path, as_process):
    as_process(1, 2)  # the first process commits, so it comes last
    (tmp_path / "key" / ".step-00000001").mkdir(parents=True)
    states.save(1, {"model": Half(4, 10)}, tensors={"buffer": torch.tensor([1.0])})
    second = {path.name: path.read_bytes() for path in (tmp_path / "key" / ".step-00000001").iterdir()}
    as_process(0, 2)
    states.save(1, {"model": Half(0, 4)}, tensors={"buffer": torch.tensor([0.0])})
    for name, content in second.items():
        (tmp_path / "key" / "step-00000001" / name).write_bytes(content)
    shares = [
        load_file(tmp_path / "key" / "step-00000001" / f"model-{rank:05d}.safetensors")["weights/w"] for rank in (0, 1)
    ]
    assert [len(share) for share in shares] == [4, 6], "no file holds the whole"

    as_process(1, 2)
    again = Half(4, 10)
    assert states.restore({"model": again}).tensors["buffer"] == 1 and torch.equal(
        again.loaded["weights/w"], WHOLE["weights/w"][4:]
    )
    assert not states.heard
    for rank, (start, stop) in enumerate([(0, 3), (3, 7), (7, 10)]):
        as_process(rank, 3)
        engine = Half(start, stop)
        saved = states.restore({"model": engine})
        assert torch.equal(engine.loaded["exp_avg/w"], WHOLE["exp_avg/w"][start:stop]) and engine.loaded["steps"] == 3
        assert saved.tensors == {}
    assert len(states.heard) == 1 and "processes 2 -> 3" in states.heard[0] and "rounding" in states.heard[0]


def test_processes_of_another_number_draw_different_numbers(states, as_process):
    states.save(1, {"model": Half()})
    drawn = []
    for rank in (0, 1):
        as_process(rank, 2)
        states.restore({"model": Half()})
        drawn.append(torch.rand(3))
    assert not torch.equal(*drawn)


def test_another_zero_stage_thread_count_or_torch_is_said(states, monkeypatch, tmp_path):
    states.save(1, {"model": Half()})
    file = tmp_path / "key" / "step-00000001" / "state.json"
    file.write_text(file.read_text().replace(torch.__version__, "0.1"))
    seal_directory(
        file.parent, {path.name: file_digest(path) for path in file.parent.iterdir() if path.name != DIRECTORY_SEAL}
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    states.restore({"model": Half(zero_stage=3)})
    assert all(
        text in states.heard[0]
        for text in ("zero stage 1 -> 3", "threads", "-> 77", f"torch 0.1 -> {torch.__version__}")
    )


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_another_token_budget_is_said(engine, states, tiny_checkpoint):
    for tokens in (100, 100, 200):
        runtime = Runtime(engine=engine, micro_batch_tokens=tokens)
        made = make_engine(load_policy(tiny_checkpoint, runtime, trainable=True).model, SFTConfig(), runtime)
        states.restore({"model": made})
        states.save(1, {"model": made})
        made.close()
    (heard,) = states.heard
    assert "(micro batch tokens 100 -> 200)" in heard


def test_a_full_disk_is_refused_before_writing_and_the_last_state_stays(states, monkeypatch, tmp_path):
    states.save(1, {"model": Half()})
    monkeypatch.setattr(saved_state.shutil, "disk_usage", lambda path: namedtuple("usage", "free")(100))
    with pytest.raises(StoreError, match=r"(?s)needs 0\.00 GB.*the last one is kept.*alignflow gc"):
        states.save(2, {"model": Half()})
    assert [path.name for path in (tmp_path / "key").iterdir()] == ["step-00000001"]
    assert states.restore({"model": Half()}).step == 1


def test_a_reader_says_which_elements_are_missing(tmp_path):
    save_file(
        {"weights/w": torch.arange(4.0)}, tmp_path / "model-00000.safetensors", metadata={"starts": '{"weights/w": 0}'}
    )
    with StateReader(tmp_path, "model") as reader:
        assert torch.equal(reader.read("weights/w", 1, 3), torch.tensor([1.0, 2.0]))
        with pytest.raises(StoreError, match="lacks 2 elements of weights/w"):
            reader.read("weights/w", 2, 6)


@pytest.mark.parametrize("name", ["model-00000.safetensors", "process-00000.safetensors", "state.json", "seal.json"])
def test_a_state_with_a_changed_byte_is_passed_over_and_said(states, tmp_path, name):
    noted, heard = [], states.heard
    states = SavedStates(tmp_path / "key", heard.append, noted.append)
    for step in (1, 2):
        states.save(step, {"model": Half()})
    file = tmp_path / "key" / "step-00000002" / name
    content = bytearray(file.read_bytes())
    content[-2] ^= 1  # the last bytes of a tensor: the file still loads
    file.write_bytes(content)
    assert states.restore({"model": Half()}).step == 1
    assert "step-00000002 is damaged" in noted[0] and not heard


def test_a_state_without_digests_is_taken_up_and_said(states, tmp_path):
    states.save(1, {"model": Half()})
    (tmp_path / "key" / "step-00000001" / "seal.json").unlink()
    assert states.restore({"model": Half()}).step == 1
    assert "could not be checked" in states.heard[0]
