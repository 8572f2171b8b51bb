"""The raw formats of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow.data.catalogue.base import Part


@dataclass(frozen=True)
class Format(Part):
    """One raw format of data; `kinds` are the tables that its rows can become."""

    kinds: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = {
    "messages": Format(
        "alignflow.data.sources.messages:parse",
        "OpenAI chat: messages[{role, content}].",
        version="3",
        kinds=("demonstrations", "prompts", "unpaired"),
    ),
    "sharegpt": Format(
        "alignflow.data.sources.sharegpt:parse",
        "ShareGPT: conversations[{from, value}].",
        version="3",
        kinds=("demonstrations", "prompts", "preferences", "unpaired"),
    ),
    "alpaca": Format(
        "alignflow.data.sources.alpaca:parse",
        "Alpaca: instruction, input, output, system, history.",
        version="3",
        kinds=("demonstrations", "prompts", "preferences", "unpaired"),
    ),
    "hh_rlhf": Format(
        "alignflow.data.sources.hh_rlhf:parse",
        "Anthropic hh-rlhf: whole transcripts in chosen and rejected.",
        version="2",
        kinds=("preferences", "demonstrations", "prompts"),
    ),
    "comparison": Format(
        "alignflow.data.sources.comparison:parse",
        "Several answers with scores or ranks.",
        version="3",
        kinds=("rankings", "preferences", "completions", "prompts", "demonstrations"),
    ),
    "trl": Format(
        "alignflow.data.sources.trl:parse",
        "TRL's columns: prompt, completion, chosen, rejected, label, completions.",
        version="5",
        kinds=("preferences", "demonstrations", "unpaired", "completions", "rankings", "prompts", "texts"),
    ),
    "votes": Format(
        "alignflow.data.sources.votes:parse",
        "Two answers (response_a, response_b) and who preferred which: a, b or tie, of one or several annotators.",
        kinds=("preferences", "completions", "prompts"),
        version="3",
    ),
    "oasst": Format(
        "alignflow.data.sources.oasst:parse",
        "OpenAssistant: trees of messages with ranks, one tree or one message in a row.",
        kinds=("demonstrations", "preferences", "rankings", "prompts"),
        version="2",
    ),
    "transcript": Format(
        "alignflow.data.sources.transcript:parse",
        "A whole conversation in a `text` column, such as guanaco's ### Human: ... ### Assistant: ...",
        kinds=("demonstrations", "prompts"),
    ),
    "text": Format(
        "alignflow.data.sources.text:parse",
        "Plain text: a `text` column, or a .txt file split at blank lines or <|endoftext|>.",
        version="2",
        kinds=("texts", "demonstrations", "prompts"),
    ),
}
