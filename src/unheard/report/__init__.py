"""The report of a run: one HTML page that needs nothing else, the same in Markdown, figures and tables for a paper.

records, statistics -> content (sections of words, tables, figures) -> HTML, Markdown, LaTeX, SVG, PDF, PNG
"""

from unheard.report.write import write_report

__all__ = ["write_report"]
