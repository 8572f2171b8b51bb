"""Write the quickstart data: `python examples/quickstart/make_data.py [DIRECTORY]`. Same bytes every time.

Writers of different skill answer the requests of worlds.py. A good one stays with what was asked, is friendly, uses two
to five sentences and ends; worse ones drift to something else, are gloomy or rude, repeat themselves, are too
short, ramble, or stop in the middle. A model trained on all of them gives answers of mixed quality, so a judge has
something to prefer. Only the standard library is used. Code Apache-2.0, data CC0-1.0.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import worlds

SEED = 20240
DEMONSTRATIONS, PROMPTS, EVALUATION, GENERAL, PREFERENCES = 3500, 1600, 300, 320, 800
SKILLS = {"good": 0.4, "fair": 0.3, "poor": 0.3}

Slots = dict[str, str]
Flaw = Callable[[random.Random, list[str], Slots], list[str]]


def with_article(word: str) -> str:
    """`word` after a or an."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def draw_slots(rng: random.Random) -> Slots:
    """One value for everything that a pattern can name; `x2` differs from `x`."""
    slots: Slots = {}
    for name, words in worlds.SLOTS.items():
        slots[name], slots[f"{name}2"] = rng.sample(words, 2)
    for name in list(slots):
        slots[f"a_{name}"] = with_article(slots[name])
        slots[f"A_{name}"] = slots[f"a_{name}"].capitalize()
    slots["problem"], (slots["tip1"], slots["tip2"]) = rng.choice(sorted(worlds.PROBLEMS.items()))
    slots["fact"], (slots["reason1"], slots["reason2"]) = rng.choice(sorted(worlds.FACTS.items()))
    slots["narration"] = fill(rng.choice(worlds.NARRATIONS), slots)
    return slots


def fill(pattern: str, slots: Slots) -> str:
    """Put the slots into a pattern, with `a` turned to `an` where the next word asks for it."""
    text = re.sub(r"\{(\w+)\}", lambda match: slots[match[1]], pattern)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def bind(pattern: str, prompt_pattern: str) -> str:
    """Choose in `{animal|person}` the one that the request is about."""
    return pattern.replace("{animal|person}", "{animal}" if "animal}" in prompt_pattern else "{person}")


def good_answer(rng: random.Random, family: worlds.Family, prompt_pattern: str, slots: Slots) -> list[str]:
    """An opener, one to three sentences in order, mostly a closer; what was asked for always comes up."""
    asked = set(re.findall(r"\{[aA]?_?(\w+)\}", prompt_pattern)) - {"problem", "fact", "narration"}
    for _ in range(40):
        number = rng.choice((1, 2, 2, 3)) if len(family.bodies) > 2 else len(family.bodies)
        chosen = sorted(rng.sample(range(len(family.bodies)), min(number, len(family.bodies))))
        patterns = [rng.choice(family.openers), *(family.bodies[index] for index in chosen)]
        if rng.random() < 0.8 or len(patterns) < 3:
            patterns.append(rng.choice(family.closers))
        patterns = [bind(pattern, prompt_pattern) for pattern in patterns]
        if all(re.search(rf"\{{[aA]?_?{name}\}}", " ".join(patterns)) for name in asked):
            break
    return [fill(pattern, slots) for pattern in patterns]


def drift(rng: random.Random, sentences: list[str], slots: Slots) -> list[str]:
    """Leave the subject: the rest is about something else."""
    other = draw_slots(rng)
    return [*sentences[: rng.choice((0, 1))], *(fill(pattern, other) for pattern in rng.sample(worlds.NARRATIONS, 2))]


def gloom(rng: random.Random, sentences: list[str], slots: Slots) -> list[str]:
    """Put gloomy sentences in place of the friendly first and last ones."""
    first, last = (fill(pattern, slots) for pattern in rng.sample(worlds.GLOOMY, 2))
    return [first, *sentences[1:-1], last]


def rudeness(rng: random.Random, sentences: list[str], slots: Slots) -> list[str]:
    """Begin rudely."""
    return [fill(rng.choice(worlds.RUDE), slots), *sentences[1:]]


def repeat(rng: random.Random, sentences: list[str], slots: Slots) -> list[str]:
    """Say one sentence again and again."""
    place = rng.randrange(len(sentences))
    return [*sentences[: place + 1], *[sentences[place]] * rng.choice((1, 2)), *sentences[place + 1 : place + 2]]


def too_short(rng: random.Random, sentences: list[str], slots: Slots) -> list[str]:
    """Hardly say anything."""
    return [fill(rng.choice(worlds.SHORT), slots)]


