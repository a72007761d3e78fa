"""The report of a run: one HTML page that needs nothing else, and the same in Markdown, LaTeX, CSV and SVG.

records, statistics -> content (sections of words, tables, figures) -> html, text, svg
"""

from unheard.report.write import write_report

__all__ = ["write_report"]
