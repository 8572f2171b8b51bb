"""Labelling through an endpoint, by real processes: killed, out of quota, restarted; and vLLM's own server where it is installed."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
import torch
from stand_in_server import standing_in
from tests_support import small_tokenizer
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from alignflow.data.artifacts import payload_files
from alignflow.data.configs.generation import LabelConfig, SampleConfig
from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.configs.loading import load_recipe
from alignflow.data.configs.options import JudgeModelOptions
from alignflow.data.errors import AlignflowError, ModelError
from alignflow.data.records import read_table, write_table
from alignflow.data.run import Run, Runtime
from alignflow.data.vllm_environment import vllm_python
from alignflow.flows.calls import Caller
from alignflow.models.generation.reply_journal import PATTERN
from alignflow.models.generation.sample import sample
from alignflow.models.judges.judge_model import Question, make_judge_model
from alignflow.models.judges.label import label
from alignflow.tasks.launch.stage import run_stage
from alignflow.tasks.store.artifact_store import ArtifactStore

KEY = "sk-not-to-be-found-anywhere-9341"
needs_vllm = pytest.mark.skipif(vllm_python() is None, reason="vLLM is not installed: make vllm")


def labelling(store, server, repository, **options):
    """The call of `label` by a judge behind the stand-in, after its inputs were made; a function, since every try needs a new one."""
    options = {"urls": [server.url], "model": "m", "api_key_env": "STAND_IN_KEY", "concurrency": 4, **options}
    judge = {"name": "llm", "generator": {"name": "server", "options": options}}
    settings = ["sft=null", f"label.judge={json.dumps(judge)}", "label.batch_size=8"]
    caller = Caller(load_recipe(repository / "recipes" / "tiny.yaml", settings), store)
    made = {}
    for node in caller.nodes:
        if node.name == "label":
            return caller.call(node, made)
        made[node.name] = run_stage(caller.call(node, made), store)[0]
    raise AssertionError


def replies(store):
    return sum(path.read_bytes().count(b"\n") for path in (store.root / "rows").glob(f"label-*/{PATTERN}"))


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def worker_of(store, stage):
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        text = " ".join(command)
        if "alignflow.worker" in text and f"{store.root}/staging/{stage}-" in text and "supervise.py" not in text:
            return process.pid
    return None


def holds(root, text):
    return [path for path in Path(root).rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_stage_that_is_killed_pays_for_no_question_twice_and_gives_the_undisturbed_result(
    store, repository, tmp_path, monkeypatch
):
    monkeypatch.setenv("STAND_IN_KEY", KEY)
    with standing_in() as server:
        undisturbed, _ = run_stage(labelling(store, server, repository), store)
        questions = len(server.answers)
    other = ArtifactStore(tmp_path / "other")
    with standing_in(hold_after=60) as server:
        call, failures = labelling(other, server, repository), []

        def run():
            try:
                run_stage(call, other)
            except AlignflowError as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert server.held.wait(120)
        wait_for(lambda: replies(other) == 61)  # 60 replies, and what the endpoint understands
        os.kill(worker_of(other, "label"), signal.SIGKILL)
        thread.join()
        server.release(drop=True)
        assert "killed by signal 9" in failures[0].what
        ref, ran = run_stage(call, other)
        assert ran and ref.digest == undisturbed.digest
        assert len(server.answers) == questions > 100 and set(server.answers.values()) == {1}
        manifest = other.manifest(ref.key)
        assert manifest.metrics["cost/requests"] == questions - 60
        assert manifest.metrics["cost/from_journal"] == 12, "48 of the 60 are in the first batch of rows"
    for each in (store, other):
        assert not holds(each.root, KEY)
        assert (each.directory(ref.key) / "side" / "usage.json").exists()


def test_a_stage_that_runs_out_of_quota_stops_and_goes_on_when_it_is_paid(store, repository, monkeypatch):
    monkeypatch.setenv("STAND_IN_KEY", KEY)
    refusal = {"error": {"message": f"you, {KEY}, have no money", "code": "insufficient_quota"}}
    with standing_in(
        behave=lambda number, body: {"status": 429, "content": refusal} if number > 20 else None
    ) as server:
        call = labelling(store, server, repository)
        with pytest.raises(ModelError, match="no quota left"):
            run_stage(call, store)
        assert len(server.answers) == 20 and server.asked < 30
        server.behave = lambda number, body: None
        assert run_stage(call, store)[1]
        assert set(server.answers.values()) == {1}
    assert not holds(store.root, KEY), "neither in the log of the stage that failed nor anywhere else"


def test_only_the_stage_that_asks_gets_the_key(store, repository, monkeypatch):
    monkeypatch.setenv("STAND_IN_KEY", KEY)
    with standing_in() as server:
        call = labelling(store, server, repository)
        assert call.runtime.environment == ("STAND_IN_KEY",) and KEY not in call.model_dump_json()
        others = [json.loads(path.read_text()) for path in (store.root / "artifacts").glob("*/manifest.json")]
        assert len(others) == 3 and all(each["runtime"]["environment"] == [] for each in others)


BLOCK = """
import sys
from prefect.blocks.system import Secret
from alignflow.data.errors import UserError
from alignflow.tasks.launch.child import spec_environment
Secret(value="sk-of-the-block").save("judge-key")
spec = {"runtime": {"secret_blocks": ["judge-key"]}}
assert spec_environment(spec)["ALIGNFLOW_BLOCK_KEY_JUDGE_KEY"] == "sk-of-the-block"
assert "ALIGNFLOW_BLOCK_KEY_JUDGE_KEY" not in spec_environment({"runtime": {}})
try:
    spec_environment({"runtime": {"secret_blocks": ["another"]}})
