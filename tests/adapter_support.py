"""Low-rank adapters for tests."""

import torch
from transformers import AutoModelForCausalLM

from alignflow.data.configs.training import LoRAConfig
from alignflow.data.rendering import load_tokenizer
from alignflow.models.adapters import Adapter


def make_adapter(base, out, model=None, **settings):
    """A LoRA adapter on `base` whose factors are not the zeros that it starts with; returns the model that it is in."""
    model = model or AutoModelForCausalLM.from_pretrained(base)
    adapter = Adapter(model, LoRAConfig(**{"r": 4, "target_modules": ("q_proj", "v_proj"), **settings}), base, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_" in name:
                values.normal_(0, 0.3)
    out.mkdir()
    adapter.save(load_tokenizer(base), out, {"title": "an adapter"})
    return model
