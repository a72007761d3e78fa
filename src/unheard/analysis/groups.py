"""Whom a recogniser serves badly: emotion recall speaker by speaker, and between genders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.resample import DRAWS, Estimate
from unheard.splits.protocols import GENDERS, natural


@dataclass(frozen=True)
class Person:
    """One speaker: `uar` over the emotions the speaker shows (`emotions` of them), in `recordings` recordings."""

    speaker: str
    gender: str
    recordings: int
    emotions: int
    uar: Estimate


@dataclass(frozen=True)
class Groups:
    """Emotion UAR of every speaker (in natural order), and what it comes to.

    `mean` and `deviation` (sample) are over speakers; `gender_gap` is the mean UAR of women less that of men, NaN where
    a gender is not there. Intervals resample each speaker's recordings of each emotion; the speakers stay.
    """

    people: tuple[Person, ...]
    mean: float
    deviation: float
    gender_gap: Estimate
    gender_unknown: int

    @property
    def worst(self) -> Person:
        """The speaker with the lowest UAR; the first one on a tie."""
        return min(self.people, key=lambda person: person.uar.value)

    @property
    def best(self) -> Person:
        """The speaker with the highest UAR; the first one on a tie."""
        return max(self.people, key=lambda person: person.uar.value)

    @property
    def spread(self) -> float:
        """The best speaker's UAR less the worst's."""
        return self.best.uar.value - self.worst.uar.value

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "people": [asdict(person) | {"uar": person.uar.as_list()} for person in self.people],
            "mean": self.mean,
            "deviation": None if math.isnan(self.deviation) else self.deviation,
            "gender_gap": self.gender_gap.as_list(),
            "gender_unknown": self.gender_unknown,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Groups:
        """What `as_dict` wrote."""
        people = tuple(Person(**{**person, "uar": Estimate.from_list(person["uar"])}) for person in values["people"])
        deviation = math.nan if values["deviation"] is None else float(values["deviation"])
        gap = Estimate.from_list(values["gender_gap"])
        return cls(people, float(values["mean"]), deviation, gap, int(values["gender_unknown"]))


def compare_groups(
    speakers: Sequence[str],
    genders: Sequence[str],
    emotions: Sequence[Any],
    predicted: Sequence[Any],
    seed: int = 0,
) -> Groups:
    """Emotion UAR per speaker from true and `predicted` emotions (words or indices), (n,) each.

    A recall counts only for the emotions that a speaker shows. A gender is known when it is female or male (or f, m).
    """
    who = np.asarray(speakers, dtype=np.str_)
    truth, hits = np.asarray(emotions), np.asarray(emotions) == np.asarray(predicted)
    random = np.random.default_rng(seed)
    people, draws = [], []
    for name in sorted(set(speakers), key=natural):
        own = who == name
        sexes = {GENDERS.get(gender.strip().lower(), "") for gender, mine in zip(genders, own, strict=True) if mine}
        right = [hits[own & (truth == emotion)] for emotion in np.unique(truth[own])]
        uar = float(np.mean([group.mean() for group in right]))
        # drawing hits and misses with replacement is drawing from a binomial distribution
        drawn = np.mean([random.binomial(len(g), g.mean(), DRAWS) / len(g) for g in right], axis=0)
        gender = sexes.pop() if len(sexes) == 1 else ""
        people.append(Person(name, gender, int(own.sum()), len(right), Estimate.of(uar, drawn)))
        draws.append(drawn)
    values = np.array([person.uar.value for person in people])
    known = [person.gender for person in people]
    return Groups(
        tuple(people),
        float(values.mean()),
        float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        _gap(known, values, np.array(draws)),
        known.count(""),
    )


def _gap(genders: Sequence[str], values: NDArray[np.float64], draws: NDArray[np.float64]) -> Estimate:
    """Women's mean UAR less men's, from the speakers' `values` (S,) and their `draws` (S, draws)."""
    women, men = (np.flatnonzero([own == gender for own in genders]) for gender in ("female", "male"))
    if not len(women) or not len(men):
        return Estimate(math.nan)
    return Estimate.of(values[women].mean() - values[men].mean(), draws[women].mean(axis=0) - draws[men].mean(axis=0))
