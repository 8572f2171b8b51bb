"""Rows judged and tokens sampled per second: our engine beside a plain batched forward pass and `transformers.generate`.

    python benchmarks/generation_throughput.py MODEL PAIRS PROMPTS [--engine transformers] [--rounds 3] [--precision fp32]

PAIRS and PROMPTS are Parquet tables; of PAIRS the columns prompt and response_a/response_b or chosen/rejected are read, of PROMPTS prompt
alone. Pairs are asked in both orders with the shipped prompt of the LLM judge. All sides get the same token ids, and take turns within
each round, in one process. Plain judging pads at the left and takes rows as they come; `plain, sorted` sorts them by length, and `last
logits` leaves the head out but for the last token. A sampler's speed is in tokens of answers up to where they end: what a batch computes
beyond that is no answer. Seconds are CPU seconds of the process, unless `--clock wall`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas
import torch
from transformers import AutoModelForCausalLM

from alignflow.data.configs.generators import GeneratorConfig
from alignflow.data.records import user
from alignflow.data.rendering import encode_prompt
from alignflow.data.run import Runtime
from alignflow.models.generation.base import Sampling, make_generator
from alignflow.models.generation.decoding import pad_left
from alignflow.models.generation.transformers_generator import DTYPES, stop_ids
from alignflow.models.judges.fences import fence_of
from alignflow.models.judges.judge_model import opening_tokens
from alignflow.models.judges.questions import parse_question, read_question

BATCHES = (1, 16, 64)
EVERY = {1: 8}  # one prompt at a time takes long, and its speed does not depend on the others: every eighth is enough
OPTIONS = ("A", "B")
CPU = torch.device("cpu")


def conversation(value: Any) -> list[dict[str, str]]:
    """A prompt of a table as messages."""
    if isinstance(value, str):
        return user(value)
    return [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in value]


def encoded(tokenizer: Any, prompt: Any) -> list[int]:
    """Token ids of a prompt: by the chat template, or as plain text for a base model without one."""
    turns = conversation(prompt)
    if tokenizer.chat_template is None:
        return list(tokenizer.encode("\n".join(turn["content"] for turn in turns)))
    return list(encode_prompt(tokenizer, turns))


def questions(path: Path, count: int, tokenizer: Any, longest: int) -> tuple[list[list[int]], int]:
    """Token ids of both orders of the first pairs of a table, up to where the options part; and how many pairs were too long."""
    template, made, dropped = parse_question(read_question("pairwise"), "pairwise"), [], 0
    shared, _ = opening_tokens(tokenizer, OPTIONS)
    for row in pandas.read_parquet(path).head(count).to_dict("records"):
        prompt = conversation(row["prompt"])
        pair = [row[name] for name in (("response_a", "response_b") if "response_a" in row else ("chosen", "rejected"))]
        texts = [text if isinstance(text, str) else text[-1]["content"] for text in pair]
        fence = fence_of("benchmark", prompt, *texts)
        asked = []
        for first, second in (texts, texts[::-1]):
            text = template.render(conversation=prompt, first=first, second=second, options=OPTIONS, fence=fence)
            asked.append([*encode_prompt(tokenizer, user(text.strip())), *shared])
        if max(map(len, asked)) > longest:
            dropped += 1
        else:
            made += asked
    return made, dropped


class Plain:
    """The model as transformers has it."""

    def __init__(self, path: Path, precision: str):
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=DTYPES[precision]).eval()

    @torch.inference_mode()
    def judge(self, asked: Sequence[Sequence[int]], options: Sequence[int], size: int, last: bool) -> list[list[float]]:
        """Log-probabilities of the options from padded batches."""
        found: list[list[float]] = []
        kept = {"logits_to_keep": 1} if last else {}
        for start in range(0, len(asked), size):
            ids, mask = pad_left(asked[start : start + size], CPU)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            output = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, **kept)
            found += torch.log_softmax(output.logits[:, -1].float(), -1)[:, list(options)].tolist()
        return found

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling, stop: list[int], size: int) -> int:
        """Tokens of the answers that `generate` gives, each up to its stop token."""
        torch.manual_seed(0)
        total = 0
        for start in range(0, len(prompts), size):
            ids, mask = pad_left(prompts[start : start + size], CPU)
            made = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=stop,
                pad_token_id=stop[0],
            )[:, ids.shape[1] :]
            for row in torch.isin(made, torch.tensor(stop)).tolist():
                total += row.index(True) + 1 if True in row else len(row)
        return total


def in_turn(
    sides: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each side in each round, and what each gave last; the order turns from round to round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    given: dict[str, Any] = {}
    for number in range(rounds):
        for name in list(sides)[number % len(sides) :] + list(sides)[: number % len(sides)]:
            start = clock()
            given[name] = sides[name]()
            seconds[name].append(clock() - start)
            print(f"  round {number + 1}: {name} {seconds[name][-1]:.1f} s", flush=True)
    return seconds, given


def table(title: str, seconds: dict[str, list[float]], work: dict[str, float]) -> str:
    """Speeds, and the ratio of the first side to each: medians of the rounds, with the lowest and highest."""
    lines = [f"| {title} | per second | ours is faster by |", "| --- | ---: | ---: |"]
    first = next(iter(seconds))
    speeds = {name: [work[name] / second for second in found] for name, found in seconds.items()}
    for name, found in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds[first], found, strict=True)]
        ratio = "" if name == first else f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}) | {ratio} |")
    return "\n".join(lines)


def judging(generator: Any, plain: Plain, given: argparse.Namespace, clock: Callable[[], float]) -> None:
    """Our engine's judging beside plain batches."""
    asked, dropped = questions(given.pairs, given.rows, generator.tokenizer, given.longest)
    _, options = opening_tokens(generator.tokenizer, OPTIONS)
    in_order = sorted(asked, key=len)
    sides: dict[str, Callable[[], Any]] = {
        f"ours ({given.engine})": lambda: generator.score_options(asked, options),
        **{f"plain, {size} at a time": lambda s=size: plain.judge(asked, options, s, False) for size in given.batches},
        **{
            f"plain, sorted, last logits, {size} at a time": lambda s=size: plain.judge(in_order, options, s, True)
            for size in given.batches
        },
    }
    generator.score_options(asked[:2], options)
    seconds, found = in_turn(sides, given.rounds, clock)
    ours, theirs = list(found.values())[:2]
    apart = max(abs(a - b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True))
    print(
        f"\n{len(asked)} questions of {min(map(len, asked))} to {max(map(len, asked))} tokens, mean {sum(map(len, asked)) / len(asked):.0f};"
    )
    print(
        f"{dropped} pairs over {given.longest} tokens left out; largest difference of a log-probability: {apart:.1e}\n"
    )
    print(table("questions judged", seconds, dict.fromkeys(sides, float(len(asked)))), "\n", flush=True)


