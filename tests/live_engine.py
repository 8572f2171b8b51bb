"""An engine that computes apart from the trainer, in this process: what vLLM is to a policy in training, without vLLM."""

import torch

from alignflow.models.generation.transformers_generator import TransformersGenerator


class Elsewhere(TransformersGenerator):
    """A copy of the model; `off` is what its weights miss by when they are taken up."""

    version, taken, off = "0", 0, 0.0

    def take(self, model):
        self.taken += 1
        self.sync(model)
        with torch.no_grad():
            self._model.get_input_embeddings().weight.mul_(1 + self.off)
