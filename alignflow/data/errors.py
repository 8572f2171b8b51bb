"""Every error that alignflow raises on purpose: what happened, where, and what to do about it.

Each has the status that a command ends with: 1 failed, 2 the user's input is wrong, 3 a gate waits for a person,
4 a gate stopped the run. Beside these there are 0 (done, also where a gate ended the run as finished) and 130
(interrupted). docs/operate.md has the same table.
"""

LONGEST_QUOTE = 200
"""Characters of a user's value that a message shows."""


def cut(text: str) -> str:
    """The text as a message shows it: at most LONGEST_QUOTE characters, and how many there were where some are left out."""
    return text if len(text) <= LONGEST_QUOTE else f"{text[: LONGEST_QUOTE - 30]}... ({len(text):,} characters)"


def quoted(value: object) -> str:
    """A user's value in quotes, as a message shows it."""
    if isinstance(value, str) and len(value) > LONGEST_QUOTE:
        return cut(value[:LONGEST_QUOTE].__repr__()[: LONGEST_QUOTE - 30] + f"... ({len(value):,} characters)")
    try:
        return cut(repr(value))
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"


class AlignflowError(Exception):
    """A failure with one clear message. `exit_status` is what the command line ends with.

    Args:
        what: What happened, with the value that caused it.
        where: The file, recipe key, stage or row that it happened at.
        do: What the user can do about it.
    """

    exit_status = 1

    def __init__(self, what: str, *, where: str = "", do: str = ""):
        self.what, self.where, self.do = what, where, do
        super().__init__(what)

    def __reduce__(self) -> tuple[object, ...]:
        return from_json, (to_json(self),)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  {self.do}" if self.do else ""
        return f"{place}{self.what}{advice}"


class UserError(AlignflowError):
    """The user's input is wrong; nothing was run with it. Exit status 2."""

    exit_status = 2


class RecipeError(UserError):
    """The recipe names something unknown, or a value of the wrong type or bound."""


class DataError(UserError):
    """A data file cannot be used: missing, empty, too many broken rows, wrong columns."""


class ModelError(UserError):
    """A model or tokenizer cannot be used: no EOS, no context length, remote code, wrong architecture."""


class TemplateRefusedError(ModelError):
    """A chat template refuses a conversation, for example its system turn."""


class StoreError(AlignflowError):
    """The artifact store cannot be read or written: permission, disk full, newer schema."""


class StageError(AlignflowError):
    """A stage ended without a result; the message carries the end of its log."""


class TrainingError(AlignflowError):
    """Training cannot be trusted: zero steps, a row without supervised tokens, a loss that is not finite."""


class DamagedArtifactError(AlignflowError):
    """An artifact's bytes are not the ones that its manifest records.

    `key` names the artifact, so that the flow can quarantine it and run its producer again.
    """

    def __init__(self, what: str, *, key: str, where: str = "", do: str = ""):
        super().__init__(what, where=where, do=do)
        self.key = key


class ApprovalNeededError(AlignflowError):
    """A gate waits for a person, who approves it by running again. Exit status 3."""

    exit_status = 3


class GateStoppedError(AlignflowError):
    """A gate's limit does not hold, or a person refused: nothing after its step was run. Exit status 4."""

    exit_status = 4


BY_NAME: dict[str, type[AlignflowError]] = {
    error.__name__: error
    for error in (
        AlignflowError,
        UserError,
        RecipeError,
        DataError,
        ModelError,
        TemplateRefusedError,
        StoreError,
        StageError,
        TrainingError,
        DamagedArtifactError,
        ApprovalNeededError,
        GateStoppedError,
    )
}


def to_json(error: AlignflowError) -> dict[str, str]:
    """Return `error` as plain fields, so that it can cross a process boundary."""
    fields = {"type": type(error).__name__, "what": error.what, "where": error.where, "do": error.do}
    if isinstance(error, DamagedArtifactError):
        fields["key"] = error.key
    return fields


def from_json(fields: dict[str, str]) -> AlignflowError:
    """Rebuild the error that `to_json` described."""
    arguments = {name: value for name, value in fields.items() if name not in ("type", "what")}
    return BY_NAME[fields["type"]](fields["what"], **arguments)