def sampling(generator: Any, plain: Plain, given: argparse.Namespace, clock: Callable[[], float]) -> None:
    """Our engine's sampling beside `generate`."""
    texts = pandas.read_parquet(given.prompts)["prompt"].drop_duplicates() if given.prompts else []
    every = [encoded(generator.tokenizer, text) for text in texts]
    chosen = [ids for ids in every if len(ids) <= given.longest_prompt][: given.sampled]
    prompts = [ids for ids in sorted(chosen, key=len) for _ in range(given.n)]
    wanted = Sampling(given.max_new_tokens, top_p=given.top_p)
    stop = stop_ids(generator.tokenizer, plain.model.generation_config)
    sides: dict[str, Callable[[], Any]] = {
        f"ours ({given.engine})": lambda: sum(
            made.tokens for made in generator.generate(prompts, wanted, range(len(prompts)))
        ),
        **{
            f"generate, {size} at a time": lambda s=size: plain.sample(prompts, wanted, stop, s)
            for size in given.batches
        },
    }
    seconds, made = in_turn(sides, given.rounds, clock)
    print(
        f"\n{len(chosen)} prompts of {min(map(len, chosen))} to {max(map(len, chosen))} tokens, {given.n} answers each,"
    )
    print(
        f"at most {wanted.max_new_tokens} tokens; in all {', '.join(f'{count} ({name})' for name, count in made.items())}\n"
    )
    print(table("tokens sampled", seconds, {name: float(count) for name, count in made.items()}), "\n", flush=True)


def parse_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--engine", default="transformers")
    parser.add_argument("--precision", choices=sorted(DTYPES), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=32, help="pairs to judge")
    parser.add_argument("--longest", type=int, default=2048, help="tokens of a question")
    parser.add_argument("--sampled", type=int, default=64, help="prompts to sample from; 0: none")
    parser.add_argument("--longest-prompt", type=int, default=256)
    parser.add_argument("--n", type=int, default=1, help="answers for each prompt")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=["cpu", "wall"], default="cpu", help="wall where the engine is another process"
    )
    return parser.parse_args()


def main() -> None:
    """Measure and print tables."""
    given = parse_arguments()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    runtime, plain = Runtime(precision=given.precision, threads=given.threads), Plain(given.model, given.precision)
    with closing(make_generator(given.model, runtime, GeneratorConfig(name=given.engine))) as generator:
        if given.rows:
            judging(generator, plain, given, clock)
        if given.sampled:
            sampling(generator, plain, given, clock)


if __name__ == "__main__":
    main()
