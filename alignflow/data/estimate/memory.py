"""Memory of the stages, per process: what training, sampling, scoring and PPO hold at their largest moment.

Activations are counted as torch keeps them for the backward pass of a gated transformer block that runs packed rows
(`models/head.py`, `models/attention.py`). Counted on a CPU with saved-tensor hooks, real models keep 3 to 5% more than
`layer_activations` says. All results are estimates of a maximum: allocators waste some, and short rows need less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignflow.data.estimate.place import BF16, FP32, GIB, Need, Parts, Phase, Place, add
from alignflow.data.estimate.shapes import FAMILIES, ModelShape
from alignflow.data.estimate.states import LIVE_PARAMETERS, States, states

Scorers = tuple[ModelShape | None, ...]
"""Shapes of the reward models whose scores are combined: one, or the members of an ensemble; None is unknown."""

HEAD_CHUNK: Mapping[str, int] = {"cpu": 128, "cuda": 2048}
"""Device -> tokens whose logits are in memory at once (`CHUNK_TOKENS` of models/head.py)."""
LOGIT_BYTES = 12
"""Bytes per logit in the backward pass: fp32 log-probabilities, their gradient, and the logits' own (11.3 measured)."""
LOGIT_BYTES_FORWARD = 8
"""Bytes per logit without gradients: fp32 logits and log-probabilities."""
FORWARD = "forward pass"
IN_FLIGHT = 0.25
"""Gradients of activations inside a layer, as a share of what it keeps (0.1 to 0.25 measured)."""
BASE = {
    ("cpu", "torch"): 0.5 * GIB,
    ("cpu", "deepspeed"): 0.6 * GIB,
    ("cuda", "torch"): 1.0 * GIB,
    ("cuda", "deepspeed"): 1.0 * GIB,
}
"""What a process holds before it has a model: on a CPU its libraries (measured), on a GPU context, kernels and workspaces."""


@dataclass(frozen=True)
class LearningModel:
    """A model that learns.

    Attributes:
        shape: Of the causal language model that it is, or is built on.
        tokens: Of one forward pass.
        head_tokens: Of those, how many logits are computed for; 0 where the head is one score per token.
        lora_rank: Rank of the adapters on all linear layers; None where all weights learn.
        gradient_checkpointing: Each layer keeps its input alone, and computes the rest anew.
        evaluated_tokens: Of one forward pass without gradients, over held-out rows.
    """

    shape: ModelShape
    tokens: int
    head_tokens: int = 0
    lora_rank: int | None = None
    gradient_checkpointing: bool = False
    evaluated_tokens: int = 0

    @property
    def scores(self) -> bool:
        """Whether it is a reward or value model."""
        return self.head_tokens == 0

    @property
    def weights(self) -> int:
        """All of them, adapters included."""
        own = self.shape.scoring_parameters if self.scores else self.shape.parameters
        return own + (self.trainable if self.lora_rank else 0)

    @property
    def head(self) -> int:
        """Weights of the head; a tied one is the embedding."""
        return self.shape.hidden_size * (1 if self.scores else self.shape.vocab_size)

    @property
    def trainable(self) -> int:
        """Weights that learn."""
        if self.lora_rank:
            return self.shape.lora_parameters(self.lora_rank) + (self.shape.hidden_size if self.scores else 0)
        return self.weights


@dataclass(frozen=True)
class FrozenModel:
    """A model without an optimizer: a reference, a teacher, a reward model, a moving average.

    Attributes:
        shape: Of the causal language model that it is, or is built on.
        scores: Whether it is a reward model.
        averages: Whether it follows the policy as a moving average, which is kept in fp32.
    """

    shape: ModelShape
    scores: bool = False
    averages: bool = False

    @property
    def weights(self) -> int:
        """How many it has."""
        return self.shape.scoring_parameters if self.scores else self.shape.parameters

    def held(self, place: Place) -> float:
        """Bytes of its weights in one process."""
        saved = 0 if self.averages else (FP32 - BF16) * bf16_weights(self.shape, self.scores, place)
        return FP32 * self.weights / place.shares - saved


def bf16_weights(shape: ModelShape, scores: bool, place: Place) -> int:
    """How many weights of a frozen model, or of the base of an adapter, are kept in bf16 (models/frozen_weights.py)."""
    if place.precision != "bf16" or place.gathers:
        return 0
    return shape.layer_matrices + (0 if scores or shape.tied else shape.vocab_size * shape.hidden_size)


