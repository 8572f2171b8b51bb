"""A server that the run starts: waited for, watched, and gone with the process; a stand-in takes vLLM's place."""

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from alignflow.data.configs.server import ServeOptions
from alignflow.data.errors import ModelError, RecipeError, UserError
from alignflow.models.generation.server_process import (
    ServerProcess,
    dated_template,
    local_directory,
    server_environment,
)

FAKE = """#!{python}
import http.server, os, signal, subprocess, sys, time
if os.path.exists({place!r} + "/refuse"):
    print("no such model, and the key is " + os.environ["VLLM_API_KEY"])
    sys.exit(3)
open({place!r} + "/arguments", "w").write(" ".join(sys.argv))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({place!r} + "/pids", "a").write(f"{{os.getpid()}} {{child.pid}} ")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """An interpreter that takes vLLM's place; returns the folder of what it leaves."""
    place = tmp_path / "fake"
    place.mkdir()
    python = place / "python"
    python.write_text(FAKE.format(python=sys.executable, place=str(place)))
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("ALIGNFLOW_VLLM_PYTHON", str(python))
    return place


def pids(place):
    return [int(text) for text in (place / "pids").read_text().split()]


def lives(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def alive(numbers):
    return [each for each in numbers if lives(each)]


def gone(numbers, seconds=20):
    end = time.monotonic() + seconds
    while alive(numbers):
        assert time.monotonic() < end, "it outlived the process that started it"
        time.sleep(0.05)
    return True


def test_it_answers_and_is_ended_with_its_children(fake, run):
    server = ServerProcess(run.out, ServeOptions(), run)
    assert len(alive(pids(fake))) == 2 and not server.ended
    server.close()
    assert gone(pids(fake))
    arguments = (fake / "arguments").read_text()
    assert server.key not in arguments and "--host 127.0.0.1" in arguments and "--dtype float32" in arguments


def test_one_that_ended_is_started_again_three_times_at_most(fake, run):
    server = ServerProcess(run.out, ServeOptions(), run)
    for _ in range(3):
        psutil.Process(pids(fake)[-2]).kill()
        while not server.ended:
            time.sleep(0.02)
        server.revive()
        assert not server.ended
    psutil.Process(pids(fake)[-2]).kill()
    while not server.ended:
        time.sleep(0.02)
    with pytest.raises(ModelError, match="ended 4 times"):
        server.revive()
    assert gone(pids(fake)) and sum("started again" in note for note in run.notes) == 3


def test_one_that_never_answers_says_why_without_its_key(fake, run):
    (fake / "refuse").touch()
    with pytest.raises(ModelError, match="ended with status 3 before it answered") as error:
        ServerProcess(run.out, ServeOptions(), run)
    assert "no such model, and the key is ***" in error.value.do


def test_a_start_that_takes_too_long_is_ended(fake, run, monkeypatch):
    monkeypatch.setattr(ServerProcess, "_is_healthy", lambda self: False)
    with pytest.raises(ModelError, match="did not answer within 1 s"):
        ServerProcess(run.out, ServeOptions(start_timeout_s=1.0), run)
    assert gone(pids(fake) if (fake / "pids").exists() else [])


STARTER = """
import sys, time
from pathlib import Path
from alignflow.data.configs.server import ServeOptions
from alignflow.data.run import Run, Runtime
from alignflow.models.generation.server_process import ServerProcess
place = Path(sys.argv[1])
run = Run(out=place, side=place, work=place, rows=place, runtime=Runtime())
ServerProcess(place, ServeOptions(), run)
print("answers", flush=True)
time.sleep(600)
"""


def test_kill_9_of_the_process_that_started_it_leaves_no_orphan(fake, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    while process.stdout.readline().strip() != "answers":
        assert process.poll() is None
    assert len(alive(pids(fake))) == 2
    process.kill()
    process.wait()
    assert gone(pids(fake))


def test_a_port_that_is_taken_is_said_before_anything_starts(fake, run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RecipeError, match="cannot be used"):
            ServerProcess(run.out, ServeOptions(port=taken.getsockname()[1]), run)
    assert not (fake / "pids").exists()


def test_without_vllm_it_says_how_to_get_it(run, monkeypatch, tmp_path):
    monkeypatch.setenv("ALIGNFLOW_VLLM_PYTHON", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="vLLM is not installed"):
        ServerProcess(run.out, ServeOptions(), run)


def test_its_environment_has_no_secret_of_the_stage(run):
    given = {
        **os.environ,
        "OPENAI_API_KEY": "sk",
        "HF_TOKEN": "hf",
        "https_proxy": "http://p",
        "CUDA_VISIBLE_DEVICES": "",
    }
    found = server_environment(given, run, ServeOptions(kv_cache_gib=2), "its own")
    assert not {"OPENAI_API_KEY", "HF_TOKEN", "https_proxy"} & found.keys()
    assert (found["VLLM_API_KEY"], found["VLLM_CPU_KVCACHE_SPACE"], found["OMP_NUM_THREADS"]) == ("its own", "2", "1")


def test_an_adapter_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="is an adapter"):
        local_directory(tmp_path)


def test_a_template_that_writes_todays_date_gets_a_fixed_one(tmp_path, run):
    assert dated_template(tmp_path, run) == []
    (tmp_path / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}")
    option, path = dated_template(tmp_path, run)
    assert option == "--chat-template" and "01 Jan 2025" in Path(path).read_text()
    assert any("2025-01-01 is used instead" in warning for warning in run.warnings)
