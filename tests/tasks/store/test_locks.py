"""A lease has one holder at any time; who is taken for dead is replaced by one other and knows it.

Other hosts are simulated: a `Host` with another boot id, whose processes this host cannot ask about.
"""

import json
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignflow.data.host import Host, now_in, started
from alignflow.tasks.store.locks import OLD_KEPT, FileLocks, Leases, Periods, any_file_lock

QUICK = Periods(beat_s=0.1, expiry_s=1.0, poll_s=0.02)
OTHER = Host("other", "another boot", "pid:[1]")
FORK = multiprocessing.get_context("fork")


def leases(directory, host=None, periods=QUICK):
    return Leases(directory, periods, host)


def file_of(directory):
    """The file of the one lease in a directory."""
    return max(path for path in directory.glob("*.lease/*") if path.name.isdigit())


def grow_old(directory, seconds=60):
    """Set the last heartbeat back, as if the holder had been silent."""
    path = file_of(directory)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def hold_and_write(directory, log, times, host):
    locks = leases(directory, host)
    for _ in range(times):
        with locks.hold("key"), open(log, "a") as file:
            file.write(f"enter {os.getpid()}\n")
            file.flush()
            time.sleep(0.002)
            file.write(f"leave {os.getpid()}\n")


def hold_for_ever(directory, host, ready):
    with leases(directory, host).hold("key"):
        ready.set()
        time.sleep(600)


@pytest.fixture
def held_elsewhere(tmp_path):
    """Start a process that holds the lease, on a given host; returns it."""
    processes = []

    def start(host=None):
        ready = FORK.Event()
        process = FORK.Process(target=hold_for_ever, args=(tmp_path, host, ready))
        process.start()
        processes.append(process)
        assert ready.wait(20)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


def test_many_processes_of_two_hosts_hold_one_lease_one_at_a_time(tmp_path):
    log = tmp_path / "log"
    processes = [FORK.Process(target=hold_and_write, args=(tmp_path, log, 12, host)) for host in (None, OTHER) * 4]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == 2 * 8 * 12
    for enter, leave in zip(lines[::2], lines[1::2], strict=True):
        assert (enter[0], leave[0]) == ("enter", "leave") and enter[1] == leave[1]
    assert len(list(file_of(tmp_path).parent.glob("[0-9]*"))) <= OLD_KEPT + 1


def test_exactly_one_of_many_takes_over_a_stale_lease(tmp_path):
    assert leases(tmp_path, OTHER).try_hold("key")
    grow_old(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda _: leases(tmp_path).try_hold("key"), range(16)))
    assert sum(lease is not None for lease in taken) == 1


def test_a_given_back_lease_is_free_at_once_and_a_held_one_is_not(tmp_path):
    with leases(tmp_path, OTHER).hold("key"):
        assert leases(tmp_path).is_held("key") and leases(tmp_path).try_hold("key") is None
        assert not leases(tmp_path).is_held("another key")
    assert not leases(tmp_path).is_held("key") and leases(tmp_path).try_hold("key")


def test_a_heartbeat_keeps_a_lease_past_its_expiry(tmp_path):
    with leases(tmp_path, OTHER).hold("key") as held:
        time.sleep(1.5)
        assert leases(tmp_path).is_held("key") and not held.lost()


def test_a_killed_process_of_this_host_frees_its_lease_at_once(tmp_path, held_elsewhere):
    process = held_elsewhere()
    patient = leases(tmp_path, periods=Periods(beat_s=10, expiry_s=600, poll_s=0.02))
    assert patient.is_held("key")
    process.kill()
    process.join()
    assert not patient.is_held("key")
    with patient.hold("key"):
        pass


def test_a_killed_process_of_another_host_frees_its_lease_after_the_expiry_and_not_before(tmp_path, held_elsewhere):
    process = held_elsewhere(OTHER)
    process.kill()
    process.join()
    assert leases(tmp_path).is_held("key")
    begun = time.monotonic()
    with leases(tmp_path).hold("key"):
        assert 0.5 < time.monotonic() - begun < 10  # the last beat was at most 0.1 s before the kill


def test_a_number_that_another_process_has_now_is_not_taken_for_the_holder(tmp_path):
    lease = leases(tmp_path).try_hold("key")
    path = file_of(tmp_path)
    record = json.loads(path.read_text())
    assert record["started"] == started(os.getpid()) and lease
    path.write_text(json.dumps({**record, "started": "1"}) + "\n")
    assert not leases(tmp_path).is_held("key")


def test_a_stopped_holder_is_replaced_and_knows_it_when_it_goes_on(tmp_path):
    told, ready = FORK.Queue(), FORK.Event()

    def hold():
        with leases(tmp_path, OTHER).hold("key") as held:
            ready.set()
            while not held.lost():
                time.sleep(0.05)
            told.put("lost")

    process = FORK.Process(target=hold)
    process.start()
    assert ready.wait(20)
    os.kill(process.pid, signal.SIGSTOP)
    with leases(tmp_path).hold("key") as ours:  # waits for the expiry
        os.kill(process.pid, signal.SIGCONT)
        assert told.get(timeout=10) == "lost"
        process.join(10)
        assert not ours.lost() and leases(tmp_path, OTHER).is_held("key")  # what the other one gives back is not ours


def test_a_number_that_was_given_and_tidied_away_makes_nobody_a_holder(tmp_path):
    late = leases(tmp_path)
    newest = None
    for _ in range(OLD_KEPT + 3):
        if newest:
            newest.give_back()
        newest = leases(tmp_path, OTHER).try_hold("key")
    place = file_of(tmp_path).parent
    assert not (place / f"{1:012d}").exists()
    assert late._create(place, 1) is None and not newest.lost() and not (place / f"{1:012d}").exists()


ACTS = st.lists(
    st.tuples(st.sampled_from(["take", "give back", "beat", "silence", "crash"]), st.integers(0, 2)), max_size=25
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_whatever_happens_at_most_one_lease_is_not_lost(tmp_path_factory, acts):
    directory = tmp_path_factory.mktemp("locks")
    hosts = [leases(directory, Host(f"host{number}", f"boot {number}", "")) for number in range(3)]
    held = {}
    for act, host in acts:
        if act == "take" and host not in held and (lease := hosts[host].try_hold("key")):
            held[host] = lease
        elif act == "give back" and host in held:
            held.pop(host).give_back()
        elif act == "beat" and host in held:
            held[host].beat()
        elif act == "silence" and list(directory.glob("*.lease/*")):
            grow_old(directory)
        elif act == "crash":
            held.pop(host, None)
        live = [number for number, lease in held.items() if not lease.lost()]
        assert len(live) <= 1
        for number in live:  # and nobody else gets in while its heart beats
            held[number].beat()
            assert all(other.try_hold("key") is None for other in hosts)


def test_ages_are_measured_by_the_clock_of_the_folder(tmp_path):
    before = tmp_path / "before"
    before.write_text("")
    assert 0 <= now_in(tmp_path) - before.stat().st_mtime < 10 and [path.name for path in tmp_path.iterdir()] == [
        "before"
    ]


def test_the_kernels_lock_is_seen_while_it_is_held(tmp_path):
    locks = FileLocks(tmp_path)
    with locks.hold("key") as held:
        assert locks.is_held("key") and any_file_lock(tmp_path) and not held.lost()
    assert not locks.is_held("key") and not any_file_lock(tmp_path)