except UserError as error:
    print(error)
"""


def test_a_key_in_a_secret_block_reaches_the_process_that_names_it(prefect_server):
    environment = {**os.environ, "PREFECT_API_URL": prefect_server}
    done = subprocess.run([sys.executable, "-c", BLOCK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no Secret block 'another'" in done.stdout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random model of a shape that vLLM has on a CPU, strong enough in its opinions to prefer something."""
    path = small_tokenizer(tmp_path_factory.mktemp("tiny"))
    tokenizer = AutoTokenizer.from_pretrained(path)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        intermediate_size=128,
        max_position_embeddings=2048,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **shape,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(path)
    return path


def make_run(place, **how):
    for name in ("out", "side", "work"):
        (place / name).mkdir(parents=True)
    return Run(
        out=place / "out", side=place / "side", work=place / "work", rows=place / "rows", runtime=Runtime(), **how
    )


@pytest.fixture(scope="module")
def completions(tmp_path_factory):
    path = tmp_path_factory.mktemp("completions")
    rows = [
        {
            "id": f"row-{number}",
            "source": "test",
            "prompt": [{"role": "user", "content": f"question number {number}"}],
            "completions": [f"the answer is {number}", f"about the thing {number * 7}"],
            "ended": [True, True],
            "tokens": [4, 5],
        }
        for number in range(60)
    ]
    write_table(rows, "completions", path / "train.parquet")
    return path


def labels_of(run):
    return {
        row["id"]: row["soft_label"]
        for side in ("train", "heldout")
        for row in read_table(run.out / "preferences" / f"{side}.parquet")
    }


def label_config(generator=None):
    judge = {"name": "llm", "options": {"max_length": 2000}, "generator": generator}
    return LabelConfig.model_validate({"judge": judge, "batch_size": 8})


class Server:
    """vLLM's real server, of a test: started and killed at one port."""

    def __init__(self, model, port, place):
        from alignflow.models.generation import server_process

        run = make_run(place)
        options = server_process.ServeOptions(port=port)
        self._process = server_process.ServerProcess(Path(model), options, run)
        self.url, self.key = self._process.url, self._process.key

    def kill(self):
        for process in servers_at(self.url):
            process.kill()
        self._process.close()

    close = kill


def servers_at(url):
    port = url.rpartition(":")[2].removesuffix("/v1")
    found = [each for each in psutil.process_iter() if _is_server(each, port)]
    return [*found, *(child for each in found for child in each.children(recursive=True))]


