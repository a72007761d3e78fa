"""Findings as text for a terminal, Markdown for a report, JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from unheard.audit.findings import SEVERITIES, Findings, count

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
