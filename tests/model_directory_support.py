"""A directory that looks like a model of given shape: config, an empty file of weights, a tokenizer. It loads nowhere."""

import json
import struct


def write_model_directory(directory, **config):
    """Make it, and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (directory / "tokenizer.json").write_text("{}")
    write_weights(directory / "model.safetensors")
    return directory


def write_weights(file, values=b"\0" * 8, ends=8):
    """Write a safetensors file of one tensor: its bytes, and where the header says that they end."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, ends]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + values)
