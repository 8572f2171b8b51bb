"""A module of the package that the working directory cannot replace."""

import subprocess
import sys
from pathlib import Path

import alignflow

START = Path(alignflow.__file__).parent / "start.py"


def test_it_runs_a_module_of_its_own_package_although_another_one_is_first(tmp_path):
    fake = tmp_path / "alignflow"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise SystemExit('the other package')")
    done = subprocess.run(
        [sys.executable, str(START), "alignflow.tasks.keys.versions", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "--neutral" in done.stdout, done.stderr
