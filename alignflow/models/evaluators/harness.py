"""The lm-evaluation-harness on our policy: its tasks, our forward pass and our decoding. Needs the extra `lm-eval`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval import evaluator, utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import metric_registry
from lm_eval.tasks import TaskManager

from alignflow.data.configs.lm_eval import LmEvalConfig
from alignflow.data.errors import AlignflowError, DataError, UserError, cut
from alignflow.data.run import Run
from alignflow.models.batching import EncodedRow, row_micro_batches
from alignflow.models.evaluators.harness_tasks import Local, local_tasks
from alignflow.models.generation.base import Sampling, row_seed
from alignflow.models.generation.transformers_generator import TransformersGenerator
from alignflow.models.policy import Policy

WHERE = "evaluate.lm_eval"
NEW_TOKENS = 256
"""Most tokens of an answer if the task sets no limit; the harness' default."""
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""The harness' names for this limit; the first one counts."""
NO_LIMIT = 1 << 30
BOOTSTRAP = 1000
"""Resamples for the errors of metrics that are not means."""


class PolicyLM(TemplateLM):
    """A policy behind the harness' interface.

    Args:
        policy: The model.
        run: Progress, and the tokens of one forward pass.
        batch_size: Requests in one call of the model.
        seed: Seed of sampled answers.

    Attributes:
        cut: How many requests did not fit into the context and lost tokens from their beginning.
        lowered: How many answers had a smaller limit than their task sets, because the context is short.
    """

    backend = "causal"

    def __init__(self, policy: Policy, run: Run, batch_size: int, seed: int):
        super().__init__()
        self._policy, self._run, self._batch_size, self._seed = policy, run, batch_size, seed
        self.tokenizer = policy.tokenizer
        self.max_length = getattr(policy.model.config, "max_position_embeddings", None) or NO_LIMIT
        bos = self.tokenizer.bos_token_id
        self._adds_bos = bos is not None and self.tokenizer.encode("a", add_special_tokens=True)[:1] == [bos]
        self.cut, self.lowered = 0, 0

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text, and precedes a text without a context."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without a context: BOS, or EOS if there is none."""
        return int(self.eot_token_id if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id)

    @property
    def tokenizer_name(self) -> str:
        """Names the template in the harness' cache of requests, which is not used."""
        return type(self.tokenizer).__name__

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of a text, with BOS before it if the tokenizer adds it.

        Control tokens that a chat template writes are encoded as control tokens, and no second BOS is added.

        Args:
            string: The text.
            add_special_tokens: False: without BOS, because the text continues another one.
        """
        ids: list[int] = self.tokenizer.encode(string, add_special_tokens=False)
        begins = add_special_tokens is not False and self._adds_bos and not string.startswith(self.tokenizer.bos_token)
        return [int(self.tokenizer.bos_token_id), *ids] if begins else ids

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation, rendered by the chat template."""
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any) -> list[Any]:
        for texts, _context, ids in requests:
            if texts and texts[0] and not ids:
                _refuse_empty(*texts)
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
        asked = [index for index, row in enumerate(rows) if row.completion_ids]
        done = 0
        for batch in self._batches(asked):
            for index, answer in zip(batch, self._score([rows[index] for index in batch]), strict=True):
                found[index] = answer
            done += len(batch)
            self._run.progress(done, len(asked), "requests")
        return found

    def _row(self, context: Sequence[int], continuation: Sequence[int]) -> EncodedRow:
        """The end of both that fits into the context; at least one token precedes the scored ones."""
        context = context or [self.prefix_token_id]  # only spaces, which the harness moves to the continuation
        room = self.max_length - len(continuation)
        if len(context) > room:
            self.cut += 1
        return EncodedRow(tuple(context[-max(room, 1) :]), tuple(continuation[-(self.max_length - 1) :]))

    @torch.no_grad()
    def _score(self, rows: Sequence[EncodedRow]) -> list[tuple[float, bool]]:
        """Sum of the log-probabilities of each completion, and whether each of its tokens is the most probable one."""
        found: list[tuple[float, bool]] = [(0.0, False)] * len(rows)
        for batch in row_micro_batches(rows, self._run.runtime.micro_batch_tokens):
            some = [rows[index] for index in batch]
            statistics = self._policy.token_statistics(some, ("logps", "top_ids"), top_k=1)
            targets = torch.tensor([token for row in some for token in row.completion_ids])
            greedy = statistics.values["top_ids"][:, 0].cpu() == targets
            counts = [len(row.completion_ids) for row in some]
            parts = zip(statistics.logps.cpu().split(counts), greedy.split(counts), strict=True)
            for index, (logps, likeliest) in zip(batch, parts, strict=True):
                found[index] = (float(logps.sum()), bool(likeliest.all()))
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts; a long one is split into windows that each predict new tokens."""
        totals = []
        for request in requests:
            windows = [
                (None, *utils.make_disjoint_window(pair))
                for pair in utils.get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0], add_special_tokens=False),  # the window has BOS
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length - 1,
                    context_len=1,
                )
            ]
            totals.append(sum(logp for logp, _ in self._loglikelihood_tokens(windows)))
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers, cut before the first of the task's stop texts; greedy unless the task samples."""
        generator: Any = TransformersGenerator.around(self._policy.model, self.tokenizer, self._run.runtime)
        answers = [""] * len(requests)
        kinds: dict[Sampling, list[int]] = {}
        for index, request in enumerate(requests):
            sampling = _sampling(request.args[1], self.max_length)
            self.lowered += sampling.max_new_tokens < _wanted(request.args[1])
            kinds.setdefault(sampling, []).append(index)
        done = 0
        for sampling, indices in kinds.items():
            for batch in self._batches(indices):
                prompts = [self._prompt(requests[index].args[0], sampling.max_new_tokens) for index in batch]
                seeds = [row_seed(self._seed, requests[index].args[0], index) for index in batch]
                made = generator.generate(prompts, sampling, seeds)
                for index, answer in zip(batch, made, strict=True):
                    text = self.tokenizer.decode(answer.ids, skip_special_tokens=True)
                    answers[index] = _until(text, requests[index].args[1].get("until"))
                done += len(batch)
                self._run.progress(done, len(requests), "answers")
        return answers

    def _prompt(self, text: str, new_tokens: int) -> list[int]:
        ids = self.tok_encode(text) or [self.prefix_token_id]
        room = max(self.max_length - new_tokens, 1)
        if len(ids) > room:
            self.cut += 1
        return ids[-room:]

    def _batches(self, indices: Sequence[int]) -> Iterator[Sequence[int]]:
        for start in range(0, len(indices), self._batch_size):
            yield indices[start : start + self._batch_size]


