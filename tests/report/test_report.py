"""The report of a run: its figures are the records', it needs nothing but itself, and strange words stay words."""

from __future__ import annotations

import math
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from reporting import invent

from unheard import report
from unheard.analysis.intervals import Estimate, Interval
from unheard.analysis.speaker_leakage import GroupRecalls, Leakage, SpeakerRecall
from unheard.cli import main
from unheard.errors import RunError
from unheard.experiments.leakage import LineLeakage
from unheard.experiments.records import read_run
from unheard.experiments.summary import summarise
from unheard.report import compose, write_report
from unheard.report.content import (
    Figure,
    Table,
    latex_of,
    latex_text,
    limits,
    markdown_of,
    markdown_text,
    percent,
    probability,
    spread,
)
from unheard.report.plots import dots, look_of, write_figure
from unheard.report.protocol import run_command

HOSTILE = "<script>alert(1)</script>&|_{{}}%$#\"'{}"
KINDS = report.KINDS
LOADS = {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "background", "formaction"}


class Page(HTMLParser):
    """Tags with their attributes, and the words of every table by its caption's id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "caption":
            self._rows = self.tables.setdefault(str(dict(attrs)["id"]).removeprefix("table-"), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open &= tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self._open:
            self._rows[-1][-1] += data


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Figures as SVG only: PDF takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "KINDS", ("svg",))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything: two directions, chosen knobs, a cell missing, histories, embeddings."""
    run = tmp_path_factory.mktemp("report") / "run"
    return invent(run, speakers=8, folds=2, both=True, tune="grid", seeds=2, systems=("ser", "dat"), epochs=9,
                  skip=[("ser", 1, 1)], each=4)  # fmt: skip


@pytest.fixture(scope="module")
def page(folder: Path, quick: None) -> Path:
    return write_report(folder, folder.parent / "report")


def test_nothing_is_loaded_from_anywhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    read = Page(text)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "embed", "base"}
    for tag, attributes in read.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in LOADS or str(value).startswith(("#", "data:image/png")), (tag, name)
    assert "@import" not in text
    assert "default-src 'none'" in text
    anchors = {str(attributes["id"]) for _, attributes in read.tags if "id" in attributes}
    assert {str(a["href"])[1:] for tag, a in read.tags if tag == "a"} <= anchors
    assert page.stat().st_size < 1_500_000


def test_every_figure_has_words_and_every_table_a_caption(page: Path) -> None:
    tags = Page(page.read_text(encoding="utf-8")).tags
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(drawings) >= 7
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in drawings)
    count = {name: sum(tag == name for tag, _ in tags) for name in ("table", "caption", "figure", "figcaption", "h1")}
    assert count["table"] == count["caption"] > 5
    assert count["figure"] == count["figcaption"] == len(drawings)
    assert count["h1"] == 1


def test_the_numbers_are_those_of_the_records(folder: Path, page: Path) -> None:
    run, text = read_run(folder), page.read_text(encoding="utf-8")
    tables = Page(text).tables
    assert [line.name for line in run.lines] == ["SER_only", "SER_SR_DAT", "SER_SR_DAT, λ chosen"]
    for line, shown in zip(run.lines, tables["accuracy"][1:], strict=True):
        assert shown[0] == line.name
        for place, part in ((1, "dev"), (2, "test")):
            values = [getattr(seed, part).wa for seed in line.seeds]
            std = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            assert shown[place] == f"{100 * np.mean(values):.1f}{std}"
        assert shown[4:] == [str(len(line.seeds)), f"{line.finished}/{line.planned}"]
    assert "Incomplete: SER_only 3/4 trainings." in text
    assert run.split_digest in text
    assert "b0b2ac87c4aa" in text
    choices = [(f"{c.value:g}", c.chosen) for c in run.candidates]
    assert [(c[1], float(c[4]), c[7] == "chosen") for c in tables["choice"][1:]] == [
        ("λ", float(value), chosen) for value, chosen in choices
    ]
    assert len(tables["folds"]) == 1 + 4  # two folds, in both directions


def test_contrasts_and_speakers_are_those_of_the_summary(folder: Path, page: Path) -> None:
    summary, tables = summarise(read_run(folder)), Page(page.read_text(encoding="utf-8")).tables
    families = list(dict.fromkeys(one.family for one in summary.contrasts))
    for family in families:
        own = [one for one in summary.contrasts if one.family == family]
        shown = tables["differences" + ("-chosen" if family.startswith("chosen") else "")][1:]
        for one, words in zip(own, shown, strict=True):
            low, high = percent(one.interval.low, sign=True), percent(one.interval.high, sign=True)
            assert words[:4] == [one.name, one.metric.upper(), percent(one.difference, sign=True), f"{low} to {high}"]
    assert len(tables["gaps"]) == 1 + len(summary.gaps)
    line = read_run(folder).lines[0]
    (seed,) = line.seeds
    by_name = {row[0]: row for row in tables["speakers"][1:]}
    assert set(by_name) == set(seed.test.speakers)
    for name, row in by_name.items():
        own_rows = np.array(seed.test.speakers) == name
        wa = np.mean(seed.test.truth[own_rows] == seed.test.predicted[own_rows])
        assert row[3].startswith(f"{percent(float(wa))} / ")