@dataclass(frozen=True)
class Rollout:
    """Answers that are sampled together.

    Attributes:
        rows: How many.
        prompt_length: Longest prompt, tokens.
        new_tokens: Longest answer, tokens.
        answers_per_prompt: Answers to one prompt; they share its first pass.
    """

    rows: int
    prompt_length: int
    new_tokens: int
    answers_per_prompt: int = 1


def layer_activations(shape: ModelShape, precision: str) -> float:
    """Bytes per token that one layer keeps for its backward pass, without gradient checkpointing.

    With h the width, q and k the widths of all query and of all key heads, i the MLP's: fp32 keeps per norm its input, the
    normalised input and its output (3h, two norms), queries, keys and values for attention and its output in two layouts
    (3q + 2k), and the gate, its activation, the up-projection and their product (4i); 4 bytes each. In bf16 the norms'
    input and normalised input stay fp32, and every matrix product keeps a bf16 copy of its input of its own: 5 of width h.

    Source: torch's derivative formulas; compare Korthikanti et al. 2022 (arXiv 2205.05198), equation 2, for the block with
    LayerNorm and GELU.
    """
    family = FAMILIES[shape.family]
    width, queries, keys, inner = shape.hidden_size, shape.query_width, shape.key_value_width, shape.intermediate_size
    more_norms = (family.norms - 2) * 2 * width * FP32
    head_norms = 0 if family.head_norms == "none" else 2 * (queries + keys) * FP32
    if precision == "bf16":
        own = 2 * 2 * width * FP32 + (5 * width + 3 * queries + 2 * keys + 4 * inner) * BF16
    else:
        own = (6 * width + 3 * queries + 2 * keys + 4 * inner) * FP32
    return own + more_norms + head_norms


def step_phases(learner: LearningModel, place: Place) -> list[Phase]:
    """What a forward and backward pass hold: what the layers keep, a chunk of logits, autocast's bf16 copies of matrices.

    The last norm, and the states that the head reads, are 3 more of width h. Autocast keeps the copies of weights that
    learn until the forward pass ends, but under ZeRO 3, where that would keep the whole model (models/backbone.py);
    those that a kept product needs live until its backward pass.
    Products keep no copy where layers are computed anew, nor under ZeRO 3, whose own linear function keeps the weights. The base of an adapter is
    in bf16 already, unless it is partitioned.
    The gradient of a head that learns is made whole before it is added to the earlier one.
    """
    shape, tokens = learner.shape, learner.tokens
    layer = layer_activations(shape, place.precision) * tokens
    ends = 3 * FP32 * shape.hidden_size * tokens
    logits = LOGIT_BYTES * min(learner.head_tokens, HEAD_CHUNK[place.device]) * shape.vocab_size
    in_bf16 = learner.lora_rank is not None and not place.gathers
    copies = BF16 * shape.layer_matrices if place.precision == "bf16" and not in_bf16 else 0
    one = copies / shape.num_hidden_layers
    kept: float
    working: float
    if learner.gradient_checkpointing:
        kept, working = FP32 * shape.hidden_size * tokens * shape.num_hidden_layers, (1 + IN_FLIGHT) * layer
    else:
        kept, working = layer * shape.num_hidden_layers, IN_FLIGHT * layer
    copied_back = one if learner.gradient_checkpointing or place.gathers else copies
    # The logits go before the layers' backward pass starts: the larger of the two counts.
    backward = {
        "activations": kept + ends + max(0, working - logits),
        "logits": logits,
        "bf16 copies": copied_back,
        "head gradient": 0 if learner.lora_rank or learner.scores else FP32 * learner.head,
    }
    copied = copied_back if learner.lora_rank or place.gathers else copies
    forward = {"activations": kept + layer, "bf16 copies": copied}
    return [Phase(FORWARD, forward), Phase("backward pass", backward)]


def forward_only(shape: ModelShape, tokens: int, head_tokens: int, place: Place) -> Parts:
    """Bytes of a pass without gradients: one layer at work, the states between layers, a chunk of logits."""
    working = (layer_activations(shape, place.precision) + 2 * FP32 * shape.hidden_size) * tokens
    logits = LOGIT_BYTES_FORWARD * min(head_tokens, HEAD_CHUNK[place.device]) * shape.vocab_size
    return {"activations": working, "logits": logits}