def _refuse_empty(context: str, answer: str) -> None:
    raise DataError(
        f"the answer {cut(repr(answer))} adds no token after {repr(context[-80:])}, so it has no likelihood",
        where=f"{WHERE}.tasks",
        do="correct the task: an answer must not be empty, and must not merge with the last token of its question",
    )


def _sampling(arguments: dict[str, Any], context: int) -> Sampling:
    """A task's settings for answers, with at most half of the context."""
    by_chance = arguments.get("do_sample") and arguments.get("temperature", 1.0) > 0
    return Sampling(
        max_new_tokens=max(1, min(_wanted(arguments), context // 2)),
        temperature=float(arguments.get("temperature", 1.0)) if by_chance else 0.0,
        top_p=float(arguments.get("top_p", 1.0)) if by_chance else 1.0,
        top_k=int(arguments.get("top_k", 0)) if by_chance else 0,
    )


def _wanted(arguments: dict[str, Any]) -> int:
    """Most tokens of an answer in a task."""
    return next((int(arguments[name]) for name in LIMITS if arguments.get(name)), NEW_TOKENS)


def _until(text: str, stops: str | Sequence[str] | None) -> str:
    for stop in [stops] if isinstance(stops, str) else stops or ():
        if stop:
            text = text.split(stop, 1)[0]
    return text


def run_tasks(config: LmEvalConfig, model: PolicyLM, seed: int) -> dict[str, Any]:
    """The harness' results for a model, in its format: `results`, `n-samples`, `higher_is_better`, `group_subtasks`.

    The subtasks also include those of tags, which the harness does not report.

    Raises:
        UserError: a task does not exist, or has code that the recipe does not allow.
        AlignflowError: the harness refused a task or could not load its data.
    """
    directory = Path(config.include_path).absolute() if config.include_path else None
    metrics = set() if config.allow_code else set(metric_registry.keys())  # all others are loaded with code
    local = local_tasks(directory, metrics) if directory else Local(frozenset(), frozenset())
    os.environ["DISABLE_MULTIPROC"] = "1"  # the harness' resampling must start no processes
    with contextlib.chdir(directory or "."), _sandbox(on=directory is not None and not config.allow_code):
        manager = TaskManager(
            include_path=directory, include_defaults=not {*config.tasks, *local.members} <= local.names
        )
        for name in config.tasks:
            if name not in manager.all_tasks:
                raise UserError(
                    f"the harness has no task {name!r}",
                    where=f"{WHERE}.tasks",
                    do="see `lm_eval ls tasks` for its tasks; set include_path to add yours",
                )
        try:
            found = evaluator.simple_evaluate(
                model=model,
                tasks=list(config.tasks),
                num_fewshot=config.num_fewshot,
                limit=config.limit,
                batch_size=config.batch_size,
                bootstrap_iters=BOOTSTRAP,
                log_samples=False,
                apply_chat_template=config.chat_template,
                task_manager=manager,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
        except AlignflowError:
            raise
        except Exception as error:
            raise AlignflowError(
                f"the harness failed: {cut(' '.join(f'{type(error).__name__}: {error}'.split()))}",
                where=f"{WHERE}.tasks: {', '.join(config.tasks)}",
                do="the log of the stage has the traceback; check the task's data, which may have to be loaded from the Hub",
            ) from error
    tags = {name: sorted(manager.task_index[name].tags) for name in config.tasks if name in manager.all_tags}
    return {**found, "group_subtasks": {**found["group_subtasks"], **tags}}


@contextlib.contextmanager
def _sandbox(on: bool) -> Iterator[None]:
    """Make the harness render task templates in a sandbox: otherwise they can run code."""
    if not on:
        yield
        return
    free = utils.env
    boxed = ImmutableSandboxedEnvironment(
        loader=free.loader, undefined=free.undefined, keep_trailing_newline=free.keep_trailing_newline
    )
    boxed.filters.update(free.filters)
    utils.env = boxed
    try:
        yield
    finally:
        utils.env = free
