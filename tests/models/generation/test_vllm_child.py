"""What can be said of vLLM's process without vLLM; its leases: test_vllm_lease.py, its answers: test_vllm_generator.py."""

import ast
import subprocess
import sys

from alignflow.models.generation.vllm_lease import CHILD

ALLOWED = {"vllm", "safetensors"}  # what vLLM's environment has beside the standard library


def test_it_needs_nothing_but_the_standard_library_and_vllms_environment():
    imported = set()
    for node in ast.walk(ast.parse(CHILD.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert not imported - ALLOWED - set(sys.stdlib_module_names)


def test_its_requests_have_no_setting_that_vllm_ignores_in_silence():
    assert "guided" not in CHILD.read_text() + CHILD.with_name("vllm_generator.py").read_text()


def test_it_is_found_by_path_and_reads_its_settings_from_a_pipe():
    done = subprocess.run([sys.executable, "-I", str(CHILD)], input="{}", capture_output=True, text=True)
    assert done.returncode == 1 and "KeyError: 'socket'" in done.stderr
