"""Check corpora and splits, also those made elsewhere.

`examine` decodes every recording of a manifest and reports what makes results on it doubtful: broken, silent or
repeated files, leaking splits, emotions tied to speakers, sentences or sessions.
"""

from unheard.doctor.examine import examine
from unheard.doctor.findings import Finding, Findings, Summary, to_json, to_markdown, to_text

__all__ = ["Finding", "Findings", "Summary", "examine", "to_json", "to_markdown", "to_text"]
