"""Predicts the requests of a run to endpoints and their cost at the given prices, before it runs. Sends no request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignflow.data import catalogue
from alignflow.data.binding import members_of, parsed_options
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig, LabelConfig, SampleConfig
from alignflow.data.configs.judges import AdditiveOptions, ChecklistOptions, ConstitutionalOptions, RatingOptions
from alignflow.data.configs.options import LLMJudgeOptions
from alignflow.data.configs.recipe import Recipe
from alignflow.data.configs.server import ServerOptions
from alignflow.data.estimate.tokens import rows_of
from alignflow.data.principle_files import read_principles
from alignflow.flows.calls import Step
from alignflow.flows.generators import server_options, servers_of, with_generators
from alignflow.flows.graph import nodes
from alignflow.flows.steps import Node
from alignflow.tasks.launch.runtime import resolve_runtime
from alignflow.tasks.store.artifact_store import ArtifactStore

_WORDS_OF_A_QUESTION = 150  # tokens of a judge's prompt without conversation and answers
_ALL_PAIRS_UP_TO = 4  # up to this many answers per prompt, every pair is judged; see models/judges/pairing.py
_MILLION = 1_000_000


@dataclass(frozen=True)
class Requests:
    """Requests of one kind that a role sends per prompt.

    Attributes:
        each: Number per prompt.
        asked_tokens: Most tokens of one question.
        answered_tokens: Most tokens of one reply.
    """

    each: int
    asked_tokens: int
    answered_tokens: int


@dataclass(frozen=True)
class Questions:
    """The requests of one role of a step.

    Attributes:
        what: Description, for one prompt.
        requests: Requests of each kind.
        prompts: Number of prompts; None: not known yet.
    """

    what: str
    requests: tuple[Requests, ...]
    prompts: int | None

    @property
    def each(self) -> int:
        """Requests per prompt."""
        return sum(kind.each for kind in self.requests)


def asked_lines(recipe: Recipe, steps: Sequence[Step], store: ArtifactStore, gpus: int | None = None) -> list[str]:
    """One line for each role of a step that will run and call an endpoint: requests, tokens, cost."""
    device = resolve_runtime(recipe.engine, visible=gpus).device
    states = {step.name: step for step in steps}
    statistics = _statistics(states.get("prepare"), store)
    lines = []
    for node in nodes(recipe):
        if states[node.name].state in ("run", "after"):
            config = with_generators(node.config, recipe.engine.generator, device)
            known = list(_roles(config, recipe, statistics))
            lines += [f"{node.name}: {_line(options, questions)}" for options, questions in known]
            lines += _unknown(node, config, [options for options, _ in known])
    return lines


def _unknown(node: Node, config: Any, known: Sequence[ServerOptions]) -> list[str]:
    """Lines for steps whose number of requests is unknown beforehand, such as a judge as a reward."""
    others = [options for _, options in servers_of(config, node.name) if options not in known]
    return [
        f"{node.name}: sends requests to {_who(options)} during the step; their number is not known"
        for options in others
    ]


def _roles(config: Any, recipe: Recipe, statistics: Mapping[str, Any]) -> Iterator[tuple[ServerOptions, Questions]]:
    if isinstance(config, SampleConfig) and (options := server_options(config.generator)):
        prompts = _at_most(_number(statistics, "prompts"), config.max_prompts)
        room = config.max_new_tokens + options.thinking_tokens
        requests = Requests(config.n, _prompt_tokens(recipe, statistics), room)
        yield options, Questions("completions", (requests,), prompts)
    elif isinstance(config, LabelConfig):
        for judge in members_of(config.judge):
            if options := server_options(judge.generator):
                yield options, _judged(judge, options, recipe, statistics)
    elif isinstance(config, EvaluateConfig):
        prompts = _at_most(_number(statistics, "evaluation"), config.max_prompts)
        tokens = _tokens_of_pair(recipe, statistics, config.max_new_tokens)
        for judge in filter(None, (config.labelling_judge, *config.judges)):
            for member in members_of(judge):
                if options := server_options(member.generator):
                    yield options, _questions(member, options, 2, prompts, tokens)


def _judged(judge: JudgeConfig, options: ServerOptions, recipe: Recipe, statistics: Mapping[str, Any]) -> Questions:
    """Answers to label: the recipe's own completions, or those that it samples."""
    sample = recipe.sample or SampleConfig()
    if recipe.data.completions or recipe.replace.sample:
        prompts, answers = _number(statistics, "completions"), 2
    else:
        prompts, answers = _at_most(_number(statistics, "prompts"), sample.max_prompts), sample.n
    return _questions(judge, options, answers, prompts, _tokens_of_pair(recipe, statistics, sample.max_new_tokens))


