"""The base model: loaded and checked, or built small with a tokenizer trained on the corpus."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignflow.data.adapters import find_base, is_adapter
from alignflow.data.artifacts import verify_files
from alignflow.data.chat_templates import TEMPLATES, asks_for_date, change_template, with_arguments, with_date
from alignflow.data.configs.inputs import BuildConfig, InitConfig
from alignflow.data.errors import DataError, ModelError, quoted
from alignflow.data.paths import is_file
from alignflow.data.rendering import load_tokenizer
from alignflow.data.run import Run
from alignflow.data.sources.corpus import iter_corpus_texts
from alignflow.data.template_checks import check_template
from alignflow.models.adapters import from_pretrained
from alignflow.models.checkpoints import save_checkpoint
from alignflow.models.loading import refuse_not_finite

EOS, PAD = "<|end|>", "<|pad|>"
SPECIAL = (PAD, EOS, "<|system|>", "<|user|>", "<|assistant|>")


def initialise(config: InitConfig, *, run: Run) -> dict[str, float | None]:
    """Write the base checkpoint: `config.path` loaded, or a model of `config.build`.

    If there is no chat template, one is set (`config.chat_template`); a missing pad token becomes EOS; a
    conversation is rendered and encoded to check that training has tokens to learn from.

    Raises:
        ModelError: no EOS, no usable chat template, no context length, or the model does not load.
    """
    if config.path is None:
        model, tokenizer = build(config, run)
    else:
        model, tokenizer = load(config)
    set_template(tokenizer, config, run)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    context = check(model, tokenizer, str(config.path or "model.build"), run)
    card = {
        "Base model": "Built small by alignflow." if config.path is None else "Taken in by alignflow.",
        "licence": config.licence,
    }
    save_checkpoint(model, tokenizer, run.out, card)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": float(parameters), "vocabulary": float(len(tokenizer)), "context_length": float(context)}


def load(config: InitConfig) -> tuple[Any, Any]:
    """Model and tokenizer at `config.path`; an adapter is merged into its base, and may use the base's tokenizer.

    The weights are bf16 if it represents all of them exactly, as for most published models: half the space, and every stage reads the same
    fp32 numbers. Otherwise they are fp32.
    """
    path = str(config.path)
    if Path(path).is_dir():
        verify_files(Path(path))
    adapter = is_adapter(path)
    bare = adapter and not (Path(path) / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(find_base(Path(path)) if bare else path, config.trust_remote_code, config.revision)
    revision = {} if adapter else {"revision": config.revision or "main"}
    try:
        model = from_pretrained(
            AutoModelForCausalLM, path, torch.float32, trust_remote_code=config.trust_remote_code, **revision
        )
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise ModelError(
            f"no causal language model that can be loaded: {first}",
            where=path,
            do="use a Hugging Face directory with config.json and safetensors weights; if the model has custom code, set model.trust_remote_code to true",
        ) from error
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            "the Hub id is an adapter's, not a model's",
            where=path,
            do="use a local directory of the adapter, or merge it first",
        )
    refuse_not_finite(model, path)
    if all(torch.equal(values.bfloat16().float(), values) for values in model.parameters()):
        for values in model.parameters():
            values.data = values.data.bfloat16()
    return model, tokenizer


def build(config: InitConfig, run: Run) -> tuple[Any, Any]:
    """A Llama of `config.build`, its weights drawn from the seed, and a byte-level BPE tokenizer of the corpus."""
    run.progress(0, 2, "parts")
    tokenizer = train_tokenizer(config, run)
    run.progress(1, 2, "parts")
    shape: BuildConfig = config.build
    torch.manual_seed(config.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            **shape.model_dump(exclude={"vocab_size"}),
            vocab_size=len(tokenizer),
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return model, tokenizer


def train_tokenizer(config: InitConfig, run: Run) -> Any:
    """Byte-level BPE on all texts of the corpus, with control tokens for the turns.

    A warning says how many rows of the corpus could not be read, and why.

    Raises:
        DataError: the corpus has no text.
    """
    texts = _corpus(config, run)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.build.vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=config.build.max_position_embeddings,
    )
    tokenizer.chat_template = TEMPLATES["turns"]
    return tokenizer


def _corpus(config: InitConfig, run: Run) -> list[str]:
    """The texts of the corpus, at least one of them not empty; dropped rows are counted in a warning."""
    counts: Counter[str] = Counter()
    texts = list(iter_corpus_texts(config.corpus, counts))
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
    rows = f"{counts.total()} rows of the corpus" if counts.total() > 1 else "1 row of the corpus"
    if not any(texts) and counts:
        raise DataError(
            f"no text to train a tokenizer on: {rows} cannot be used ({reasons})",
            where="model",
            do="repair the data, or set model.path",
        )
    if not any(texts):
        raise DataError("no text to train a tokenizer on", where="model", do="set model.path or data.demonstrations")
    if counts:
        run.warn(f"the tokenizer was trained without {rows}: {reasons}")
    return texts


def set_template(tokenizer: Any, config: InitConfig, run: Run) -> None:
    """Set the chat template that the config names (`auto` keeps the model's own), with its arguments and today's date filled in."""
    _choose_template(tokenizer, config, run)
    if asks_for_date(tokenizer.chat_template):
        now = datetime.now()
        change_template(tokenizer, lambda text: with_date(text, now))
        run.warn(
            f"chat template: it writes today's date, which is {now:%Y-%m-%d} from now on, in training and wherever the model is used"
        )
    change_template(tokenizer, lambda text: with_arguments(text, config.chat_template_kwargs))


def _choose_template(tokenizer: Any, config: InitConfig, run: Run) -> None:
    name = config.chat_template
    if name == "auto":
        if tokenizer.chat_template is None:
            tokenizer.chat_template = TEMPLATES["instruction"]
            run.warn("the tokenizer has no chat template: `instruction` was set")
        return
    if name not in TEMPLATES and not is_file(Path(name)):
        raise ModelError(
            f"unknown chat template {quoted(name)}",
            where="model.chat_template",
            do=f"set it to auto, {', '.join(TEMPLATES)}, or the path of a Jinja file",
        )
    tokenizer.chat_template = TEMPLATES[name] if name in TEMPLATES else Path(name).read_text(encoding="utf-8")


def check(model: Any, tokenizer: Any, where: str, run: Run) -> int:
    """Check that conversations can be rendered, encoded and learnt from, and say what the template does; returns the context length in tokens."""
    context = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if not context:
        raise ModelError("the model's config has no max_position_embeddings", where=where, do="set it in config.json")
    rows, largest = (
        model.get_input_embeddings().num_embeddings,
        max(tokenizer.get_vocab().items(), key=lambda entry: entry[1]),
    )
    if largest[1] >= rows:
        raise ModelError(
            f"the tokenizer gives {largest[0]!r} the id {largest[1]}, but the model has embeddings only for ids up to {rows - 1}",
            where=where,
            do="use the model's own tokenizer, or resize the model's embeddings",
        )
    for line in check_template(tokenizer, where):
        run.warn(f"chat template: {line}")
    return int(context)
