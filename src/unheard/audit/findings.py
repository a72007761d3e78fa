"""What an audit found, and what the manifest holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: how bad, a short stable word for programs, a sentence, whom it concerns, the mend."""

    severity: Severity
    kind: str
    message: str
    ids: tuple[str, ...] = ()
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The manifest in numbers; `hours` is None where nobody listened, `table` is speaker -> emotion -> rows."""

    utterances: int
    speakers: int
    hours: float | None
    genders: Mapping[str, int]
    emotions: Mapping[str, int]
    sample_rates: Mapping[int, int]
    table: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Findings:
    """The findings, worst first, and the summary.

    `digests` are hashes of the decoded samples by id, of all that was heard. `copies` names the recording of
    every utterance that has an exact or near copy, alike for all its copies: `exclude_shared_recordings` takes
    either.
    """

    findings: tuple[Finding, ...]
    summary: Summary
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    copies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @property
    def worst(self) -> Severity | None:
        """The worst severity, None where nothing was found."""
        return next((level for level in SEVERITIES if self.of(level)), None)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def kinds(self) -> frozenset[str]:
        """The kinds that were found."""
        return frozenset(finding.kind for finding in self.findings)


def some(names: tuple[str, ...] | list[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def count(number: int, thing: str) -> str:
    """1 file, 2 files."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
