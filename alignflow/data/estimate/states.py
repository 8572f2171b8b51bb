"""Weights, gradients and optimizer state of one process, under plain torch and under DeepSpeed's ZeRO stages.

The counts follow the allocations in DeepSpeed 0.19's `runtime/zero/stage_1_and_2.py` and `stage3.py` with the settings of
`models/engines/deepspeed_engine.py`, where weights that learn and gradients are fp32 (4 bytes) in either precision. In units of 4 bytes
per trainable weight, with n processes:

- plain torch: weights 1, gradients 1, AdamW's two moments 2.
- ZeRO 1 and 2: weights 1; master copy and moments (1 + 2) / n; gradients 1 (ZeRO 1) or 1 / n (ZeRO 2). While it steps, this
  process's share of the gradients once flat. AdamW is fused and makes no temporaries.
- ZeRO 3: weights 1 / n, which are their own master copy; moments 2 / n; gradients 1 / n, and a buffer for one sub-group. Weights
  are gathered in fp32 for the time of their use; the head's stay gathered.

To this come the bucket that gradients are reduced in, gradients on their way to it, and with offloading what stands in the
machine's memory instead. Measured on a CPU with 29 million weights as the rise of resident memory, without the buckets' share:
torch 4.2 units where the formulas give 4.0, ZeRO 1 with one process 6.1 (6.0), with two 4.8 (4.5), ZeRO 2 with two 4.4 (4.5),
ZeRO 3 with two 5.9 (5.5). With the bucket's unit the rise under ZeRO 1 was 7.0 and 5.8 where the peaks by the formulas are 6.0 and 4.5:
it was still there at the step, or the C library kept as many freed blocks. On SmolLM2, whose blocks are larger, it was about 6.3 of 6.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from alignflow.data.estimate.place import BF16, FP32, Parts, Place

REDUCE_BUCKET = 500_000_000
"""Elements of a bucket that gradients are reduced in, at most (`REDUCE_BUCKET` of models/engines/deepspeed_engine.py)."""
LIVE_PARAMETERS = 1_000_000_000
"""Elements of gathered weights that ZeRO 3 keeps at most: DeepSpeed's `stage3_max_live_parameters`."""
SUB_GROUP = 1_000_000_000
"""Elements that ZeRO 3 steps at a time: DeepSpeed's `sub_group_size`."""


@dataclass(frozen=True)
class States:
    """Bytes of one learning model.

    Attributes:
        resident: All the time.
        backward: Beside that, while gradients are made.
        step: In addition to the resident part, during the optimizer step.
        host: In the machine's memory, where the device is a GPU and the optimizer's state is offloaded.
        loaded: Bytes of the whole model in fp32, as it is read; some of it may be in bf16 afterwards.
    """

    resident: Parts
    backward: Parts
    step: Parts
    host: Parts = field(default_factory=dict)
    loaded: float = 0.0


def states(weights: int, trainable: int, head: int, place: Place, in_bf16: int = 0) -> States:
    """Bytes of a model in one process: it has `weights` weights, of which `trainable` learn, `head` are in its head, and `in_bf16` are frozen
    and kept in bf16."""
    if place.engine == "torch":
        found = _torch(weights, trainable, place)
    elif place.gathers:
        found = _zero_3(weights, trainable, head, place)
    else:
        found = _zero_1_2(weights, trainable, place)
    if in_bf16:
        saved = (FP32 - BF16) * in_bf16
        found = replace(found, resident={**found.resident, "weights": found.resident["weights"] - saved})
    return replace(found, loaded=FP32 * weights)


def _torch(weights: int, trainable: int, place: Place) -> States:
    unit = FP32 * trainable
    gradients = {"gradients": unit}
    return States({"weights": FP32 * weights, "optimizer": 2 * unit}, gradients, gradients)


def _zero_1_2(weights: int, trainable: int, place: Place) -> States:
    unit, share = FP32 * trainable, FP32 * trainable / place.processes
    bucket = _bucket(trainable)
    partitioned = place.zero_stage == 2
    gradients = {"gradients": share if partitioned else unit}
    if _offloads(place):  # stage_1_and_2.py: master copy, moments, gradients twice, a copy buffer, temporaries
        kept = {"in flight": min(unit, FP32 * REDUCE_BUCKET)} if partitioned else {"gradients": unit}
        host = {"optimizer": 3 * share, "gradients": 2 * share, "buffers": 3 * share}
        return States({"weights": FP32 * weights}, kept | {"buffers": bucket}, {} if partitioned else kept, host)
    # ZeRO 2 copies the owned gradients of a backward pass beside those of earlier ones; the others wait in the bucket.
    in_flight = {"in flight": share + min(unit, FP32 * REDUCE_BUCKET)} if partitioned else {}
    own_copy = 0 if place.processes == 1 and not partitioned else share
    step = own_copy + share
    return States(
        {"weights": FP32 * weights, "optimizer": 3 * share},
        gradients | {"buffers": bucket} | in_flight,
        gradients | {"buffers": step},
    )


def _zero_3(weights: int, trainable: int, head: int, place: Place) -> States:
    unit, share = FP32 * trainable, FP32 * trainable / place.processes
    group = min(share, FP32 * SUB_GROUP)
    own = {"weights": FP32 * weights / place.processes}
    buckets = _bucket(trainable) + FP32 * head
    gathered = FP32 * min(weights, LIVE_PARAMETERS)
    in_flight = 2 * min(unit, FP32 * REDUCE_BUCKET)  # gradients on their way, and their reduction
    if _offloads(place):  # stage3.py: master copy, moments, gradients flat and per sub-group
        host = {"optimizer": 3 * share, "gradients": 2 * share, "buffers": 2 * group}
        resident = {"buffers": buckets} if place.offload == "all" else own | {"buffers": buckets}
        host |= own if place.offload == "all" else {}
        return States(resident, {"buffers": gathered, "in flight": in_flight}, {"buffers": gathered}, host)
    gradients = {"gradients": share}
    return States(
        own | {"optimizer": 2 * share, "buffers": buckets + group},
        gradients | {"buffers": gathered, "in flight": in_flight},
        gradients,
    )


def _offloads(place: Place) -> bool:
    return place.offload != "none" and place.device == "cuda"


def _bucket(trainable: int) -> float:
    """Bytes of the bucket that gradients are reduced in."""
    return FP32 * min(REDUCE_BUCKET, trainable)
