"""Orders that are the same on every machine: natural order, seeded order, and who is tied to whom."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import TypeVar

from unheard.errors import SplitError
from unheard.manifest import Manifest
from unheard.splits.split import key_of

T = TypeVar("T")
GENDERS = {
    **dict.fromkeys(("f", "female", "w", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}


def natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sorting key under which speaker 2 comes before speaker 10."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts if p], text


def shuffled(items: Sequence[T], seed: str) -> list[T]:
    """The items in a seeded order.

    Sorted by draws of `random.Random(seed).random()`, the one sequence that Python promises to keep between
    versions and platforms; a text seed does not depend on `PYTHONHASHSEED`.
    """
    draw = random.Random(seed)
    return [item for _, item in sorted(((draw.random(), item) for item in items), key=lambda pair: pair[0])]


def in_turn(strata: Iterable[Sequence[T]]) -> list[T]:
    """The first of every stratum, then the second of every stratum, and so on."""
    gap = object()
    return [item for item in chain.from_iterable(zip_longest(*strata, fillvalue=gap)) if item is not gap]  # type: ignore[misc]


class Groups:
    """The groups of a manifest in natural order: their utterances, their genders, and who is tied to whom.

    Two groups are tied when they share a session or, where the group is not the speaker, a speaker.
    """

    def __init__(self, manifest: Manifest, group: str) -> None:
        self.manifest = manifest
        self.column = group
        self.ids: dict[str, list[str]] = defaultdict(list)
        self._genders: dict[str, set[str]] = defaultdict(set)
        ties: dict[Hashable, set[str]] = defaultdict(set)
        for row in manifest:
            name = key_of(row, group)
            if not name:
                raise SplitError(
                    f"utterance '{row.id}' has no value in the group column '{group}'",
                    mend="Fill the column, or choose another with --group.",
                )
            self.ids[name].append(row.id)
            self._genders[name].add(GENDERS.get(row.gender.strip().lower(), ""))
            ties["speaker", row.speaker].add(name)
            if session := key_of(row, "session"):
                ties["session", session].add(name)
        self.names: list[str] = sorted(self.ids, key=natural)
        self.blocks: list[list[str]] = _components(self.names, ties.values())

    def gender(self, name: str) -> str:
        """`female`, `male`, '' where it is unknown, `female+male` where the group mixes them."""
        return "+".join(sorted(self._genders[name]))

    def stratum(self, block: Sequence[str]) -> str:
        """What a block of groups is stratified by: the genders in it."""
        return "+".join(sorted({self.gender(name) for name in block}))

    def shuffled_strata(self, blocks: Sequence[list[str]], seed: str) -> list[list[list[str]]]:
        """Blocks by stratum (in alphabetical order), seeded order within each."""
        strata: dict[str, list[list[str]]] = defaultdict(list)
        for block in blocks:
            strata[self.stratum(block)].append(block)
        return [shuffled(strata[name], f"{seed}/{name}") for name in sorted(strata)]

    def in_seeded_order(self, seed: str) -> list[str]:
        """The groups in seeded order; tied ones stand side by side, so that few are left out of training."""
        return [name for block in shuffled(self.blocks, seed) for name in block]


def _components(names: Sequence[str], ties: Iterable[set[str]]) -> list[list[str]]:
    root = {name: name for name in names}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for tied in ties:
        first, *others = sorted(tied)
        for other in others:
            root[find(other)] = find(first)
    blocks: dict[str, list[str]] = defaultdict(list)
    for name in names:
        blocks[find(name)].append(name)
    return list(blocks.values())
