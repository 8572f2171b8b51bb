"""How fast `prepare` is, and how much memory it takes, beside `datasets.map` with the same tokenizer and chat template.

`python benchmarks/prepare.py [--rows 100000] [--processes 2] [--rounds 1] [--tokenizer DIRECTORY]`: makes chats of about 150 tokens (some of
them equal or nearly equal to an earlier one; the same rows every time), then runs both in turn, each in a process of its own. `prepare`
parses, checks, cleans (near duplicates as well), splits and writes; `datasets.map` applies the chat template and tokenizes, and does nothing
else. Memory is the highest sum of the memory of a process and its children, where pages that several of them share count once (PSS). CPU
seconds hold all of these processes, so that other work on the machine counts as little as it can.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = 6000
EQUAL, NEARLY_EQUAL = 0.03, 0.04
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def main() -> int:
    """Time both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--tokenizer", help="directory of a tokenizer with a chat template; default: one is trained on the rows"
    )
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return one_side(arguments.one[0], Path(arguments.one[1]), arguments.processes)
    _adopt_orphans()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps({'messages': turns})}\n" for turns in chats(arguments.rows))
        if arguments.tokenizer:
            (folder / "tokenizer").symlink_to(Path(arguments.tokenizer).resolve())
        else:
            train_tokenizer(folder)
        found = [
            {side: measured(side, folder, arguments.processes) for side in ("alignflow", "datasets")}
            for _ in range(arguments.rounds)
        ]
        report(arguments.rows, found)
    return 0


def chats(rows: int) -> Iterator[list[dict[str, str]]]:
    """Conversations of one or two questions, of about 150 tokens; some are equal, or but for one word, to one of the last thousand."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choices(letters, range(26, 0, -1), k=draw.randint(2, 9))) for _ in range(WORDS)]
    shares = [1 / (place + 10) for place in range(WORDS)]
    sums = [sum(shares[: place + 1]) for place in range(WORDS)]
    last: list[list[dict[str, str]]] = []

    def sentence(low: int, high: int) -> str:
        return " ".join(draw.choices(words, cum_weights=sums, k=draw.randint(low, high))).capitalize()

    for _ in range(rows):
        kind = draw.random()
        if last and kind < EQUAL + NEARLY_EQUAL:
            turns = [dict(turn) for turn in draw.choice(last)]
            if kind >= EQUAL:
                turns[-1]["content"] += f" {draw.choice(words)}."
        else:
            turns = [{"role": "system", "content": "You are a helpful assistant."}] if draw.random() < 0.3 else []
            for _ in range(draw.randint(1, 2)):
                turns.append({"role": "user", "content": f"{sentence(5, 30)}?"})
                turns.append(
                    {
                        "role": "assistant",
                        "content": ". ".join(sentence(8, 25) for _ in range(draw.randint(1, 4))) + ".",
                    }
                )
        last = [*last[-999:], turns]
        yield turns


def train_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer of 8,192 tokens with ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator((turn["content"] for turns in chats(3000) for turn in turns), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", additional_special_tokens=special
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder / "tokenizer")


def one_side(side: str, folder: Path, processes: int) -> int:
    """Run one side in this process, and print what became of the rows."""
    if side == "alignflow":
        from alignflow.data.without_torch import leave_torch_out

        leave_torch_out()  # as the process of a stage does

        from alignflow.data.configs.inputs import PrepareConfig, SourceConfig
        from alignflow.data.prepare import prepare
        from alignflow.data.run import Run, Runtime

        places = {name: folder / "alignflow" / name for name in ("out", "side", "work", "rows")}
        for place in places.values():
            place.mkdir(parents=True)
        config = PrepareConfig(
            demonstrations=(SourceConfig(path=str(folder / "rows.jsonl")),), max_length=2048, max_prompt_length=1536
        )
        prepare(config, tokenizer=folder / "tokenizer", run=Run(**places, runtime=Runtime(threads=processes)))
    else:
        import datasets
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        rows = datasets.load_dataset(
            "json", data_files=str(folder / "rows.jsonl"), split="train", cache_dir=str(folder / "cache")
        )
        mapped = rows.map(
            lambda row: tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=True),
            num_proc=processes,
        )
        size = sum(map(len, mapped[:1000]["input_ids"])) / min(1000, len(mapped))
        print(f"mapped {len(mapped)} rows of {size:.0f} tokens on average")
    return 0


def measured(side: str, folder: Path, processes: int) -> dict[str, float]:
    """Wall and CPU seconds of one side in a process of its own, and the memory of this process and its children, MB."""
    for left in ("alignflow", "cache"):
        subprocess.run(["rm", "-rf", str(folder / left)], check=True)
    before, started = _cpu(), time.monotonic()
    command = [sys.executable, __file__, "--one", side, str(folder), "--processes", str(processes)]
    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
    }
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(child, peak), daemon=True)
    watcher.start()
    said, _ = child.communicate()
    watcher.join()
    _wait_for_orphans()
    if child.returncode:
        raise SystemExit(f"{side} failed")
    print(f"{side}: " + "; ".join(line for line in said.splitlines() if "kept" in line or "mapped" in line), flush=True)
    return {"wall": time.monotonic() - started, "cpu": _cpu() - before, "memory": peak[0] / 1e6}


def _adopt_orphans() -> None:
    """Become the parent of what a side leaves behind (Linux): the server from which alignflow's processes are forked ends after it."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _wait_for_orphans() -> None:
    """So that their CPU time is counted."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(child: subprocess.Popen[str], peak: list[int]) -> None:
    while child.poll() is None:
        peak[0] = max(peak[0], sum(map(_resident, _tree(child.pid))))
        time.sleep(0.5)


def _tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def _resident(process: int) -> int:
    """Bytes of a process's memory, and its share of those that it shares with others."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def report(rows: int, rounds: list[dict[str, dict[str, float]]]) -> None:
    """Print the table; a ratio is that of the median round."""
    median = {
        side: {name: statistics.median(found[side][name] for found in rounds) for name in ("wall", "cpu", "memory")}
        for side in rounds[0]
    }
    print(
        f"\n{rows:,} rows, {len(rounds)} rounds in turn\n\n| run | rows per second | rows per CPU second | peak memory, MB |\n| --- | ---: | ---: | ---: |"
    )
    for side, found in median.items():
        print(f"| {side} | {rows / found['wall']:,.0f} | {rows / found['cpu']:,.0f} | {found['memory']:,.0f} |")
    ours, theirs = median["alignflow"], median["datasets"]
    ratios = [f"{theirs[name] / ours[name]:.2f}" for name in ("wall", "cpu")]
    print(f"| ratio | {' | '.join(ratios)} | {ours['memory'] / theirs['memory']:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
