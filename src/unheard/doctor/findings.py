"""What an audit found, and what the manifest holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
    """The manifest in numbers; `hours` is None if the audio was not decoded, `table` is speaker -> emotion -> rows."""

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

    `digests` maps utterance ids to hashes of the decoded samples. `copies` maps every utterance that has an exact or
    near copy to the id of the first copy; `exclude_shared_recordings` accepts either.
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


# Findings as text for a terminal, Markdown for a report, JSON for a program.

MARKS = {"error": "ERROR  ", "warning": "warning", "note": "note   "}


def to_text(findings: Findings) -> str:
    """The summary in three lines, then a line a finding, worst first."""
    summary = findings.summary
    hours = "" if summary.hours is None else f", {_hours(summary.hours)}"
    lines = [
        f"{summary.utterances:,} utterances of {summary.speakers} speakers ({_counts(summary.genders)}){hours}",
        f"emotions: {_counts(summary.emotions)}",
        "",
    ]
    for finding in findings.findings:
        lines.append(f"{MARKS[finding.severity]}  {finding.message}")
        if finding.mend:
            lines.append(f"{'':9}{finding.mend}")
    totals = [count(len(findings.of(level)), level) for level in SEVERITIES if findings.of(level)]
    lines += ["", ", ".join(totals) or "nothing found"]
    return "\n".join(lines)


def to_markdown(findings: Findings) -> str:
    """A summary, a table of speakers by emotions and a table of findings."""
    summary = findings.summary
    hours = "" if summary.hours is None else f", {_hours(summary.hours)}"
    emotions = list(summary.emotions)
    lines = [
        f"{summary.utterances:,} utterances of {summary.speakers} speakers ({_counts(summary.genders)}){hours}.",
        "",
        "| severity | kind | finding | mend |",
        "|---|---|---|---|",
        *(f"| {f.severity} | `{f.kind}` | {_cell(f.message)} | {_cell(f.mend)} |" for f in findings.findings),
        "",
        f"| speaker | {' | '.join(emotions)} |",
        f"|---|{'---:|' * len(emotions)}",
        *(
            f"| {_cell(speaker)} | {' | '.join(str(row.get(emotion, 0)) for emotion in emotions)} |"
            for speaker, row in summary.table.items()
        ),
        f"| **all** | {' | '.join(str(summary.emotions[emotion]) for emotion in emotions)} |",
    ]
    return "\n".join(lines) + "\n"


def to_json(findings: Findings) -> str:
    """Everything, with all ids: {worst, summary, findings: [{severity, kind, message, ids, mend}]}."""
    body = {
        "worst": findings.worst,
        "summary": asdict(findings.summary),
        "findings": [asdict(finding) for finding in findings.findings],
    }
    return json.dumps(body, indent=1, ensure_ascii=False)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
