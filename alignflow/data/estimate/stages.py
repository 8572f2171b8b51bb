"""What each stage of a recipe needs, as a function of the settings that a person can change to make it fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from alignflow.data import binding, catalogue
from alignflow.data.configs.generation import EvaluateConfig, JudgeConfig, LabelConfig, SampleConfig
from alignflow.data.configs.inputs import AdoptConfig, InitConfig
from alignflow.data.configs.judging import JudgeEvalConfig
from alignflow.data.configs.revising import ReviseConfig
from alignflow.data.configs.server import asks_elsewhere
from alignflow.data.configs.training import AlignConfig, RewardConfig, SFTConfig, TrainingConfig
from alignflow.data.estimate.demands import Asked, Demand, Settings, settings_of, single
from alignflow.data.estimate.disk import published_bytes, state_bytes
from alignflow.data.estimate.memory import (
    FrozenModel,
    LearningModel,
    Rollout,
    Scorers,
    forward_only,
    frozen_scorers,
    generation_need,
    loading_need,
    online_need,
    scorers_need,
    scorers_weights,
    scoring_need,
    training_need,
)
from alignflow.data.estimate.place import FP32, Need, Place
from alignflow.data.estimate.shapes import ModelShape, built_shape, read_shape, scorer_shapes
from alignflow.data.own_methods import method_row

QUESTION_TOKENS = 256
"""Tokens of a short question to a judge: a forward pass holds the logits of one position of each."""


def demand(stage: str, asked: Asked) -> Demand | None:
    """The needs of a stage of the catalogue; None where a shape is unknown, or it holds no model."""
    rule = DEMANDS.get(stage)
    return rule(asked) if rule else None


def _init(asked: Asked) -> Demand | None:
    config: InitConfig = asked.config
    shape = built_shape(config.build) if config.path is None else read_shape(config.path, config.revision)
    return _taking_in(asked, shape.parameters, shape.stored_bytes) if shape else None


def _adopt_reward(asked: Asked) -> Demand | None:
    config: AdoptConfig = asked.config
    weights = scorers_weights(scorer_shapes(config.path))
    return _taking_in(asked, weights) if weights else None


def _reward_ensemble(asked: Asked) -> Demand | None:
    """The members, which every stage that takes the ensemble holds in memory too."""
    need = _scoring(asked.members["members"])
    return Demand(single(asked.config, asked.runtime), need) if need else None


def _scoring(shapes: Scorers) -> Callable[[Settings], Need] | None:
    """What reward models need to score rows; None where a shape is unknown."""
    if scorers_weights(shapes) is None:
        return None
    return lambda settings: scorers_need(shapes, settings.micro_batch_tokens, settings.place)


def _merge(asked: Asked) -> Demand | None:
    """The base is loaded and written again; adapters, and copies of one matrix at a time, are small beside it and not counted."""
    shape = asked.shapes["base"]
    return _taking_in(asked, shape.parameters) if shape else None


def _taking_in(asked: Asked, weights: int, stored: int = FP32) -> Demand:
    """A model that is read in fp32 and written again, with `stored` bytes for each weight."""
    settings = Settings(Place("cpu", engine="torch"), asked.runtime.micro_batch_tokens)
    return Demand(settings, lambda changed: loading_need(weights), published=stored * weights)


def _sft(asked: Asked) -> Demand | None:
    config: SFTConfig = asked.config
    return _training(asked, asked.shapes["base"], config.max_length)


def _reward(asked: Asked) -> Demand | None:
    config: RewardConfig = asked.config
    return _training(asked, asked.shapes["base"], config.about_loss.answers * config.max_length, scores=True)


def _align(asked: Asked) -> Demand | None:
    config: AlignConfig = asked.config
    return FAMILY_DEMANDS.get(method_row(config.method).family, _offline)(asked)


def _offline(asked: Asked) -> Demand | None:
    config: AlignConfig = asked.config
    method, shape = binding.bound_method(config), asked.shapes["policy"]
    # The base of an adapter is its reference.
    frozen = FrozenModel(shape) if shape is not None and method.live_reference and config.lora is None else None
    if method.teacher:
        options = catalogue.parse_options(method, config.options, "align.options")
        teacher = read_shape(getattr(options, method.teacher))
        if teacher is None:
            return None
        frozen = FrozenModel(teacher)
    longest_row = method.learns_from().answers * config.max_length
    return _training(asked, shape, longest_row, frozen=frozen, values=method.value_network)


def _training(
    asked: Asked,
    shape: ModelShape | None,
    longest_row: int,
    *,
    scores: bool = False,
    frozen: FrozenModel | None = None,
    values: bool = False,
) -> Demand | None:
    """One model that learns from rows (or pairs) of at most `longest_row` tokens, beside a `frozen` model that does not; with `values`
    a value network on its backbone, which never is an adapter, learns too."""
    config: TrainingConfig = asked.config
    if shape is None:
        return None

    def learner(settings: Settings) -> LearningModel:
        return _learner(shape, settings, config, longest_row, scores)

    def value(settings: Settings) -> LearningModel | None:
        return _learner(shape, replace(settings, lora_rank=None), config, longest_row, True) if values else None

    settings = settings_of(config, asked.runtime)
    own, beside = learner(settings), value(settings)
    return Demand(
        settings,
        lambda changed: training_need(learner(changed), changed.place, frozen, value(changed)),
        longest_row,
        published_bytes(own),
        kept_bytes(config, *([own] if beside is None else [own, beside])),
        values,
    )


def kept_bytes(config: TrainingConfig, *learners: LearningModel) -> int:
    """What a training keeps while it runs: states, unless it ends before the first of them; the best step's weights."""
    samples = FAMILY_DEMANDS.get(method_row(config.method).family) if isinstance(config, AlignConfig) else None
    first = 1 if samples else config.save_steps  # methods that sample save after the first update
    states = 0 if 0 <= config.max_steps <= first else state_bytes(learners)
    return states + (published_bytes(learners[0]) if config.eval_steps else 0)


