"""`alignflow check-losses`: a line per case, exit 1 on a miss, and torch is loaded by this command alone."""

import json
import subprocess
import sys

from cli_support import alignflow

CASE = {
    "name": "gae/x",
    "function": "gae",
    "inputs": {"rewards": [[1.0]], "values": [[0.0]], "mask": [[1]]},
    "kwargs": {},
    "expected": {"advantages": [[1.0]]},
}


def run(repository, tmp_path, cases, *more):
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": cases}))
    done = alignflow("check-losses", path, *more, cwd=repository)
    return done.returncode, done.stdout


def test_a_line_per_case_and_a_status(repository, tmp_path):
    wrong, unknown = (
        {**CASE, "name": "gae/y", "expected": {"advantages": [[2.0]]}},
        {**CASE, "name": "no_such_loss/z", "function": "no_such_loss"},
    )
    status, output = run(repository, tmp_path, [CASE, wrong, unknown])
    assert status == 1
    assert "ok   gae/x" in output and "MISS gae/y" in output and "--   no_such_loss/z  not here" in output
    assert "1 pass, 1 miss, 1 not here" in output


def test_what_is_not_here_fails_only_where_it_is_asked_to(repository, tmp_path):
    unknown = {**CASE, "function": "no_such_loss"}
    assert run(repository, tmp_path, [CASE, unknown])[0] == 0
    assert run(repository, tmp_path, [CASE, unknown], "--strict")[0] == 1


def test_the_other_commands_start_without_torch(repository):
    code = "import sys, alignflow.cli.app; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0
