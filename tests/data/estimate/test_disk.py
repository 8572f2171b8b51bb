"""What a training leaves on the disk."""

from alignflow.data.estimate.disk import published_bytes, state_bytes
from alignflow.data.estimate.memory import LearningModel
from alignflow.data.estimate.shapes import ModelShape


def test_a_checkpoint_is_fp32_and_three_states_hold_three_numbers_per_weight():
    shape = ModelShape("llama", 192, 6, 6, 2, 32, 512, 4096, tied=True)
    assert published_bytes(LearningModel(shape, 1, 1)) == 4 * 3_148_224
    assert state_bytes([LearningModel(shape, 1, 1)]) == 3 * 3 * 4 * 3_148_224
    assert published_bytes(LearningModel(shape, 1, 1, lora_rank=8)) == 4 * shape.lora_parameters(8)