def cache_bytes(shape: ModelShape, rollout: Rollout, precision: str) -> float:
    """Bytes of the key-value cache: 2 l k (prompt + answer) per row, in the precision of the generator."""
    length = rollout.prompt_length + rollout.new_tokens
    width = BF16 if precision == "bf16" else FP32
    return 2 * shape.num_hidden_layers * shape.key_value_width * width * rollout.rows * length


def training_need(
    learner: LearningModel, place: Place, frozen: FrozenModel | None = None, value: LearningModel | None = None
) -> Need:
    """SFT, reward model, and alignment on data that is there, whose reference was asked before training starts.

    Args:
        frozen: A reference or teacher that runs in every step.
        value: A value network that learns beside it. Both look at a micro-batch before either has its backward pass, so that what
            its layers keep stands beside the other's.
    """
    learners = [learner] if value is None else [learner, value]
    own = [_states(model, place) for model in learners]
    on_device: Parts = {"frozen": frozen.held(place)} if frozen else {}
    kept = on_device if value is None else add(on_device, step_phases(value, place)[0].parts)
    need = _phases(own, kept, [step_phases(model, place) for model in learners], _saved_copy(learners, place), place)
    tokens = learner.evaluated_tokens
    looked = forward_only(learner.shape, tokens, 0 if learner.scores else tokens, place)
    resident = add(on_device, *(model.resident for model in own))
    return Need((*need.phases, Phase("evaluation", add(resident, looked, _base(place)))), need.host)


def online_need(
    policy: LearningModel, value: LearningModel | None, frozen: Sequence[FrozenModel], rollout: Rollout, place: Place
) -> Need:
    """PPO and its kind: the policy learns, and with it a value model where there is one; frozen models stand beside them.

    Sampling uses the policy's own fp32 weights, which are whole in each process then. Under ZeRO 3 frozen models are cut like the policy; where all is offloaded
    they stand in the machine's memory, and on the device what is gathered of one at a time.

    Args:
        frozen: Reference and reward models.
        rollout: Answers that are sampled together.
    """
    learners = [policy] if value is None else [policy, value]
    own = [_states(model, place) for model in learners]
    on_device: dict[str, float] = {"frozen": sum(model.held(place) for model in frozen)}
    on_host: dict[str, float] = {}
    if place.offload == "all" and place.device == "cuda":
        on_host = on_device
        on_device = {"frozen": FP32 * min(LIVE_PARAMETERS, max((model.weights for model in frozen), default=0))}
    prefill = rollout.rows * rollout.prompt_length // rollout.answers_per_prompt
    looks = [
        Phase(
            "sampling",
            add(
                {"cache": cache_bytes(policy.shape, rollout, "fp32")},
                {"whole policy": FP32 * policy.weights} if place.gathers else {},
                forward_only(policy.shape, prefill, rollout.rows, place),
            ),
        ),
        Phase("scoring", forward_only(policy.shape, policy.tokens, policy.head_tokens, place)),
    ]
    need = _phases(
        own, on_device, [step_phases(model, place) for model in learners], _saved_copy(learners, place), place
    )
    held = add(on_device, *(model.resident for model in own), _base(place))
    sampled = tuple(Phase(phase.name, add(held, phase.parts)) for phase in looks)
    return Need((*sampled, *need.phases), add(need.host, on_host))


def generation_need(shape: ModelShape, rollout: Rollout, place: Place) -> Need:
    """Sampling: weights in the generator's precision, the cache, the first pass over the prompts, logits of one position."""
    width = BF16 if place.precision == "bf16" else FP32
    prefill = rollout.rows * rollout.prompt_length // rollout.answers_per_prompt
    parts = {
        "weights": width * shape.parameters,
        "cache": cache_bytes(shape, rollout, place.precision),
        **forward_only(shape, prefill, 0, place),
        "logits": 3 * FP32 * rollout.rows * shape.vocab_size,  # logits, their probabilities, and those in order
    }
    return Need((Phase("sampling", add(parts, _base(place))),), _loading(shape.parameters * width, place))