def test_the_same_run_gives_the_same_bytes(folder: Path, page: Path, tmp_path: Path) -> None:
    again_ = write_report(folder, tmp_path).parent
    files = sorted(path.relative_to(page.parent) for path in page.parent.rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".html", ".md", ".tex", ".svg"}
    assert files == sorted(path.relative_to(again_) for path in again_.rglob("*") if path.is_file())
    for path in files:
        assert (page.parent / path).read_bytes() == (again_ / path).read_bytes(), path
    names = {"tsne", "confusion", "curves", "recalls", "speakers", "differences", "choice", "invariance"}
    assert names <= {path.stem for path in files}
    for path in (page.parent / "figures").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    markdown = (page.parent / "report.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\((figures/[^)]+)\)", markdown):
        assert (page.parent / name).is_file()


def test_what_only_an_earlier_report_had_is_gone(page: Path, tmp_path: Path) -> None:
    """A report over one with more in it is that of an empty folder, but for files of the user's own."""
    poor = invent(tmp_path / "poor", systems=("ser",), seeds=1, extras=False)
    fresh = write_report(poor, tmp_path / "fresh").parent
    over = Path(shutil.copytree(page.parent, tmp_path / "over"))
    (over / "figures" / "mine.svg").write_text("mine")
    write_report(poor, over)
    left, there = (
        {path.relative_to(at).as_posix() for path in at.rglob("*") if path.is_file()} for at in (over, fresh)
    )
    assert left - there == {"figures/mine.svg"}


def test_maps_are_of_one_seed_that_all_systems_have_or_name_their_own(tmp_path: Path) -> None:
    skip = [("ser", fold, 0) for fold in range(2)]
    run = invent(tmp_path / "run", speakers=12, folds=2, seeds=2, systems=("ser", "dat"), skip=skip)
    assert "fold 0 of the run itself, seed 1." in report_of(run)
    skip += [("dat", fold, 1) for fold in range(2)]
    run = invent(tmp_path / "other", speakers=12, folds=2, seeds=2, systems=("ser", "dat"), skip=skip)
    assert "SER_only seed 1, SER_SR_DAT seed 0." in report_of(run).replace("\\_", "_")


def report_of(run: Path) -> str:
    return markdown_of(compose(read_run(run), summarise(read_run(run))))


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    run = invent(tmp_path, systems=("ser", "dat"), seeds=1, each=4, names=HOSTILE, ids="</svg><script>{}|{}")
    text = write_report(run).read_text(encoding="utf-8")
    assert not [tag for tag, _ in Page(text).tags if tag == "script"]
    assert "&lt;script&gt;" in text
    for path in (tmp_path / "figures").glob("*.svg"):
        assert not list(ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}script"))
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert r"\<script\>" in markdown
    assert not re.search(r"(?<!\\)<script", markdown)


