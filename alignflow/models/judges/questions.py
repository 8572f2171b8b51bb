"""Questions of judges, critics and writers to a language model: Jinja files in a sandbox, with untrusted texts between fences."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from alignflow.data.errors import RecipeError
from alignflow.data.records import user
from alignflow.data.run import Run
from alignflow.data.tools import told
from alignflow.models.judges.fences import fence_of
from alignflow.models.judges.judge_model import Question

_PROMPTS = Path(__file__).parent / "prompts"


class QuestionTemplate:
    """The template of a question.

    Args:
        name: A built-in name, or the path of a Jinja file.
        variables: The variables that such a file may use besides `fence`.
        run: Gets a warning if a file does not use `fence`.
        where: Its place in the recipe.

    Raises:
        RecipeError: there is no such file, or it is not a template.
    """

    def __init__(
        self, name: str, variables: Sequence[str], run: Run | None = None, where: str = "judge.options.prompt"
    ):
        self.source = read_question(name)
        self._where, self._advice = where, f"a prompt may use {', '.join(variables)}"
        self._template = parse_question(self.source, name, self._advice)
        if run is not None and "fence" in variables and "fence" not in names_of(self.source):
            run.warn(f"the judge's prompt {name!r} does not use `fence`: an answer can imitate the question")

    def text(self, **values: Any) -> str:
        """The rendered question; raises RecipeError if the file cannot be rendered."""
        try:
            return str(self._template.render(**values)).strip()
        except TemplateError as error:
            raise RecipeError(
                f"the judge's prompt cannot be rendered: {error}", where=self._where, do=self._advice
            ) from error

    def fenced(
        self, key: str, conversation: Sequence[Mapping[str, Any]], enclosed: Mapping[str, str], **values: Any
    ) -> Question:
        """The question about a conversation and untrusted texts; all of them are between fences with the same code.

        Args:
            key: Identifies the judge; see `fence_of`.
            conversation: The messages before the answers.
            enclosed: Variable -> untrusted text.
            values: Other variables.
        """
        shown = shown_turns(conversation)
        fence = fence_of(key, shown, *enclosed.values())
        return Question(tuple(user(self.text(conversation=shown, fence=fence, **enclosed, **values))))


def shown_turns(conversation: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The turns as a question shows them: tool calls are shown as text."""
    return [{"role": message["role"], "content": told(message)} for message in conversation]


def question_seed(seed: int, question: Question, index: int = 0) -> int:
    """The 64-bit seed of reply `index` to a question: it depends on the question's texts and not on other questions."""
    content = "\x00".join(f"{turn['role']}\x00{turn['content']}" for turn in question.messages)
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{content}".encode()).digest()[:8], "big")


def read_question(name_or_path: str) -> str:
    """The source of a built-in prompt or of a file; raises RecipeError if there is none."""
    built_in = _PROMPTS / f"{name_or_path}.j2"
    path = built_in if "/" not in name_or_path and built_in.is_file() else Path(name_or_path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(file.stem for file in _PROMPTS.glob("*.j2")))
        raise RecipeError(
            f"no judge prompt {name_or_path!r}",
            where="judge.options.prompt",
            do=f"use a built-in prompt ({names}) or the path of a Jinja file",
        ) from error


def parse_question(source: str, name: str, advice: str = "") -> Any:
    """The Jinja template, in a sandbox; raises RecipeError if it is broken."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise RecipeError(f"not a Jinja template: {error}", where=name, do=advice) from error


def names_of(source: str) -> set[str]:
    """The undeclared variables of a Jinja template; none for a broken one."""
    try:
        return find_undeclared_variables(ImmutableSandboxedEnvironment().parse(source))
    except TemplateError:
        return set()


def digest_source(sources: Iterable[QuestionTemplate]) -> str:
    """The sources of some questions as one text, for a judge's fingerprint."""
    return "".join(template.source for template in sources)
