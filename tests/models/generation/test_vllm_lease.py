"""Leases against the real host process with an engine that needs no vLLM (tests/fake_vllm_child.py); vLLM itself: test_vllm_generator.py."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from engine_support import engine_place
from waiting import wait_until

from alignflow.data.engine_hosts import end_idle_hosts
from alignflow.data.errors import ModelError
from alignflow.data.host import started
from alignflow.models.generation import vllm_lease
from alignflow.models.generation.vllm_lease import RUN, HostGoneError, HostPlan, Lease, run_process

FAKE = Path(__file__).parents[2] / "fake_vllm_child.py"
TESTS = Path(__file__).parents[2]


@pytest.fixture
def place(monkeypatch):
    monkeypatch.setattr(vllm_lease, "CHILD", FAKE)
    with engine_place() as directory:
        yield directory


def plan(name="host", idle_s=60.0, model="model", python=sys.executable):
    return HostPlan(name, Path(python), {}, lambda: Path(model), {"PATH": os.environ["PATH"], "ONLY": "1"}, idle_s)


def leased(ready=lambda lease, started: None, **settings):
    lease = Lease(plan(**settings), ready)
    lease.open()
    return lease


def ask(lease, seeds, **sampling):
    return [row["ids"][0] for row in lease.ask("generate", prompts=[[1]] * len(seeds), seeds=seeds, sampling=sampling)]


def other_process(code, **environment):
    """A second client in a process of its own: `code` has `leased`, `ask` and `os`."""
    text = f"import os, sys\nsys.path[:0] = [{str(TESTS)!r}, {str(Path(__file__).parent)!r}]\n"
    text += "import test_vllm_lease as t\nt.vllm_lease.CHILD = t.FAKE\nleased, ask = t.leased, t.ask\n" + code
    return subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def test_two_clients_share_one_process(place):
    first, second = leased(), leased()
    assert first.pid == second.pid and ask(first, [7, 8]) == [7, 8] and ask(second, [9]) == [9]


def test_a_client_in_another_process_shares_it_too(place):
    lease = leased()
    process = other_process("print(leased().pid)", **{RUN: str(os.getpid())})
    assert int(process.communicate(timeout=60)[0]) == lease.pid


def test_other_weights_or_settings_have_a_process_of_their_own(place):
    assert leased().pid != leased(name="other").pid


def test_requests_of_several_clients_are_answered_one_after_another_and_each_gets_its_own_answer(place):
    leases = [leased() for _ in range(4)]
    answers = {}

    def work(number):
        answers[number] = [ask(leases[number], [10 * number + turn], sleeps=0.01)[0] for turn in range(5)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {number: [10 * number + turn for turn in range(5)] for number in range(4)}


def test_the_process_gets_the_variables_of_its_plan_and_no_others(place, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = set(leased().ask("score", prompts=[], options=[]))
    assert {"PATH", "ONLY"} <= found and found <= {"PATH", "ONLY", "LC_CTYPE", "PWD", "SHLVL", "_"}


def test_a_process_is_checked_once_and_later_clients_are_told(place):
    checked = []

    def ready(lease, started):
        if "base" not in lease.verified:
            checked.append(started)
            lease.mark_verified("base")

    for _ in range(3):
        leased(ready)
    assert checked == [True]


def test_it_ends_when_nobody_came_for_a_while(place):
    lease = leased(idle_s=0.3)
    assert started(lease.pid)
    lease.close()
    wait_until(lambda: not started(lease.pid))
    assert not list(place.glob("*.sock"))
    assert "idle for 0.3 s" in lease.log.read_text()


def test_it_does_not_end_while_somebody_leases_it(place):
    lease, other = leased(idle_s=0.2), leased(idle_s=0.2)
    other.close()
    assert ask(lease, [1], sleeps=1.0) == [1] and started(lease.pid)


def test_it_ends_at_once_with_the_run_that_leased_it(place):
    process = other_process("print(leased().pid, flush=True)\nimport time; time.sleep(600)")
    pid = int(process.stdout.readline())
    assert started(pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not started(pid))


def test_it_ends_with_the_run_in_the_middle_of_a_request(place):
    process = other_process("lease = leased()\nprint(lease.pid, flush=True)\nask(lease, [1], sleeps=600)")
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not started(pid))


def test_it_outlives_a_stage_that_is_killed_while_its_run_lives(place):
    process = other_process("print(leased().pid, flush=True)\nimport time; time.sleep(600)", **{RUN: str(os.getpid())})
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert leased().pid == pid


def test_a_client_hears_that_the_process_was_killed_in_the_middle_of_a_request(place):
    lease = leased()
    threading.Timer(0.3, os.kill, (lease.pid, signal.SIGKILL)).start()
    with pytest.raises(HostGoneError):
        ask(lease, [1], sleeps=600)
    before = lease.pid
    lease.open()
    assert lease.pid != before and ask(lease, [2]) == [2]


def test_an_engine_that_failed_once_is_not_asked_again(place):
    lease = leased()
    with pytest.raises(HostGoneError):
        ask(lease, [1], dies=True)
    assert "poisoned" in lease.log.read_text()


def test_a_refused_request_leaves_the_process_as_it_is(place):
    lease = leased()
    with pytest.raises(ModelError, match="no such setting"):
        ask(lease, [1], refused=True)
    with pytest.raises(ModelError, match="no such operation"):
        lease.ask("_adapter")
    assert ask(lease, [3]) == [3]


def test_a_check_that_fails_leaves_a_process_that_the_next_client_checks_anew(place):
    def ready(lease, started):
        raise ModelError("wrong")

    with pytest.raises(ModelError, match="wrong"):
        leased(ready)
    assert "base" not in leased().verified


def test_a_process_that_does_not_start_is_one_error_with_the_end_of_its_log(place, monkeypatch):
    monkeypatch.setattr(vllm_lease, "look_into", lambda python: type("Found", (), {"error": ""}))
    with pytest.raises(ModelError, match="does not load the model .status 3.") as raised:
        leased(model="broken")
    assert "no such model" in raised.value.do


def test_a_broken_environment_is_told_from_a_model_that_does_not_load(place, monkeypatch):
    monkeypatch.setattr(vllm_lease, "look_into", lambda python: type("Found", (), {"error": "no vllm"}))
    with pytest.raises(ModelError, match="vLLM does not work there: no vllm"):
        leased(model="broken")


def test_idle_processes_end_when_their_memory_is_needed_and_used_ones_stay(place):
    used, idle = leased(), leased(name="idle")
    idle.close()
    wait_until(lambda: end_idle_hosts() == ["idle"] or not started(idle.pid))
    assert not started(idle.pid) and ask(used, [1]) == [1]


def test_a_new_process_takes_the_memory_of_idle_ones(place):
    idle = leased(name="idle")
    idle.close()
    wait_until(lambda: leased(name="new") and not started(idle.pid))


def test_the_run_is_the_process_that_the_supervisor_names(monkeypatch):
    monkeypatch.delenv(RUN, raising=False)
    assert run_process() == os.getpid()
    monkeypatch.setenv(RUN, "123")
    assert run_process() == 123
