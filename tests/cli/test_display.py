"""What a run prints: plain lines where the output is no terminal."""

import io
from types import SimpleNamespace

import pytest

from alignflow.cli.display import Display, gate_line, loading_lines, result_paths, tensorboard_lines
from alignflow.cli.terminal import Console
from alignflow.data.adapters import ADAPTER_CONFIG
from alignflow.data.artifacts import ArtifactRef
from alignflow.data.gates import GateRecord
from alignflow.flows.pipeline import Outcome

RECORD = GateRecord(
    gate="loss",
    stage="sft",
    metric="eval_loss",
    key="sft-01",
    digest="d",
    value=3.0,
    minimum=None,
    maximum=2.0,
    action="ask",
    verdict="approved",
    who="ada",
)


def test_a_file_gets_no_live_line_and_markup_of_a_reason_is_text():
    out = io.StringIO()
    display = Display(Console(file=out, width=200), 2)
    display.starts(SimpleNamespace(name="sft"), "[red]changed[/red]: beta")
    display.progress("sft", {})
    display.stop()
    assert "sft  runs: [red]changed[/red]: beta" in out.getvalue() and "\x1b" not in out.getvalue()
    assert display.running.name == "sft"


def test_a_gate_says_who_let_the_run_on():
    assert "(approved by ada)" in gate_line(RECORD) and "3" in gate_line(RECORD)
    assert "approved" not in gate_line(RECORD.model_copy(update={"verdict": "passed", "value": 1.0}))


@pytest.fixture
def shown():
    file = io.StringIO()
    return Display(Console(file=file, width=60), 1), file


def test_what_a_step_notes_stands_on_a_line_of_its_own(shown):
    display, file = shown
    display.progress("prepare", {"note": "rows are worked on in one process [Errno 30]"})
    assert file.getvalue() == "  prepare: rows are worked on in one process [Errno 30]\n"


def test_a_remark_is_one_line_however_long(shown):
    display, file = shown
    display.remarks("data.preferences: no step of the recipe takes its 1,234 rows; kto reads unpaired")
    assert file.getvalue().count("\n") == 1 and "1,234 rows" in file.getvalue()


def ended(store, *steps):
    """What a run of these steps prints where it finds its results, and how to load the best of them."""
    refs = {name: ArtifactRef(key=f"{name}-{'0123456789abcdef' * 4}", digest="d", kind="checkpoint") for name in steps}
    outcomes = [Outcome(name=name, ref=ref, ran=True, seconds=1.0) for name, ref in refs.items()]
    paths = result_paths(outcomes, store)
    return paths, loading_lines(paths)


def test_a_run_that_aligned_ends_with_that_model_and_how_to_load_it(store):
    paths, lines = ended(store, "sft", "reward", "align", "report")
    assert list(paths)[-1] == "aligned model" and "fine-tuned model" not in paths
    assert lines == [
        f'load it: transformers.AutoModelForCausalLM.from_pretrained("{paths["aligned model"]}")',
        "talk to it: alignflow chat align-0123456789ab",
    ]


def test_a_run_of_sft_alone_ends_with_the_fine_tuned_model(store):
    paths, lines = ended(store, "prepare", "sft", "report")
    assert list(paths) == ["report", "fine-tuned model"]
    assert lines[1] == "talk to it: alignflow chat sft-0123456789ab"


def test_an_adapter_is_merged_by_export_since_transformers_cannot_load_it_alone(store):
    paths, _ = ended(store, "align")
    paths["aligned model"].mkdir(parents=True)
    (paths["aligned model"] / ADAPTER_CONFIG).write_text("{}")
    assert loading_lines(paths)[0].startswith("load it: alignflow export align-0123456789ab merged ")


def test_a_reward_model_alone_is_loaded_as_a_classifier_and_answers_nothing(store):
    paths, lines = ended(store, "prepare", "reward")
    assert lines == [
        f'load it: transformers.AutoModelForSequenceClassification.from_pretrained("{paths["reward model"]}")'
    ]


def test_a_run_that_trains_a_reward_model_after_sft_ends_with_the_reward_model(store):
    assert list(ended(store, "sft", "reward", "report")[0])[-1] == "reward model"


def test_a_run_without_a_model_of_its_own_names_none(store):
    assert ended(store, "init", "prepare", "report")[1] == [] == ended(store)[1]


def test_a_run_with_event_files_says_how_to_open_them(store):
    outcomes = []
    for name in ("init", "sft", "align"):
        ref = ArtifactRef(kind="checkpoint", key=f"{name}-1", digest="d")
        outcomes.append(Outcome(name=name, ref=ref, ran=False, seconds=0.0))
    assert tensorboard_lines(outcomes, store) == []
    for name in ("sft", "align"):
        (store.directory(f"{name}-1") / "side" / "tensorboard").mkdir(parents=True)
    (line,) = tensorboard_lines(outcomes, store)
    sft, align = (store.directory(f"{name}-1") / "side" / "tensorboard" for name in ("sft", "align"))
    assert line == f"curves: tensorboard --logdir_spec=sft:{sft},align:{align}"