def scoring_need(models: Sequence[FrozenModel], passes: Parts, place: Place, head: int = 0) -> Need:
    """Models that only score, together in memory, with `head` weights in the head: judge, reward model, reference, held-out text.

    They are loaded in fp32. Under ZeRO 3 each process has a share, and beside it the head and what is gathered for use.
    """
    weights = sum(model.weights for model in models)
    if not place.gathers:
        held = sum(model.held(place) for model in models)
        loaded = FP32 * max((model.weights for model in models), default=0)
        phases = [Phase("scoring", add({"weights": held}, passes, _base(place)))]
        if place.device == "cpu" and held < FP32 * weights:  # the last one is in fp32 when the others are in bf16
            read = max(held - model.held(place) + FP32 * model.weights for model in models)
            phases.append(Phase("loading", add({"weights": read}, _base(place))))
        return Need(tuple(phases), _loading(loaded, place))
    own: Parts = {"weights": FP32 * weights / place.shares}
    waits = place.offload == "all" and place.device == "cuda"
    gathered: Parts = {"buffers": FP32 * (head + min(weights, LIVE_PARAMETERS))}
    on_device = add(gathered, passes, _base(place), {} if waits else own)
    return Need((Phase("scoring", on_device),), add(_loading(0, place), own if waits else {}))


def frozen_scorers(shapes: Scorers) -> list[FrozenModel]:
    """The reward models whose shapes are known."""
    return [FrozenModel(shape, True) for shape in shapes if shape is not None]


def scorers_weights(shapes: Scorers) -> int | None:
    """Weights of all reward models that score together; None where a shape is unknown."""
    known = [shape for shape in shapes if shape is not None]
    return sum(shape.scoring_parameters for shape in known) if len(known) == len(shapes) else None


def scorers_need(shapes: Scorers, tokens: int, place: Place) -> Need:
    """Reward models that are in memory together, of which one scores at a time, `tokens` in a forward pass; all shapes are known."""
    models = frozen_scorers(shapes)
    passes = [forward_only(model.shape, tokens, 0, place) for model in models]
    largest = max(passes, key=lambda parts: sum(parts.values()))
    return scoring_need(models, largest, place)


def loading_need(weights: int) -> Need:
    """Taking in a model, on the CPU."""
    return Need((Phase("loading", add({"weights": FP32 * weights}, _base(Place(engine="torch")))),))


def _phases(
    models: Sequence[States], beside: Parts, updates: Sequence[Sequence[Phase]], copy: float, place: Place
) -> Need:
    """The moments of training one or two models, of which one steps at a time while the other's state stands beside it."""
    held = add(beside, *(own.resident for own in models), _base(place))
    gradients = sum(own.backward.get("gradients", 0) for own in models)  # of all models, until each has stepped
    phases = []
    for own, update in zip(models, updates, strict=True):
        others = {"gradients": gradients - own.backward.get("gradients", 0)}
        before = {name: value for name, value in own.backward.items() if name != "in flight"}
        phases += [
            Phase(phase.name, add(held, others, before if phase.name == FORWARD else own.backward, phase.parts))
            for phase in update
        ]
        phases.append(Phase("optimizer step", add(held, others, own.step)))
    host = add(*(own.host for own in models))
    if place.device == "cpu":
        phases.append(Phase("saving", add(held, {"copy": copy})))
        phases.append(Phase("loading", add({"weights": max(own.loaded for own in models)}, _base(place))))
    else:
        # A whole model passes through the machine's memory on its way to the GPU, but not under ZeRO 3.
        largest = 0 if place.gathers else max(own.loaded for own in models)
        host = add(host, {"copy": max(copy, largest)}, _loading(0, place))
    return Need(tuple(phases), host)


def _states(model: LearningModel, place: Place) -> States:
    in_bf16 = bf16_weights(model.shape, model.scores, place) if model.lora_rank else 0
    return states(model.weights, model.trainable, model.head, place, in_bf16)


def _saved_copy(learners: Sequence[LearningModel], place: Place) -> float:
    """Bytes of the copy that a training state is written from: weights and both moments, each process its share."""
    return max(3 * FP32 * learner.trainable / place.processes for learner in learners)


def _loading(weights: float, place: Place) -> Parts:
    """The machine's memory beside a GPU: the libraries, and the weights on their way."""
    return {} if place.device == "cpu" else add({"base": 2 * GIB, "copy": weights})


def _base(place: Place) -> Parts:
    return {"base": BASE[place.device, place.engine]}
