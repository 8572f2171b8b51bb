"""The real host of `vllm_child.py` with an engine that needs no vLLM: run by path, as that is, by any interpreter.

`generate` gives the seeds back, slowly where `sampling` says so, or dies; `score` gives the process's variables.
"""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

PLACE = Path(__file__).parents[1] / "alignflow" / "models" / "generation" / "vllm_child.py"
spec = importlib.util.spec_from_file_location("child", PLACE)
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)


class FakeEngine:
    version = "0"

    def __init__(self, settings):
        if settings["model"].endswith("broken"):
            print("no such model", file=sys.stderr)
            sys.exit(3)

    def generate(self, request):
        if request["sampling"].get("refused"):
            raise ValueError("no such setting")
        if request["sampling"].get("dies"):
            raise RuntimeError("poisoned")
        time.sleep(request["sampling"].get("sleeps", 0))
        return [{"ids": [seed], "ended": False, "logps": None} for seed in request["seeds"]]

    def score(self, request):
        return sorted(os.environ)


if __name__ == "__main__":
    settings = json.load(sys.stdin)
    host = child.Host(settings["socket"], settings["idle_s"], settings["run"])
    host.serve(FakeEngine(settings["engine"]))