def _questions(judge: JudgeConfig, options: ServerOptions, answers: int, prompts: int | None, tokens: int) -> Questions:
    pointwise = judge.name in catalogue.JUDGES and catalogue.JUDGES[judge.name].pointwise
    pairs = answers * (answers - 1) // 2 if answers <= _ALL_PAIRS_UP_TO else 2 * answers
    times = options.samples if options.logprobs == "never" else 1
    sides = answers if pointwise else 2 * pairs
    what = [f"{answers} answers" if pointwise else f"{pairs} pairs in both orders"]
    room, verdict = options.thinking_tokens, (1 if times == 1 else 8) + options.thinking_tokens
    own = parsed_options(judge, "judge")
    requests = [Requests(sides * times, tokens, verdict)]
    if isinstance(own, AdditiveOptions):
        what, times = [*what, f"{own.samples} replies each"], 1
        requests = [Requests(sides * own.samples, tokens, own.max_new_tokens + room)]
    elif isinstance(own, ChecklistOptions):
        points = len(read_principles(own.points)) if own.points else own.max_points
        what.append(f"{points} points each" if own.points else f"a checklist of up to {points} points")
        written = [] if own.points else [Requests(1, tokens, own.max_new_tokens + room)]
        requests = [*written, Requests(sides * points * times, tokens, verdict)]
    elif isinstance(own, RatingOptions) and (aspects := len(read_principles(own.rubric))) > 1:
        what, requests = [*what, f"{aspects} aspects each"], [Requests(sides * aspects * times, tokens, verdict)]
    elif isinstance(own, LLMJudgeOptions):
        if isinstance(own, ConstitutionalOptions) and own.mode == "each":
            principles = len(read_principles(own.principles))
            what, sides = [*what, f"by each of {principles} principles"], sides * principles
        requests = [Requests(sides * times, tokens, verdict)]
        if own.rationale:
            what.append("a rationale before each verdict")
            first = Requests(sides, tokens, own.rationale_tokens + room)
            requests = [first, Requests(sides * times, tokens + own.rationale_tokens, verdict)]
    if times > 1:
        what.append(f"{times} samples each")
    return Questions(", ".join(what), tuple(requests), prompts)


def _line(options: ServerOptions, asked: Questions) -> str:
    who = _who(options)
    if asked.prompts is None:
        return f"{asked.each:,} requests to {who} for each prompt ({asked.what}); how many prompts there are is known once prepare has run"
    number = asked.each * asked.prompts
    given = asked.prompts * sum(kind.each * kind.asked_tokens for kind in asked.requests)
    got = asked.prompts * sum(kind.each * kind.answered_tokens for kind in asked.requests)
    line = f"about {number:,} requests to {who} ({asked.what}, {asked.prompts:,} prompts), at most about {given:,} tokens asked and {got:,} answered"
    if options.price_per_million_input is not None and options.price_per_million_output is not None:
        cost = (given * options.price_per_million_input + got * options.price_per_million_output) / _MILLION
        line += f": {cost:,.2f} {options.currency}"
        if options.max_cost is not None and cost > options.max_cost:
            line += f", which may reach max_cost {options.max_cost:g}"
    return line


def _who(options: ServerOptions) -> str:
    return options.model or "vLLM's server of the run"


def _statistics(prepared: Step | None, store: ArtifactStore) -> Mapping[str, Any]:
    """The statistics of `prepare`, if it has run."""
    if prepared is None or prepared.state != "cached":
        return {}
    found: dict[str, Any] = json.loads((store.directory(prepared.key) / "payload" / "statistics.json").read_text())
    return found


def _number(statistics: Mapping[str, Any], kind: str) -> int | None:
    return rows_of(statistics, kind, 0).number


def _at_most(number: int | None, limit: int | None) -> int | None:
    return number if limit is None or number is None else min(number, limit)


def _prompt_tokens(recipe: Recipe, statistics: Mapping[str, Any]) -> int:
    """Mean length of a prompt in tokens of the run's tokenizer, if known; else the maximum length."""
    lengths = statistics.get("tables", {}).get("prompts", {}).get("lengths", {})
    mean = next((found["mean"] for found in lengths.values() if found.get("mean")), None)
    return round(mean) if mean else recipe.data.max_prompt_length


def _tokens_of_pair(recipe: Recipe, statistics: Mapping[str, Any], longest: int) -> int:
    return _WORDS_OF_A_QUESTION + _prompt_tokens(recipe, statistics) + 2 * longest