def _is_server(process, port):
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return (
        "vllm.entrypoints.openai.api_server" in command and port in command and "supervise.py" not in " ".join(command)
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def same_labels(one, other, tolerance):
    assert one.keys() == other.keys() and len(one) > 5
    return all(math.isclose(one[each], other[each], abs_tol=tolerance) for each in one)


@needs_vllm
def test_vllms_server_gives_the_labels_of_transformers_and_survives_a_kill(tiny, completions, tmp_path, monkeypatch):
    port = free_port()
    server = Server(tiny, port, tmp_path / "first")
    try:
        monkeypatch.setenv("VLLM_KEY_OF_THE_TEST", server.key)
        options = {
            "urls": [server.url],
            "model": "served",
            "api_key_env": "VLLM_KEY_OF_THE_TEST",
            "max_retries": 0,
            "concurrency": 2,
        }
        theirs, failures = make_run(tmp_path / "server"), []

        def work():
            try:
                label(
                    label_config({"name": "server", "options": options}),
                    completions=completions,
                    policy=tiny,
                    run=theirs,
                )
            except ModelError as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        wait_for(lambda: sum(path.read_bytes().count(b"\n") for path in theirs.rows.glob(PATTERN)) > 20)
        server.kill()
        thread.join()
        assert failures and "no answer after 1 tries" in failures[0].what
        kept = sum(path.read_bytes().count(b"\n") for path in theirs.rows.glob(PATTERN))
        assert 20 < kept < 122
        server = Server(tiny, port, tmp_path / "second")
        monkeypatch.setenv("VLLM_KEY_OF_THE_TEST", server.key)
        label(label_config({"name": "server", "options": options}), completions=completions, policy=tiny, run=theirs)
        lines = [line for path in theirs.rows.glob(PATTERN) for line in path.read_text().splitlines()]
        ids = [json.loads(line.partition(" ")[2])["id"] for line in lines]
        assert len(ids) == len(set(ids)) == 122, "two for each of 60 pairs, and what the endpoint understands"
        undisturbed = make_run(tmp_path / "undisturbed")
        label(
            label_config({"name": "server", "options": options}),
            completions=completions,
            policy=tiny,
            run=undisturbed,
        )
        assert same_labels(labels_of(undisturbed), labels_of(theirs), 1e-5)
        _same_texts(tiny, options, tmp_path)
    finally:
        server.close()
    assert servers_at(server.url) == []


def _same_texts(tiny, options, tmp_path):
    """Completions and readings after an opening equal those of transformers."""
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    rows = [{"id": f"p{n}", "source": "t", "prompt": [{"role": "user", "content": f"number {n}"}]} for n in range(6)]
    write_table(rows, "prompts", prompts / "train.parquet")
    texts = []
    for name, generator in (("a", None), ("b", {"name": "server", "options": options})):
        run = make_run(tmp_path / f"sample-{name}")
        config = SampleConfig.model_validate({"n": 1, "temperature": 0.0, "max_new_tokens": 12, "generator": generator})
        sample(config, policy=tiny, prompts=prompts, run=run)
        texts.append(read_table(run.out / "completions" / "train.parquet"))
    # vLLM leaves out the bytes of a character that the limit of tokens cuts through; we write one sign for them.
    ours, theirs = ([text.rstrip("\ufffd") for row in table for text in row["completions"]] for table in texts)
    assert ours == theirs
    assert [row["tokens"] for row in texts[0]] == [row["tokens"] for row in texts[1]]
    questions = [Question(({"role": "user", "content": f"thing {n}, A or B?"},)) for n in range(30)]
    questions += [Question(({"role": "user", "content": "which thing"},), "the answer is ")]
    readings = []
    for name, generator in (("c", None), ("d", GeneratorConfig(name="server", options=options))):
        judge = make_judge_model(tiny, JudgeModelOptions(), generator, make_run(tmp_path / f"read-{name}"))
        readings.append(judge.read(questions, ("A", "B")))
        judge.close()
    for one, other in zip(*readings, strict=True):
        assert one.logps == pytest.approx(other.logps, abs=1e-4), "among all tokens, not renormalised"


WORKER = """
import sys, json
from pathlib import Path
from alignflow.data.configs.generation import LabelConfig
from alignflow.data.run import Run, Runtime
from alignflow.models.judges.label import label
place, completions, policy, config = sys.argv[1:]
place = Path(place)
run = Run(out=place / "out", side=place / "side", work=place / "work", rows=place / "rows", runtime=Runtime())
label(LabelConfig.model_validate(json.loads(config)), completions=Path(completions), policy=Path(policy), run=run)
"""


@needs_vllm
def test_a_server_that_the_run_starts_leaves_with_it_also_after_kill_9(tiny, completions, tmp_path):
    port = free_port()
    config = label_config({"name": "server", "options": {"serve": {"port": port}, "concurrency": 1}})
    run = make_run(tmp_path / "served")
    command = [
        sys.executable,
        "-c",
        WORKER,
        str(tmp_path / "served"),
        str(completions),
        str(tiny),
        config.model_dump_json(),
    ]
    environment = {**os.environ, "A_SECRET_TOKEN": KEY}
    process = subprocess.Popen(command, env=environment)
    url = f"http://127.0.0.1:{port}/v1"

    def some_replies():
        assert process.poll() is None
        return sum(path.read_bytes().count(b"\n") for path in run.rows.glob(PATTERN)) > 10

    wait_for(some_replies, 400)
    (server, *_) = servers_at(url)
    variables = server.environ()
    assert KEY not in variables.values() and variables["VLLM_API_KEY"] not in " ".join(server.cmdline())
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/models")
    process.kill()
    process.wait()
    wait_for(lambda: not servers_at(url), 40)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert servers_at(url) == []
    ours = make_run(tmp_path / "transformers")
    label(label_config(), completions=completions, policy=tiny, run=ours)
    assert same_labels(labels_of(ours), labels_of(run), 1e-4)
    (told,) = json.loads((run.side / "usage.json").read_text())
    assert told["asked"] < 120 and told["judges_read"] == "log-probabilities"
    assert payload_files(run.out)
