"""A report as one HTML file that needs nothing else: style and drawings are inside, and nothing is loaded."""

from __future__ import annotations

from unheard.errors import MissingExtra
from unheard.experiments.report.content import Report


def html_of(report: Report) -> str:
    """The page. Words are escaped by the template engine, drawings escape their own.

    Raises `MissingExtra` without Jinja2.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "train") from error
    room = "unheard.experiments.report"
    environment = Environment(
        loader=PackageLoader(room, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = environment.loader.get_source(environment, "style.css")[0]  # type: ignore[union-attr]
    page: str = environment.get_template("report.html").render(report=report, style=Markup(source), drawn=Markup)
    return page
