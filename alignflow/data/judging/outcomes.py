"""What a judge said about one pair, beside what people said about it: what every figure of a judge report is computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace

_ROUNDING = 1e-9
Orders = tuple[float | None, float | None]


@dataclass(frozen=True)
class Outcome:
    """One judged pair.

    Attributes:
        row: Id of its prompt: pairs of one prompt are resampled together.
        probability: P(first is better) by the judge; None is no label.
        orders: P(first is better) as asked with first in the first seat, and as asked with the seats swapped.
        masses: Probability of the judge's options together, in each order; None where it was not asked for options.
        reason: Why there is no label; empty where there is one.
        gold: 1.0 where people prefer the first, 0.0 the second, 0.5 a tie; None where nobody said.
        lengths: Characters of both answers.
        families: Who wrote the answers; empty where that is not known.
    """

    row: str
    probability: float | None
    orders: Orders = (None, None)
    masses: Orders = (None, None)
    reason: str = ""
    gold: float | None = None
    lengths: tuple[int, int] = (0, 0)
    families: tuple[str, str] = ("", "")

    @property
    def flips(self) -> bool:
        """Whether the preferred answer changes with the order."""
        return flipped(self.orders)

    @property
    def choice(self) -> float | None:
        """The label that is made of it: 1.0 the first, 0.0 the second, 0.5 a tie (one half, or a flip); None is no label."""
        if self.probability is None:
            return None
        return 0.5 if self.flips else side(self.probability)

    @property
    def decided(self) -> bool:
        """Whether one answer is preferred."""
        return self.choice in (0.0, 1.0)

    def swapped(self) -> Outcome:
        """The same pair with first and second exchanged: the second answer in the first seat is now the order as given."""
        given, other = self.orders
        return replace(
            self,
            probability=_mirrored(self.probability),
            orders=(_mirrored(other), _mirrored(given)),
            masses=self.masses[::-1],
            gold=_mirrored(self.gold),
            lengths=self.lengths[::-1],
            families=self.families[::-1],
        )


def settled(probability: float) -> float:
    """The probability, with one that differs from one half by rounding alone made exactly one half: a tie."""
    return 0.5 if abs(probability - 0.5) < _ROUNDING else probability


def side(probability: float) -> float:
    """1.0 for the first, 0.0 for the second, 0.5 for a tie."""
    found = settled(probability)
    return 0.5 if found == 0.5 else float(found > 0.5)


def flipped(orders: Orders) -> bool:
    """Whether two orders prefer different answers; an order that prefers neither, or was not asked, does not count.

    Such a pair is a tie, whatever the mean of its orders is (Zheng et al. 2023, arXiv 2306.05685, section 3.4).
    """
    given, swapped = orders
    return given is not None and swapped is not None and (settled(given) - 0.5) * (settled(swapped) - 0.5) < 0


def _mirrored(probability: float | None) -> float | None:
    return None if probability is None else 1.0 - probability
