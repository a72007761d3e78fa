"""Findings, a summary of the manifest, and both as text, Markdown or JSON."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Literal

from unheard.errors import counted, some
from unheard.files import markdown_table
from unheard.manifest import Utterance

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding: severity, a short stable word for programs, a sentence, the utterances concerned, how to mend it."""

    severity: Severity
    kind: str
    message: str
    ids: tuple[str, ...] = ()
    mend: str = ""


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """Counts of a manifest; `hours` is None if no audio was decoded, `table` maps speaker -> emotion -> rows."""

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

    `digests` maps ids to hashes of the decoded samples. `copies` maps the id of every utterance with an exact or near
    copy to the id of the first copy. `exclude_shared_recordings` accepts either.
    """

    findings: tuple[Finding, ...]
    summary: ManifestSummary
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    copies: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @property
    def worst(self) -> Severity | None:
        """The worst severity; None without findings."""
        return next((level for level in SEVERITIES if self.of(level)), None)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(one for one in self.findings if one.severity == severity)

    def kinds(self) -> frozenset[str]:
        """Return the kinds of the findings."""
        return frozenset(one.kind for one in self.findings)


def finding(severity: Severity, kind: str, message: str, mend: str, rows: Iterable[Utterance] = ()) -> Finding:
    """Make a finding about `rows`."""
    return Finding(severity, kind, message, tuple(dict.fromkeys(row.id for row in rows)), mend)


def listed(
    severity: Severity,
    kind: str,
    thing: str,
    what: str,
    groups: Mapping[str, Sequence[Utterance]],
    mend: str,
    show: Callable[[str, Sequence[Utterance]], str] = lambda name, rows: name,
    most: int = 5,
) -> Iterator[Finding]:
    """Yield one finding that counts and lists rows by name, such as "2 speakers with one emotion: a, b"; or none."""
    if groups:
        message = f"{counted(len(groups), thing)} {what}: {some([show(*group) for group in groups.items()], most)}"
        yield finding(severity, kind, message, mend, [row for rows in groups.values() for row in rows])


def to_text(findings: Findings) -> str:
    """Render for a terminal: a summary, then each finding with its mend, worst first."""
    lines = [_overview(findings.summary), f"emotions: {_counts(findings.summary.emotions)}", ""]
    for one in findings.findings:
        mark = "ERROR" if one.severity == "error" else one.severity
        lines += [f"{mark:9}{one.message}", *([f"{'':9}{one.mend}"] if one.mend else [])]
    totals = [counted(len(findings.of(level)), level) for level in SEVERITIES if findings.of(level)]
    lines += [*[""] * bool(totals), ", ".join(totals) or "no findings"]
    return "\n".join(lines)


def to_markdown(findings: Findings) -> str:
    """Render as Markdown: a summary, a table of the findings, a table of speakers by emotions."""
    summary, emotions = findings.summary, list(findings.summary.emotions)
    found = [(one.severity, f"`{one.kind}`", _cell(one.message), _cell(one.mend)) for one in findings.findings]
    counts = [*summary.table.items(), ("**all**", summary.emotions)]
    rows = [[_cell(name), *(str(row.get(emotion, 0)) for emotion in emotions)] for name, row in counts]
    tables = [
        markdown_table(("severity", "kind", "finding", "mend"), found, [False] * 4),
        markdown_table(("speaker", *emotions), rows),
    ]
    return "\n\n".join([f"{_overview(summary)}.", *tables]) + "\n"


def to_json(findings: Findings) -> str:
    """Render as JSON, with all ids: {worst, summary, findings: [{severity, kind, message, ids, mend}]}."""
    body = {
        "worst": findings.worst,
        "summary": asdict(findings.summary),
        "findings": [asdict(one) for one in findings.findings],
    }
    return json.dumps(body, indent=1, ensure_ascii=False)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _overview(summary: ManifestSummary) -> str:
    hours = summary.hours
    duration = "" if hours is None else f", {hours:.1f} hours" if hours >= 1 else f", {hours * 60:.1f} minutes"
    size = f"{counted(summary.utterances, 'utterance')} of {counted(summary.speakers, 'speaker')}"
    return f"{size} ({_counts(summary.genders)}){duration}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