@pytest.mark.parametrize(
    ("how", "there", "absent"),
    [
        ({"systems": ("dat",), "seeds": 1, "extras": False},
         ("history.jsonl, which this run does not have", "embeddings.npz, which this run does not have",
          "A comparison needs SER_only", "no other values were tried"), ()),
        ({"recipe": "strong", "epochs": 50, "extras": False},
         ("optimizer adamw", "epochs 50", "decision both", "class_weights none", "kind fbank", "tract 0.15"),
         ("validation chose",)),
    ],
)  # fmt: skip
def test_what_is_said_of_a_run(
    tmp_path: Path, how: dict[str, Any], there: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    text = report_of(invent(tmp_path, **how))
    assert [words for words in there if words not in text] == []
    assert [words for words in absent if words in text] == []


def test_a_run_with_nothing_finished(tmp_path: Path) -> None:
    run = invent(tmp_path, systems=("ser",), seeds=1, skip=[("ser", 0, 0), ("ser", 1, 0)])
    where = write_report(run)
    assert Page(where.read_text(encoding="utf-8")).tables["accuracy"][1] == ["SER_only", "–", "–", "–", "0", "0/2"]


@pytest.mark.parametrize(
    ("how", "last", "flags"),
    [
        ({"systems": ("ser", "dat"), "seeds": 2, "tune": "grid"}, {}, ""),
        ({"systems": ("ser", "dat"), "seeds": 2, "tune": "grid"}, {"systems": ["ser"], "seeds": 1, "tune": ""},
         " --systems ser,dat --seeds 2 --tune grid"),
        ({"systems": ("ser", "mtl"), "folds": 4}, {"folds": 2, "systems": ["ser"]}, " --systems ser,mtl --folds 4"),
    ],
)  # fmt: skip
def test_the_command_is_of_the_whole_run_not_of_the_last_call(
    tmp_path: Path, how: dict[str, Any], last: dict[str, Any], flags: str
) -> None:
    run = invent(tmp_path, extras=False, **how)
    settings = yaml.safe_load((run / "config.yaml").read_text()) | last
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert run_command(read_run(run)) == f"unheard experiment --config config.yaml --out NEW{flags}"


def test_an_invariance_of_other_settings_is_named_and_a_diverged_training_has_no_map(tmp_path: Path) -> None:
    run = invent(tmp_path, systems=("ser",), seeds=1, epochs=7)
    invent(run / "invariance", systems=("ser",), seeds=1, epochs=5)
    assert report_of(run).count("trained with other settings: training.epochs 5 instead of 7.") == 2
    for path in run.rglob("embeddings.npz"):
        with np.load(path) as arrays:
            np.savez(path, **{**arrays, "e": np.full_like(arrays["e"], np.inf)})
    (run / "invariance.json").unlink()
    assert "The map needs the trainings' embeddings.npz" in report_of(run)


def test_a_gap_between_genders_that_nobody_knows() -> None:
    groups = GroupRecalls((SpeakerRecall("a", "", 1, 1, Estimate(0.5)),), 0.5, math.nan, Estimate(math.nan), 1)
    one = Leakage(1, 1, 1, 1, 1, 1.0, 1.0, "texts", *[Estimate(0.5)] * 3, (1, 1), "any", groups)
    assert LineLeakage("SER_only", (0, 1), (one, one)).shown("gender_gap") == "–"


def test_the_verb_writes_every_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same figure twice is the same bytes in each format."""
    monkeypatch.setattr(report, "KINDS", KINDS)
    run = invent(tmp_path / "run", systems=("ser",), seeds=1, extras=False)
    assert main(["report", str(run), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.html")
    records = read_run(run)
    figure = next(block for block in compose(records, summarise(records)).blocks() if isinstance(block, Figure))
    for kind in ("svg", "pdf", "png"):
        write_figure(figure.drawing, tmp_path / f"again.{kind}", kind=kind)
        written = tmp_path / "out" / "figures" / f"{figure.name}.{kind}"
        assert (tmp_path / f"again.{kind}").read_bytes() == written.read_bytes()
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err.replace("\n", " ")
    with pytest.raises(RunError):
        write_report(tmp_path / "nowhere")


def test_a_legend_of_long_names_fits_and_tells_systems_apart_in_grey() -> None:
    names = ("SER_only", "SER_SR_DAT", "SVM (functionals)", "SVM (pooled frames)", "ComParE 2016 + SVM")
    looks = {name: look_of(name, place) for place, name in enumerate(names)}
    assert len({look.marker for look in list(looks.values())[1:]}) == 4
    drawing = dots({"Recall": {name: [0.5] for name in names}}, ["sad"], looks, "%", references=[0.25])
    drawing.draw_without_rendering()
    legend, page = drawing.legends[0].get_window_extent(), drawing.bbox
    assert (page.x0, page.y0) <= (legend.x0, legend.y0)
    assert legend.x1 <= page.x1


def test_percent_and_its_company() -> None:
    assert [percent(x) for x in (0.5384, 0.0, -0.01, math.nan, None)] == ["53.8", "0.0", "−1.0", "–", "–"]
    assert [percent(x, sign=True) for x in (0.026, -0.0001, 0.0004, -0.02)] == ["+2.6", "0.0", "0.0", "−2.0"]
    assert [spread(0.5, None), spread(0.5, 0.01), spread(None, None)] == ["50.0", "50.0 ± 1.0", "–"]
    assert limits(Interval(-0.01, 0.02), sign=True) == "−1.0 to +2.0"
    assert [probability(p) for p in (1 / 10_001, 0.00999, 0.05, 1.0)] == ["0.0001", "0.0100", "0.050", "1.000"]


def test_a_table_in_latex_names_its_metrics() -> None:
    bold = frozenset({(0, 1)})
    text = latex_of(Table("accuracy", "WA & more", ("System", "Val WA, %"), (("SER_only", "53.9 ± 1.0"),), (), bold))
    lines = (r"System & Val WA, \% \\", r"SER\_only & \textbf{53.9 $\pm$ 1.0} \\", r"\begin{tabular}{lr}")
    assert set(lines) <= set(text.splitlines())


def test_words_for_latex_and_markdown() -> None:
    assert latex_text('"a" [1] *') == "''a'' {[}1] {*}"  # the double quote has a command in another encoding only
    special = r"$\lambda$\_0 = 5\% \& \textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert latex_text("λ_0 = 5%\n& ~^\\") == special
    assert markdown_text("a|b\n<i>*x*") == r"a\|b \<i\>\*x\*"
    assert markdown_text("SER_only _x_ __y") == r"SER_only \_x\_ \_\_y"