def ramble(rng: random.Random, sentences: list[str], slots: Slots) -> list[str]:
    """Go on without a full stop."""
    parts = [fill(pattern, draw_slots(rng)) for pattern in rng.sample(worlds.RAMBLING, 4)]
    return [" ".join([sentences[0].rstrip(".!?"), *parts])]


def stop_early(rng: random.Random, sentences: list[str], slots: Slots) -> list[str]:
    """Stop in the middle of the last sentence."""
    words = sentences[-1].split()
    return [*sentences[:-1], " ".join(words[: max(1, len(words) - rng.randint(2, 4))]).rstrip(".,!?")]


FLAWS: tuple[Flaw, ...] = (drift, gloom, rudeness, repeat, too_short, ramble, stop_early)


def answer(rng: random.Random, family: worlds.Family, prompt_pattern: str, slots: Slots) -> str:
    """An answer by a writer whose skill is drawn first: a fair one has one flaw, a poor one two or three."""
    skill = rng.choices(list(SKILLS), weights=list(SKILLS.values()))[0]
    sentences = good_answer(rng, family, prompt_pattern, slots)
    number = {"good": 0, "fair": 1, "poor": rng.choice((2, 3))}[skill]
    return written(rng, sentences, slots, number)


def written(rng: random.Random, sentences: list[str], slots: Slots, flaws: int) -> str:
    """The text of an answer with this many flaws."""
    for flaw in rng.sample(FLAWS, flaws):
        sentences = flaw(rng, sentences, slots)
    text = " ".join(sentences)
    return text[0].upper() + text[1:]


def preference(rng: random.Random, family: worlds.Family, prompt_pattern: str, slots: Slots) -> dict[str, str]:
    """An answer without a flaw, and another one with one to three."""
    chosen, rejected = (good_answer(rng, family, prompt_pattern, slots) for _ in range(2))
    return {"chosen": written(rng, chosen, slots, 0), "rejected": written(rng, rejected, slots, rng.choice((1, 2, 3)))}


def requests(rng: random.Random) -> Iterator[tuple[worlds.Family, str, Slots, str]]:
    """Endless different requests: family, pattern, slots, text."""
    seen: set[str] = set()
    families = list(worlds.FAMILIES.values())
    while True:
        family = rng.choices(families, weights=[family.share for family in families])[0]
        pattern, slots = rng.choice(family.prompts), draw_slots(rng)
        text = fill(pattern, slots)
        if text not in seen:
            seen.add(text)
            yield family, pattern, slots, text


def checks(pattern: str, slots: Slots) -> dict[str, object]:
    """The verifiable part of a request, in IFEval's columns: words that it names and the answer must have."""
    if "words {" not in pattern:
        return {"instruction_id_list": [], "kwargs": []}
    words = [slots[name] for name in re.findall(r"\{(\w+)\}", pattern)]
    return {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": words}]}


def plain_texts(rng: random.Random) -> Iterator[str]:
    """Endless passages of plain narration, no request and no answer."""
    while True:
        slots = draw_slots(rng)
        yield " ".join(fill(pattern, slots) for pattern in rng.sample(worlds.NARRATIONS, rng.choice((3, 4))))


def write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write gzipped JSON lines without a time stamp, so that equal rows are equal bytes; print size and digest."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.encode())
    print(
        f"{path.name}  {path.stat().st_size} bytes  sha256 of the lines {hashlib.sha256(text.encode()).hexdigest()[:16]}"
    )


def main(directory: Path) -> None:
    """Write the five files."""
    rng = random.Random(SEED)
    asked = requests(rng)
    evaluation = [
        {"prompt": text, **checks(pattern, slots)}
        for _, pattern, slots, text in (next(asked) for _ in range(EVALUATION))
    ]
    prompts = [{"prompt": next(asked)[3]} for _ in range(PROMPTS)]
    demonstrations = []
    for _ in range(DEMONSTRATIONS):
        family, pattern, slots, text = next(asked)
        demonstrations.append({"instruction": text, "input": "", "output": answer(rng, family, pattern, slots)})
    passages = plain_texts(rng)
    general = [{"text": next(passages)} for _ in range(GENERAL)]
    preferences = []
    for _ in range(PREFERENCES):
        family, pattern, slots, text = next(asked)
        preferences.append({"prompt": text, **preference(rng, family, pattern, slots)})
    write(directory / "evaluation.jsonl.gz", evaluation)
    write(directory / "prompts.jsonl.gz", prompts)
    write(directory / "demonstrations.jsonl.gz", demonstrations)
    write(directory / "general.jsonl.gz", general)
    write(directory / "preferences.jsonl.gz", preferences)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
