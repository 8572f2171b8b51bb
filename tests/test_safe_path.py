"""The module search path of every Python process that we start: never the working directory."""

import os
import subprocess
import sys

import pytest

from alignflow.safe_path import drop_empty_entries, given_path, python


def test_a_script_of_the_working_directory_is_not_imported(tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    done = subprocess.run(
        python("-c", "import json; print(json.dumps(1))"), cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_entries_are_absolute_and_empty_ones_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert given_path(f":/a{os.pathsep}b{os.pathsep}{os.pathsep}.") == os.pathsep.join(
        ["/a", f"{tmp_path}/b", str(tmp_path)]
    )
    assert given_path("") == ""


@pytest.mark.parametrize(("given", "stays"), [(":/mine", False), (".:/mine", True), ("/mine", True)])
def test_an_empty_entry_is_no_wish_for_the_working_directory(tmp_path, monkeypatch, given, stays):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", given)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/mine"])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    drop_empty_entries()
    assert (str(tmp_path) in sys.path) is stays and os.environ["PYTHONSAFEPATH"] == "1"
    assert "" not in os.environ["PYTHONPATH"].split(os.pathsep)
