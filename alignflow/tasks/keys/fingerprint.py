"""The source behind each version: fingerprints of the definitions that a part reaches, and the other parts that it reaches."""

from __future__ import annotations

from collections import Counter
from functools import cache, cached_property

from alignflow.data.artifacts import digest_of
from alignflow.data.shared_parts import PARTS, VERSIONED
from alignflow.tasks.keys.reach import Code, Definition, written_rows

WORKER = (Definition("alignflow.worker", "run_body"), Definition("alignflow.worker", "prepare_process"))
"""The module that runs every stage body."""


def part_name(table: str, name: str) -> str:
    """A part's name in the lock file."""
    return f"{table}.{name}"


def row_nodes(part: str) -> tuple[Definition, ...]:
    """Where a part's code starts: its row, which names address, config and options; empty for the shared parts."""
    table, _, name = part.partition(".")
    row = written_rows().get((table, name))  # none for a row that a test adds
    rows = () if table == "parts" or row is None else (row,)
    return (*rows, *WORKER) if table == "stages" else rows


class Parts:
    """The part that each definition belongs to.

    A shared part owns its modules. A row of the catalogue owns the module of its address, unless other parts own some of that
    module: then it owns only what its address names. A definition without an owner belongs to every part that reaches it.
    """

    def __init__(self, code: Code | None = None):
        self.code = code or Code()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all parts in the lock file."""
        return tuple(part_name(table, name) for table, rows in VERSIONED.items() for name in rows)

    @cached_property
    def reached(self) -> set[Definition]:
        """Every definition that any part reaches."""
        return self.code.reached(node for part in self.names for node in row_nodes(part))

    @cached_property
    def _owners(self) -> dict[str, str]:
        """Module, or `module:name` -> the part that owns it."""
        owners = {member: f"parts.{name}" for name, shared in PARTS.items() for member in shared.members}
        addresses = [
            (address, part_name(table, name))
            for table, rows in VERSIONED.items()
            if table != "parts"
            for name, row in rows.items()
            for address in (getattr(row, "address", ""), getattr(row, "fills", ""))
            if address
        ]
        holders = Counter(module for module, _ in {(address.partition(":")[0], part) for address, part in addresses})
        holders.update(member.partition(":")[0] for member in owners)
        for address, part in addresses:
            module = address.partition(":")[0]
            owners.setdefault(module if holders[module] == 1 else address, part)
        for part in self.names:
            owners.update({str(node): part for node in row_nodes(part) if node not in WORKER})
        return owners

    def owner(self, node: Definition) -> str | None:
        """The part that a definition belongs to, or None if it belongs to every part that reaches it."""
        return self._owners.get(str(node)) or self._owners.get(node.module)

    @cached_property
    def _owned(self) -> dict[str, set[Definition]]:
        owned: dict[str, set[Definition]] = {part: set(row_nodes(part)) - set(WORKER) for part in self.names}
        for node in self.reached:
            if part := self.owner(node):
                owned[part].add(node)
        return owned

    def members(self, part: str) -> frozenset[Definition]:
        """The definitions behind a part's version: its own, and those without an owner that they reach."""
        seen = set(self._owned[part])
        queue = [*seen, *row_nodes(part)]
        while queue:
            new = {node for node in self.code.uses(queue.pop()) if self.owner(node) in (None, part)} - seen
            seen |= new
            queue.extend(new)
        return frozenset(seen)

    def fingerprint(self, part: str) -> str:
        """Digest of the definitions behind a part's version."""
        digests = {str(node): self.code.digest(node) for node in self.members(part)}
        return digest_of({name: digest for name, digest in digests.items() if digest})

    def reaches(self, part: str) -> list[str]:
        """The other parts that own something that a part's code reaches, directly or not; sorted. Empty for the shared
        parts: a key takes the rows that a call uses."""
        owners = {self.owner(node) for node in self.code.reached(row_nodes(part))}
        return sorted(owner for owner in owners if owner not in (None, part))


@cache
def fingerprint(table: str, name: str) -> str:
    """Digest of every definition that a row's code reaches, whichever part owns it; for the manifest."""
    code = Code()
    digests = {str(node): code.digest(node) for node in code.reached(row_nodes(part_name(table, name)))}
    return digest_of({where: digest for where, digest in digests.items() if digest})
