"""Prefect as it comes still has each fault that we work around. A test that fails here says which of our patches can go.

Then see the entry in alignflow/server/prefect_patches.py, take the patch out, and the test with it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import alignflow
from alignflow.server.prefect_patches import PATCHES

system = pytest.mark.system


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What Prefect does without our patches; see unpatched.py."""
    home = tmp_path_factory.mktemp("unpatched")
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_AUTH_STRING": "alignflow:s3cret",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "DO_NOT_TRACK": "1",
    }
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    script = Path(__file__).with_name("unpatched.py")
    done = subprocess.run(
        [sys.executable, script], env={**outer, **settings}, cwd=home, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((home / "found.json").read_text())


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.where)
def test_every_patch_says_where_it_is_where_it_is_reported_and_what_shows_it(patch):
    files = [place.partition(":")[0].strip() for place in patch.where.split(", ") if "/" in place]
    assert files and all((Path(alignflow.__file__).parent / file).is_file() for file in files)
    assert patch.upstream and patch.seen and callable(globals()[patch.test])


@system
def test_lists_are_asked_for_on_the_internet_first(found):
    assert any("raw.githubusercontent.com" in host for host in found["asked"])


@system
def test_a_paused_run_can_be_marked_crashed(found):
    assert found["paused"] == "CRASHED"


@system
def test_a_window_that_ended_during_an_outage_is_closed_at_once(found):
    assert found["windows"] == 0


@system
def test_a_transaction_that_reads_first_cannot_write(found):
    said, seconds = found["locked"]
    assert "database is locked" in said and seconds < 5, "at once, and not after the 60 s for which SQLite may wait"


@system
def test_a_template_without_the_variable_takes_an_environment(found):
    assert found["template"] == {"PYTHONPATH": "/bait"}


@system
def test_a_foreign_host_is_answered(found):
    assert found["foreign_host"] == 200


@system
def test_pages_name_a_service_elsewhere_and_no_policy_forbids_it(found):
    assert found["pages"] and found["policy"] is None


@system
def test_the_api_is_described_without_a_login(found):
    assert found["described"] == 200


@system
def test_wrong_logins_are_not_slowed_down(found):
    statuses, seconds = found["wrong"]
    assert statuses == [401] * 20 + [500] and seconds < 10


@system
def test_leases_are_kept_in_memory(found):
    assert found["leases"].endswith(".memory")


@system
def test_parameters_of_a_schedule_are_lost_when_it_is_switched(found):
    assert found["schedules"][0] == {}


@system
def test_registering_again_deletes_schedules(found):
    assert found["schedules"][1] == 0


@system
def test_a_worker_reads_what_its_runs_print_through_a_pipe(found):
    assert found["pipe"] is True


@system
def test_a_worker_turns_sigterm_into_sigint(found):
    assert found["signals"] == ["SIGINT"]
