"""Makers that tests of several folders share."""

import shutil

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from alignflow.data.artifacts import Manifest, digest_of, file_digest, manifest_text, part_digests, payload_files
from alignflow.data.chat_templates import TEMPLATES

SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def small_tokenizer(directory):
    """Write a byte-level tokenizer with the `turns` template; returns its directory."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(["question number answer the about thing is"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>", additional_special_tokens=SPECIAL
    )
    tokenizer.chat_template = TEMPLATES["turns"]
    tokenizer.save_pretrained(directory)
    return directory


def as_artifact(directory, store, key, kind="checkpoint", inputs=None):
    """Copy a directory into `store`/artifacts as the artifact `key`; returns its payload."""
    payload = store / "artifacts" / key / "payload"
    shutil.copytree(directory, payload)
    files = {name: file_digest(payload / name) for name in payload_files(payload)}
    manifest = Manifest(
        kind=kind,
        key=key,
        digest=digest_of(files),
        stage=key.split("-")[0],
        files=files,
        parts=part_digests(files),
        components={},
        config={},
        inputs=inputs or {},
        versions={},
        fingerprint="",
        libraries={},
        runtime={},
        seed=0,
        metrics={},
        cost={},
        created="2026-01-01T00:00:00",
    )
    (payload.parent / "manifest.json").write_text(manifest_text(manifest))
    return payload