def _learner(
    shape: ModelShape, settings: Settings, config: TrainingConfig, longest_row: int, scores: bool
) -> LearningModel:
    """A step's rows are shared by the processes, and a forward pass holds at least one row, at most the budget."""
    step = int(-(-config.batch_size // settings.place.processes) * longest_row * settings.fill)
    tokens = max(longest_row, min(settings.micro_batch_tokens, step))
    return LearningModel(
        shape,
        tokens,
        0 if scores else tokens,
        settings.lora_rank,
        settings.gradient_checkpointing,
        max(longest_row, settings.micro_batch_tokens),
    )


def _online(asked: Asked) -> Demand | None:
    """Methods that sample: the value model is on the reward model's backbone where that is known, and never an adapter."""
    config: AlignConfig = asked.config
    options = catalogue.parse_options(method_row(config.method), config.options, "align.options")
    policy, reward = asked.shapes["policy"], asked.shapes.get("reward_model")
    scorers = asked.scoring() or ()
    if policy is None or None in scorers:
        return None
    prompt_length = min(asked.prompt_length, config.max_length - options.response_length)
    longest_row = prompt_length + options.response_length
    with_values = catalogue.look_up(catalogue.ADVANTAGES, options.advantage, "align.options.advantage").needs_values

    def learners(settings: Settings) -> list[LearningModel]:
        value = _learner(reward or policy, replace(settings, lora_rank=None), config, longest_row, True)
        return [_learner(policy, settings, config, longest_row, False), *([value] if with_values else [])]

    def need(settings: Settings) -> Need:
        rows = min(settings.rows, -(-config.batch_size // settings.place.processes))
        rollout = Rollout(rows, prompt_length, options.response_length, min(options.num_generations, rows))
        # An adapter's base is its reference.
        frozen = [*([] if settings.lora_rank else [FrozenModel(policy)]), *frozen_scorers(scorers)]
        learning, *values = learners(settings)
        return online_need(learning, values[0] if values else None, frozen, rollout, settings.place)

    settings = replace(settings_of(config, asked.runtime), rows=options.rollout_batch_size)
    both = learners(settings)
    return Demand(settings, need, longest_row, published_bytes(both[0]), kept_bytes(config, *both), whole=True)


def _online_preference(asked: Asked) -> Demand | None:
    """Methods that compare: the policy and its frozen reference, a moving average where one is the opponent, and whoever compares.

    The answers of a pair are in one pass, and an update keeps those of the policy and of its opponent.
    """
    config: AlignConfig = asked.config
    options = catalogue.parse_options(method_row(config.method), config.options, "align.options")
    policy, judge = asked.shapes["policy"], getattr(options, "judge", None)
    scorers = (asked.scoring() or ()) if judge is None else ()
    judged = _judge_need(judge, asked) if judge is not None else None
    if policy is None or None in scorers:
        return None
    answers = max(getattr(options, "num_generations", 1), 2)
    prompt_length = min(asked.prompt_length, config.max_length - options.response_length)
    longest_row = prompt_length + 2 * options.response_length

    def need(settings: Settings) -> Need:
        rows = min(settings.rows, -(-config.batch_size * answers // settings.place.processes))
        rollout = Rollout(rows, prompt_length, options.response_length, answers)
        frozen = [*([] if settings.lora_rank else [FrozenModel(policy)]), *frozen_scorers(scorers)]
        if hasattr(options, "ema_decay") and not settings.lora_rank:  # of an adapter the average is an adapter
            frozen.append(FrozenModel(policy, averages=True))
        learning = _learner(policy, settings, config, longest_row, False)
        found = online_need(learning, None, frozen, rollout, settings.place)
        if judged is None:
            return found
        beside = judged(settings)
        host = max((found.host, beside.host), key=lambda parts: sum(parts.values()))
        return Need((*found.phases, *beside.phases), host)

    settings = replace(settings_of(config, asked.runtime), rows=options.rollout_batch_size)
    learner = _learner(policy, settings, config, longest_row, False)
    return Demand(settings, need, longest_row, published_bytes(learner), kept_bytes(config, learner), whole=True)


def _online_distillation(asked: Asked) -> Demand | None:
    """The student and its teacher, side by side, on the student's answers."""
    config: AlignConfig = asked.config
    options = catalogue.parse_options(method_row(config.method), config.options, "align.options")
    policy, teacher = asked.shapes["policy"], read_shape(options.teacher)
    if policy is None or teacher is None:
        return None
    prompt_length = min(asked.prompt_length, config.max_length - options.response_length)
    longest_row = prompt_length + options.response_length

    def need(settings: Settings) -> Need:
        rows = min(settings.rows, -(-config.batch_size // settings.place.processes))
        rollout = Rollout(rows, prompt_length, options.response_length, 1)
        learning = _learner(policy, settings, config, longest_row, False)
        return online_need(learning, None, [FrozenModel(teacher)], rollout, settings.place)

    settings = replace(settings_of(config, asked.runtime), rows=options.rollout_batch_size)
    learner = _learner(policy, settings, config, longest_row, False)
    return Demand(settings, need, longest_row, published_bytes(learner), kept_bytes(config, learner), whole=True)


def _sample(asked: Asked) -> Demand | None:
    config: SampleConfig = asked.config
    if asks_elsewhere(config.generator):
        return None
    return _generation(asked, config.max_new_tokens, min(config.max_prompt_length, asked.prompt_length), config.n)


def _revise(asked: Asked) -> Demand | None:
    """A critique and a revision of each answer, from a question of `max_length` tokens at most."""
    config: ReviseConfig = asked.config
    if config.model is not None:
        asked = replace(asked, shapes={**asked.shapes, "policy": read_shape(config.model)})
    new_tokens = max(config.critique_tokens, config.max_new_tokens) + config.thinking_tokens
    return _generation(asked, new_tokens, max(config.max_length - new_tokens, 1), 1)


def _generation(asked: Asked, new_tokens: int, prompt_length: int, answers: int) -> Demand | None:
    shape = asked.shapes["policy"]
    if shape is None:
        return None

    def need(settings: Settings) -> Need:
        return generation_need(shape, Rollout(settings.rows, prompt_length, new_tokens, answers), settings.place)

    return Demand(single(asked.config, asked.runtime), need)


def _reference(asked: Asked) -> Demand | None:
    """The frozen reference scores the answers of every pair."""
    shape = asked.shapes["checkpoint"]
    if shape is None:
        return None

    def need(settings: Settings) -> Need:
        tokens = settings.micro_batch_tokens
        head = shape.hidden_size * shape.vocab_size
        return scoring_need(
            [FrozenModel(shape)], forward_only(shape, tokens, tokens, settings.place), settings.place, head
        )

    return Demand(settings_of(asked.config, asked.runtime), need)


def _label(asked: Asked) -> Demand | None:
    config: LabelConfig = asked.config
    judged = _judge_need(config.judge, asked)
    return Demand(single(config, asked.runtime), judged) if judged else None


def _judge_eval(asked: Asked) -> Demand | None:
    config: JudgeEvalConfig = asked.config
    judged = _judge_need(config.judge, asked) if config.judge else None
    return Demand(single(config, asked.runtime), judged) if judged else None


def _judge_need(judge: JudgeConfig, asked: Asked) -> Callable[[Settings], Need] | None:
    """What a judge with a model needs; None for one without, or of unknown shape."""
    row = catalogue.JUDGES.get(judge.name)
    own = judge.options.get("model")
    if row is None or not row.needs or asks_elsewhere(judge.generator):
        return None
    if row.needs == "reward_model":
        return _scoring(scorer_shapes(own) if own else asked.scoring() or (None,))
    shape = read_shape(own) if own else asked.shapes.get(row.needs)
    if shape is None:
        return None

    def need(settings: Settings) -> Need:
        tokens, place = settings.micro_batch_tokens, settings.place
        return scoring_need([FrozenModel(shape)], forward_only(shape, tokens, tokens // QUESTION_TOKENS, place), place)

    return need


def _evaluate(asked: Asked) -> Demand | None:
    """The policies sample, one after the other; then each evaluator holds one model at a time."""
    config: EvaluateConfig = asked.config
    shape = asked.shapes["aligned"]
    if shape is None:
        return None
    scoring = _scoring(asked.scoring() or (None,))
    judges = [
        found for judge in (config.labelling_judge, *config.judges) if judge and (found := _judge_need(judge, asked))
    ]

    def need(settings: Settings) -> Need:
        place, tokens = settings.place, settings.micro_batch_tokens
        needs = [
            generation_need(shape, Rollout(settings.rows, asked.prompt_length, config.max_new_tokens), place),
            scoring_need([FrozenModel(shape)], forward_only(shape, tokens, tokens, place), place),
            *(judge(settings) for judge in judges),
        ]
        if scoring is not None:
            needs.append(scoring(settings))
        host = max((found.host for found in needs), key=lambda parts: sum(parts.values()))
        return Need(tuple(phase for found in needs for phase in found.phases), host)

    return Demand(single(config, asked.runtime), need)


Rule = Callable[[Asked], Demand | None]

DEMANDS: Mapping[str, Rule] = {
    "init": _init,
    "adopt_reward": _adopt_reward,
    "reward_ensemble": _reward_ensemble,
    "sft": _sft,
    "sample": _sample,
    "revise": _revise,
    "judge_eval": _judge_eval,
    "label": _label,
    "reward": _reward,
    "reference": _reference,
    "align": _align,
    "merge": _merge,
    "evaluate": _evaluate,
}
"""Stage of the catalogue -> what it needs; a stage that is not here holds no model."""

FAMILY_DEMANDS: Mapping[str, Rule] = {
    "online": _online,
    "online_preference": _online_preference,
    "online_distillation": _online_distillation,
}
"""Family of the catalogue -> what `align` needs for its methods; `_offline` for one that is not here."""
