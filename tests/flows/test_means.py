"""What a walk needs from outside: a plain call does it without Prefect."""

import subprocess
import sys

from alignflow.flows.means import in_flow, means


def test_outside_of_a_flow_nobody_can_be_asked_and_nothing_begins_again():
    found = means()
    assert found.ask(None, None) is None and found.begun() == "" and not in_flow()


def test_to_find_that_out_prefect_is_not_imported():
    code = "import sys; from alignflow.flows.means import means; means(); sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
