"""The lm-evaluation-harness on a policy: tasks of the user's own, without a network; skipped where the harness is not installed."""

import json
from functools import partial
from types import SimpleNamespace

import pytest

from alignflow.data.configs.generation import EvaluateConfig
from alignflow.data.configs.lm_eval import LmEvalConfig
from alignflow.data.errors import AlignflowError, DataError, UserError
from alignflow.data.run import Runtime
from alignflow.models.batching import EncodedRow
from alignflow.models.evaluators.base import EvaluationInputs
from alignflow.models.evaluators.lm_eval import evaluate
from alignflow.models.policy import completion_logps, load_policy

pytest.importorskip("lm_eval")
from alignflow.models.evaluators import harness
from alignflow.models.evaluators.harness import PolicyLM, _sampling, _until, run_tasks

CHOICE = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: colours.jsonl}
test_split: train
output_type: multiple_choice
doc_to_text: "{{ question }}"
doc_to_choice: "{{ choices }}"
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
ANSWER = """
task: answers
dataset_path: json
dataset_kwargs: {data_files: colours.jsonl}
test_split: train
output_type: generate_until
doc_to_text: "{{ question }}"
doc_to_target: "{{ choices[label] }}"
generation_kwargs: {until: ["red"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """The data sets of the harness stay in the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def tasks(tmp_path):
    """A directory with two tasks over six questions."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"question": f"the cat {n} is", "choices": [" red", " the house"], "label": n % 2} for n in range(6)]
    (folder / "colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "colours.yaml").write_text(CHOICE)
    (folder / "answers.yaml").write_text(ANSWER)
    return folder


@pytest.fixture
def model(tiny_checkpoint, new_run):
    return PolicyLM(load_policy(tiny_checkpoint, Runtime()), new_run(), batch_size=4, seed=0)


def config(tasks, *names, **more):
    return LmEvalConfig(tasks=names, include_path=str(tasks), **more)


def test_log_likelihoods_are_those_of_the_policy(model):
    context, continuation = model.tok_encode("the cat"), model.tok_encode(" is red")
    ((logp, greedy),) = model._loglikelihood_tokens([(None, context, continuation)])
    (expected,) = completion_logps(model._policy, [EncodedRow(tuple(context), tuple(continuation))], 512)
    assert logp == pytest.approx(float(expected.sum()), abs=1e-5) and greedy is False


def test_the_likeliest_continuation_is_greedy(model):
    request = type("Request", (), {"args": ("the cat", {"until": [], "max_gen_toks": 3})})
    generator_ids = model.tok_encode(model.generate_until([request])[0])
    if generator_ids:
        ((_, greedy),) = model._loglikelihood_tokens([(None, model.tok_encode("the cat"), generator_ids[:1])])
        assert greedy


def test_what_does_not_fit_into_the_context_loses_its_beginning_and_is_counted(model):
    model.max_length = 8
    long, short = list(range(5, 25)), [5, 6]
    row = model._row(long, short)
    assert row.prompt_ids == tuple(long[-6:]) and row.completion_ids == (5, 6) and model.cut == 1
    assert len(model._prompt("the cat is red " * 9, new_tokens=3)) == 5 and model.cut == 2
    assert model._row([5], short).prompt_ids == (5,) and model.cut == 2


def test_a_rolling_likelihood_counts_each_token_once(model):
    text = "the cat is red and the dog is blue"
    (whole,) = model.loglikelihood_rolling([type("Request", (), {"args": (text,)})])
    row = EncodedRow((model.prefix_token_id,), tuple(model.tok_encode(text)))
    (expected,) = completion_logps(model._policy, [row], 512)
    assert whole == pytest.approx(float(expected.sum()), abs=1e-4)


class WithBos:
    """A tokenizer that puts BOS first, as that of Llama; a letter is a token, and so is <s>."""

    bos_token, bos_token_id, eos_token_id = "<s>", 1, 2

    def encode(self, text, add_special_tokens):
        marked, letters = text.startswith("<s>"), [ord(letter) for letter in text.removeprefix("<s>")]
        return [1] * (add_special_tokens + marked) + letters


@pytest.fixture
def with_bos(model):
    """A model whose tokenizer adds BOS; `asked` has what it is handed."""
    policy = SimpleNamespace(tokenizer=WithBos(), model=model._policy.model)
    found = PolicyLM(policy, model._run, batch_size=4, seed=0)
    found.asked = []
    found._score = lambda rows: found.asked.extend(rows) or [(-1.0, False)] * len(rows)
    return found


def asking(*arguments):
    return [SimpleNamespace(args=arguments)]


@pytest.mark.parametrize("context", ["ab", "<s>ab"])
def test_bos_stands_once_before_a_context_where_the_tokenizer_adds_it(with_bos, context):
    with_bos.loglikelihood(asking(context, "c"))
    assert with_bos.asked == [EncodedRow((1, ord("a"), ord("b")), (ord("c"),))]
    assert with_bos._prompt(context, new_tokens=4) == [1, ord("a"), ord("b")]


def test_bos_stands_once_before_a_text_without_a_context(with_bos):
    with_bos.loglikelihood(asking("", "c"))
    with_bos.loglikelihood_rolling(asking("c"))
    assert with_bos.asked == [EncodedRow((1,), (ord("c"),))] * 2


def test_no_bos_is_added_where_the_tokenizer_adds_none(model):
    assert model.tok_encode("the cat") == model.tokenizer.encode("the cat", add_special_tokens=True)


def test_answers_end_before_the_first_stop_text_and_chance_is_off_unless_the_task_asks():
    assert _until("a b\nQ: c", ["\nQ:", "\n\n"]) == "a b" and _until("a", None) == "a" and _until("a b", "b") == "a "
    greedy = _sampling({"max_gen_toks": 900, "temperature": 0.7}, 64)
    assert greedy.temperature == 0 and greedy.max_new_tokens == 32
    drawn = _sampling({"do_sample": True, "temperature": 0.7, "top_p": 0.5}, 1024)
    assert (drawn.temperature, drawn.top_p, drawn.max_new_tokens) == (0.7, 0.5, 256)


@pytest.mark.parametrize("name", ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"])
def test_each_name_that_the_harness_has_for_the_limit_of_an_answer_is_read(name):
    assert _sampling({name: 7}, 1024).max_new_tokens == 7


def test_the_first_name_of_a_limit_counts():
    assert _sampling({"max_completion_tokens": 9, "max_gen_toks": 7}, 1024).max_new_tokens == 7


def test_answers_that_the_context_holds_shorter_than_their_task_says_are_counted(model):
    model.max_length = 16
    model.generate_until([*asking("the cat", {"max_gen_toks": 9}), *asking("the cat", {"max_tokens": 8})])
    assert model.lowered == 1


def test_an_answer_without_a_token_of_its_own_is_refused_and_not_taken_as_certain(with_bos):
    with pytest.raises(DataError, match="the answer '' adds no token after 'is it'"):
        with_bos.loglikelihood(asking("is it", ""))
    assert with_bos._loglikelihood_tokens([(("", "<s>"), [1], [])]) == [(0.0, True)]


def test_tags_and_groups_have_the_metrics_of_their_tasks(tasks, tiny_checkpoint, new_run):
    for name in ("one", "two"):
        (tasks / f"{name}.yaml").write_text(CHOICE.replace("task: colours", f"task: {name}\ntag: some"))
    (tasks / "group.yaml").write_text("group: both\ntask: [colours, answers]\n")
    of = EvaluateConfig(evaluators=("lm_eval",), lm_eval=config(tasks, "some", "both", limit=2))
    paths, run = {"aligned": tiny_checkpoint, "sft": tiny_checkpoint}, new_run()
    found = evaluate(EvaluationInputs(of, [], {}, paths, None, None, run))
    measured = {name for name in found.metrics if name.endswith("/aligned")}
    names = ("one/acc", "two/acc", "colours/acc", "answers/exact_match")
    assert measured == {f"lm_eval/{name}/aligned" for name in names} and run.warnings == []
    assert found.details["tasks"]["both"]["n"] == 4


def test_tasks_of_both_kinds_are_measured_with_n_interval_and_change(tasks, tiny_checkpoint, new_run):
    of = EvaluateConfig(evaluators=("lm_eval",), lm_eval=config(tasks, "colours", "answers", limit=4))
    paths = {"aligned": tiny_checkpoint, "sft": tiny_checkpoint}
    found = evaluate(EvaluationInputs(of, [], {}, paths, None, None, new_run()))
    colours = found.details["tasks"]["colours"]
    assert colours["n"] == 4 and colours["higher_is_better"] == {"acc": True}
    acc = colours["metrics"]["acc"]["aligned"]
    assert acc["low"] < acc["value"] < acc["high"] and acc["value"] == 0.5, (
        "it likes one of two answers to each question"
    )
    assert found.metrics["lm_eval/colours/acc/change"] == 0 and "lm_eval/colours/acc/sft/low" in found.metrics
    assert found.metrics["lm_eval/answers/exact_match/aligned"] == 0


def test_the_chat_template_writes_the_question_where_that_is_asked_for(tasks, model):
    asked = []
    model.generate_until = lambda requests: asked.extend(requests) or [""] * len(requests)
    run_tasks(config(tasks, "answers", chat_template=True, limit=1), model, 0)
    assert asked[0].args[0] == model.apply_chat_template([{"role": "user", "content": "the cat 0 is"}])


def test_a_task_that_is_not_there_is_refused(tasks, model, monkeypatch):
    without_its_own = partial(harness.TaskManager, include_defaults=False)  # to read all of those takes a minute
    monkeypatch.setattr(
        harness, "TaskManager", lambda include_path, include_defaults: without_its_own(include_path=include_path)
    )
    with pytest.raises(UserError, match="no task 'shapes'"):
        run_tasks(config(tasks, "colours", "shapes"), model, 0)


def test_a_template_that_reaches_for_python_fails_unless_code_is_allowed(tasks, model):
    (tasks / "colours.yaml").write_text(CHOICE.replace("{{ question }}", "{{ ''.__class__.__name__ }}"))
    with pytest.raises(AlignflowError, match="SecurityError"):
        run_tasks(config(tasks, "colours"), model, 0)
    assert run_tasks(config(tasks, "colours", allow_code=True, limit=1), model, 0)["results"]["colours"]


def test_code_of_a_task_is_refused_before_it_is_loaded(tasks, model):
    (tasks / "code.py").write_text("raise SystemExit('it ran')\n")
    (tasks / "colours.yaml").write_text(CHOICE + "process_docs: !function code.run\n")
    with pytest.raises(UserError, match="allow_code"):
        run_tasks(config(tasks, "colours"), model, 0)


@pytest.mark.parametrize(("members", "defaults"), [("[colours, arc_easy]", True), ("[colours, answers]", False)])
def test_the_harness_own_tasks_are_read_where_a_local_group_has_one(tasks, model, monkeypatch, members, defaults):
    (tasks / "group.yaml").write_text(f"group: both\ntask: {members}\n")
    asked = {}

    def stop(**arguments):
        asked.update(arguments)
        raise UserError("far enough")

    monkeypatch.setattr(harness, "TaskManager", stop)
    with pytest.raises(UserError, match="far enough"):
        run_tasks(config(tasks, "both"), model, 0)
    assert asked["include_defaults"] is defaults


def test_a_file_that_a_task_includes_runs_no_code(tasks, model):
    (tasks / "code.py").write_text("raise SystemExit('it ran')\n")
    (tasks / "_common").write_text(CHOICE + "process_docs: !function code.run\n")
    (tasks / "colours.yaml").write_text("task: colours\ninclude: _common\n")
    with pytest.raises(UserError, match="allow_code"):
        run_tasks(config(tasks, "colours"), model, 0)


def test_a_name_without_any_metric_is_told(tasks, tiny_checkpoint, new_run, monkeypatch):
    nothing = {"results": {"both": {"alias": "both"}}, "group_subtasks": {"both": []}}
    monkeypatch.setattr(harness, "run_tasks", lambda *_: nothing)
    of = EvaluateConfig(evaluators=("lm_eval",), lm_eval=config(tasks, "both"))
    run = new_run()
    paths = {"aligned": tiny_checkpoint, "sft": tiny_checkpoint}
    assert evaluate(EvaluationInputs(of, [], {}, paths, None, None, run)).metrics == {}
    assert run.warnings == ["lm_eval: the harness measured nothing for both, so it has no metric"]


def test_before_a_context_of_spaces_alone_stands_the_prefix(model):
    ((logp, _),) = model.loglikelihood(asking(" ", "the cat"))
    assert logp < 0
