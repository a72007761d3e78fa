"""The report of a run: its figures are the records', it needs nothing but itself, and strange words stay words."""

from __future__ import annotations

import csv
import math
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recording import finish
from reporting import invent

from unheard.analysis.intervals import Estimate
from unheard.analysis.speaker_leakage import Groups, Leakage, LineLeakage, SpeakerRecall
from unheard.cli import main
from unheard.errors import RunError
from unheard.experiments.config import load
from unheard.experiments.records import read_run
from unheard.experiments.summary import summarise
from unheard.report import embedding_plots as maps
from unheard.report import write_report
from unheard.report.content import Cell, Column, Table, interval, percent, probability, spread
from unheard.report.embedding_plots import flat, four_speakers, picked
from unheard.report.plots import confusion, look_of
from unheard.report.protocol import again, recipe
from unheard.report.svg import Canvas, Scale, together
from unheard.report.tables import csv_of, latex_like_paper, latex_of, latex_words, markdown_of, markdown_words
from unheard.report.write import compose

HOSTILE = "<script>alert(1)</script>&|_{{}}%$#\"'{}"
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


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything: two readings, chosen knobs, a cell missing, histories, embeddings."""
    run = tmp_path_factory.mktemp("report") / "run"
    return invent(run, speakers=8, folds=2, both=True, tune=True, seeds=2, systems=("ser", "dat"), epochs=9,
                  skip=[("ser", 1, 1)], each=4)  # fmt: skip


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_report(folder, folder.parent / "report")


def test_nothing_is_loaded_from_anywhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    read = Page(text)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "embed", "base", "use"}
    for tag, attributes in read.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in LOADS or str(value).startswith("#"), (tag, name, value)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    anchors = {str(attributes["id"]) for _, attributes in read.tags if "id" in attributes}
    assert {str(a["href"])[1:] for tag, a in read.tags if tag == "a"} <= anchors


def test_every_figure_has_words_and_every_table_a_caption(page: Path) -> None:
    tags = Page(page.read_text(encoding="utf-8")).tags
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert drawings
    assert all(attributes.get("role") == "img" for attributes in drawings)
    assert sum(bool(attributes.get("aria-label")) for attributes in drawings) > 15
    count = {name: sum(tag == name for tag, _ in tags) for name in ("table", "caption", "figure", "figcaption", "h1")}
    assert count["table"] == count["caption"] > 5
    assert count["figure"] == count["figcaption"] > 5
    assert count["h1"] == 1


def test_the_numbers_are_those_of_the_records(folder: Path, page: Path) -> None:
    run = read_run(folder)
    tables = Page(page.read_text(encoding="utf-8")).tables
    written = rows(page.parent / "tables" / "accuracy.csv")
    assert [line.name for line in run.lines] == ["SER_only", "SER_SR_DAT", "SER_SR_DAT, λ chosen"]
    for line, shown, row in zip(run.lines, tables["accuracy"][1:], written, strict=True):
        val, test = ([getattr(seed, part).wa for seed in line.seeds] for part in ("dev", "test"))
        assert shown[0] == row["system"] == line.name
        for place, key, values in ((1, "val_wa", val), (2, "test_wa", test)):
            std = f"{100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "–"
            assert shown[place] == f"{100 * np.mean(values):.1f} ± {std}"
            assert float(row[f"{key}_mean"]) == pytest.approx(np.mean(values), abs=1e-9)
        assert shown[4:] == [str(len(line.seeds)), f"{line.done}/{line.wanted}"]
    assert tables["accuracy"][1][4:] == ["1", "3/4"]
    assert "Incomplete: SER_only 3/4 trainings." in page.read_text(encoding="utf-8")
    for line in run.lines:
        for place, label in enumerate(run.labels):
            (row,) = [row for row in rows(page.parent / "tables" / "recalls.csv") if row["emotion"] == label]
            counts = [seed.test.confusion(len(run.labels)) for seed in line.seeds]
            mean = np.mean([c[place, place] / c[place].sum() for c in counts])
            assert float(row[f"recall_{line.name}_mean"]) == pytest.approx(mean, abs=1e-9)


def test_contrasts_are_those_of_the_summary(folder: Path, page: Path) -> None:
    summary = summarise(read_run(folder))
    for family, name in (("fixed", "differences"), ("chosen", "differences-chosen")):
        own = [one for one in summary.contrasts if one.family == family]
        written = rows(page.parent / "tables" / f"{name}.csv")
        shown = Page(page.read_text(encoding="utf-8")).tables[name][1:]
        assert len(own) == len(written) == len(shown) == 2
        for one, row, words in zip(own, written, shown, strict=True):
            assert (row["system"], row["metric"]) == (one.name, one.metric.upper())
            assert float(row["difference"]) == pytest.approx(one.difference)
            assert float(row["p_holm"]) == pytest.approx(one.p_holm)
            assert one.interval is not None
            assert float(row["interval_low"]) == pytest.approx(one.interval.low)
            assert words[2] == percent(one.difference, sign=True)
            assert words[3] == f"{percent(one.interval.low, sign=True)} to {percent(one.interval.high, sign=True)}"
    gaps = rows(page.parent / "tables" / "gaps.csv")
    assert [float(row["gap"]) for row in gaps] == pytest.approx([one.after for one in summary.gaps])


def test_speakers_and_their_accuracy(folder: Path, page: Path) -> None:
    line = read_run(folder).lines[0]
    (seed,) = line.seeds
    written = rows(page.parent / "tables" / "speakers-wa.csv")
    assert {row["speaker"] for row in written} == set(seed.test.speakers)
    for row in written:
        own = np.array(seed.test.speakers) == row["speaker"]
        assert float(row["SER_only"]) == pytest.approx(np.mean(seed.test.truth[own] == seed.test.predicted[own]))
        assert int(row["n"]) == own.sum()
        assert row["gender"] in ("female", "male")


def test_choices_and_proof_are_shown(folder: Path, page: Path) -> None:
    run, text = read_run(folder), page.read_text(encoding="utf-8")
    written = rows(page.parent / "tables" / "choice.csv")
    assert [(row["knob"], float(row["value"]), row["chosen"]) for row in written] == [
        (choice.knob, choice.value, str(choice.chosen)) for choice in run.choices
    ]
    assert run.split_digest in text
    assert "b0b2ac87c4aa" in text
    assert "Learning curves: every training thin" in text
    folds = rows(page.parent / "tables" / "folds.csv")
    assert len(folds) == 4  # two folds, read in both directions
    assert not any(set(row["dev_names"].split("; ")) & set(row["test_names"].split("; ")) for row in folds)


def test_the_same_run_gives_the_same_bytes(folder: Path, page: Path) -> None:
    again = write_report(folder, folder.parent / "again").parent
    files = sorted(path.relative_to(page.parent) for path in page.parent.rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".html", ".md", ".csv", ".tex", ".svg"}
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for path in files:
        assert (page.parent / path).read_bytes() == (again / path).read_bytes(), path


@pytest.mark.parametrize("skip", [[], [("ser", 0, 0)]])
def test_what_only_an_earlier_report_had_is_gone(page: Path, tmp_path: Path, skip: list[tuple[str, int, int]]) -> None:
    """A report over one with more in it is that of an empty folder, but for what somebody else put there."""
    full = {path.stem for path in (page.parent / "tables").iterdir()}
    poor = invent(tmp_path / "poor", systems=("ser",), seeds=1, extras=False, skip=skip)
    fresh = write_report(poor, tmp_path / "fresh").parent
    over = Path(shutil.copytree(page.parent, tmp_path / "over"))
    for mine in ("tables/mine.csv", "figures/mine.svg"):
        (over / mine).write_text("mine")
    write_report(poor, over)
    left = {path.relative_to(over).as_posix() for path in over.rglob("*")}
    assert left - {path.relative_to(fresh).as_posix() for path in fresh.rglob("*")} - {"figures"} == {
        "tables/mine.csv",
        "figures/mine.svg",
    }
    assert {"differences", "differences-chosen", "choice", "gaps", "invariance"} <= full - {
        path.stem for path in (over / "tables").iterdir()
    }


def test_maps_are_of_one_seed_that_all_systems_have(tmp_path: Path) -> None:
    skip = [("ser", fold, 0) for fold in range(2)]
    run = invent(tmp_path / "run", speakers=12, folds=2, seeds=2, systems=("ser", "dat"), skip=skip)
    write_report(run)
    text = (run / "report.md").read_text()
    assert "fold 0 of the run itself, seed 1." in text
    with (run / "maps.csv").open(newline="") as file:
        drawn = {row["digest"] for row in csv.DictReader(file)}
    of_seed = {maps.digest_of(cell): cell.seed for cell in read_run(run).cells}
    assert {of_seed[digest] for digest in drawn} == {1}


def test_maps_without_a_seed_in_common_say_their_own(tmp_path: Path) -> None:
    skip = [("ser", fold, 0) for fold in range(2)] + [("dat", fold, 1) for fold in range(2)]
    run = invent(tmp_path / "run", speakers=12, folds=2, seeds=2, systems=("ser", "dat"), skip=skip)
    write_report(run)
    assert "SER_only seed 1, SER_SR_DAT seed 0." in (run / "report.md").read_text().replace("\\_", "_")


def test_maps_outlive_their_embeddings(folder: Path, page: Path, tmp_path: Path) -> None:
    """As a published run has them: the same figure from a copy without `embeddings.npz`, until a training changes."""
    published = tmp_path / "run"
    shutil.copytree(folder, published, ignore=shutil.ignore_patterns("embeddings.npz", "report.html", "figures"))
    drawing = (page.parent / "figures" / "tsne.svg").read_bytes()
    assert (write_report(published).parent / "figures" / "tsne.svg").read_bytes() == drawing
    for path in published.rglob("predictions.csv"):
        path.write_text(path.read_text().replace(",0.0", ",0.1", 1))
    finish(published)
    assert "needs the trainings' embeddings.npz" in (write_report(published).parent / "report.md").read_text()
    (published / "maps.csv").write_text("digest,x\n1,no number\n")
    write_report(published)


def test_curves_outlive_their_histories(folder: Path, page: Path, tmp_path: Path) -> None:
    """The same drawing from a copy without `history.jsonl`, until a training changes."""
    published = tmp_path / "run"
    shutil.copytree(folder, published, ignore=shutil.ignore_patterns("history.jsonl", "report.html", "figures"))
    drawing, file = (page.parent / "figures" / "curves.svg").read_bytes(), (folder / "curves.csv").read_bytes()
    assert (write_report(published).parent / "figures" / "curves.svg").read_bytes() == drawing
    assert (published / "curves.csv").read_bytes() == file
    for path in published.rglob("predictions.csv"):
        path.write_text(path.read_text().replace(",0.0", ",0.1", 1))
    finish(published)
    assert "need the trainings' history.jsonl" in (write_report(published).parent / "report.md").read_text()
    for damage in ("digest,epoch\n1,no number\n", "epoch\n1\n", "digest,epoch\n1,1,2,3\n", "\0"):
        (published / "curves.csv").write_text(damage)
        write_report(published)


def test_curves_and_maps_of_what_is_not_here_stay(folder: Path, page: Path, tmp_path: Path) -> None:
    """A cell that is away for a while takes its whole seed out of the report, and nothing out of the files."""
    published = Path(shutil.copytree(folder, tmp_path / "run"))
    files = [published / name for name in ("curves.csv", "maps.csv")]
    before = [set(path.read_text().splitlines()) for path in files]
    cells = sorted((published / "cells").glob("*-fold0-seed0-*"))
    for cell in cells:
        shutil.move(cell, tmp_path / cell.name)
    write_report(published, tmp_path / "elsewhere")
    for cell in cells:
        shutil.move(tmp_path / cell.name, cell)
    for leftover in [*published.rglob("history.jsonl"), *published.rglob("embeddings.npz")]:
        leftover.unlink()
    assert all(lines <= set(path.read_text().splitlines()) for lines, path in zip(before, files, strict=True))
    again = write_report(published, tmp_path / "again").parent
    for name in ("curves", "tsne"):
        assert (again / "figures" / f"{name}.svg").read_bytes() == (
            page.parent / "figures" / f"{name}.svg"
        ).read_bytes()


def test_files_are_whole_by_themselves(page: Path) -> None:
    drawings = list((page.parent / "figures").glob("*.svg"))
    names = {"tsne", "confusion", "curves", "recalls", "speakers", "differences", "choice", "invariance"}
    assert names <= {path.stem for path in drawings}
    for path in drawings:
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.attrib["width"]) > 100
    markdown = (page.parent / "report.md").read_text(encoding="utf-8")
    for path in re.findall(r"\]\((figures/[^)]+)\)", markdown):
        assert (page.parent / path).is_file()
    assert page.stat().st_size < 1_000_000


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    run = invent(tmp_path, systems=("ser", "dat"), seeds=1, each=4, names=HOSTILE, ids="</svg><script>{}|{}")
    where = write_report(run)
    text = where.read_text(encoding="utf-8")
    assert not [tag for tag, _ in Page(text).tags if tag == "script"]
    assert "&lt;script&gt;" in text
    for path in (tmp_path / "figures").glob("*.svg"):
        assert not list(ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}script"))
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert r"\<script\>" in markdown
    assert not re.search(r"(?<!\\)<script", markdown)
    (row,) = [row for row in rows(tmp_path / "tables" / "speakers-wa.csv") if row["speaker"].endswith("'0")]
    assert row["speaker"] == HOSTILE.format(0)
    tex = (tmp_path / "tables" / "speakers-wa.tex").read_text(encoding="utf-8")
    assert r"\textless{}script\textgreater{}" in tex
    assert r"\&\textbar{}\_" in tex


def test_a_run_without_histories_embeddings_and_a_baseline(tmp_path: Path) -> None:
    run = invent(tmp_path, systems=("dat",), seeds=1, extras=False)
    text = write_report(run).read_text(encoding="utf-8")
    assert "history.jsonl, which this run does not carry" in text
    assert "embeddings.npz, which this run does not carry" in text
    assert "There is nothing to compare" in text
    assert "no other values were tried" in text


def test_a_run_with_nothing_finished(tmp_path: Path) -> None:
    run = invent(tmp_path, systems=("ser",), seeds=1, skip=[("ser", 0, 0), ("ser", 1, 0)])
    where = write_report(run)
    assert Page(where.read_text(encoding="utf-8")).tables["accuracy"][1] == ["SER_only", "–", "–", "–", "0", "0/2"]


def test_the_command_is_of_the_whole_run_not_of_the_last_call(tmp_path: Path) -> None:
    run = invent(tmp_path, systems=("ser", "dat"), seeds=2, tune=True, extras=False)
    assert again(read_run(run)) == "unheard experiment --config config.yaml --out NEW"
    text = (run / "config.yaml").read_text()
    settings = yaml.safe_load(text) | {"systems": ["ser"], "seeds": 1, "tune": False}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert again(read_run(run)).endswith(" --out NEW --systems ser,dat --seeds 2 --tune")


def test_an_invariance_of_other_settings_is_named_and_a_diverged_training_has_no_map(tmp_path: Path) -> None:
    run = invent(tmp_path, systems=("ser",), seeds=1, epochs=7)
    invent(run / "invariance", systems=("ser",), seeds=1, epochs=5)
    text = markdown_of(compose(read_run(run), summarise(read_run(run))))
    assert text.count("trained otherwise than the systems of the tables: training.epochs 5 instead of 7.") == 2
    for path in run.rglob("embeddings.npz"):
        with np.load(path) as arrays:
            np.savez(path, **{**arrays, "e": np.full_like(arrays["e"], np.inf)})
    (run / "invariance.json").unlink()
    assert "The map of the embeddings needs" in markdown_of(compose(read_run(run), summarise(read_run(run))))


def test_a_gap_between_genders_that_nobody_knows() -> None:
    groups = Groups((SpeakerRecall("a", "", 1, 1, Estimate(0.5)),), 0.5, math.nan, Estimate(math.nan), 1)
    one = Leakage(1, 1, 1, 1, 1, 1.0, 1.0, "texts", *[Estimate(0.5)] * 3, (1, 1), "any", groups)
    mean, std = LineLeakage("SER_only", (0, 1), (one, one)).over_seeds("gender_gap")
    assert math.isnan(mean)
    assert math.isnan(std)


def test_sizes_stay_bounded(tmp_path: Path) -> None:
    """24 speakers, four systems, long trainings; without embeddings: of those at most so many are drawn."""
    run = invent(tmp_path, speakers=24, each=8, folds=6, seeds=1, epochs=300)
    for path in run.rglob("embeddings.npz"):
        path.unlink()
    assert write_report(run).stat().st_size < 1_000_000


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = invent(tmp_path / "run", systems=("ser", "mtl"), seeds=1, extras=False)
    assert main(["report", str(run), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.html")
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err.replace("\n", " ")
    with pytest.raises(RunError):
        write_report(tmp_path / "nowhere")


def test_percent_and_its_company() -> None:
    assert [percent(x) for x in (0.5384, 0.0, -0.01, math.nan, None)] == ["53.8", "0.0", "−1.0", "–", "–"]
    assert [percent(x, sign=True) for x in (0.026, -0.0001, 0.0004, -0.02)] == ["+2.6", "0.0", "0.0", "−2.0"]
    assert spread(0.5, None).text == "50.0 ± –"
    assert spread(None, None).text == "–"
    assert interval(-0.01, 0.02, sign=True).text == "−1.0 to +2.0"
    assert [probability(p).text for p in (0.0001, 0.0312, 1.0)] == ["< 0.001", "0.031", "1.000"]


def test_latex_in_the_layout_of_the_paper() -> None:
    columns = (Column("System", "system", False), Column("Val", "val"), Column("Test", "test"))
    best = Cell("57.3 ± 1.2", {"mean": 0.573, "std": 0.012}, best=True)
    one = Cell("55.6 ± –", {"mean": 0.556, "std": math.nan})
    table = Table("accuracy", "100 % of_all", columns, ((Cell("SER_SR_CGT"), one, best),))
    text = latex_like_paper(table)
    assert r"SER\_SR\_CGT & 55.6\% & \textbf{57.3\%} ($\pm$1.2\%) \\" in text
    assert r"\caption{100 \% of\_all}" in text
    assert r"55.6 $\pm$ -- & \textbf{57.3 $\pm$ 1.2} \\" in latex_of(table)
    assert csv_of(table).splitlines() == ["system,val_mean,val_std,test_mean,test_std", ",0.556,,0.573,0.012"]


def test_words_for_latex_and_markdown() -> None:
    assert (
        latex_words('"a" [1] *')  # the double quote has a command in another encoding only
        == "''a'' {[}1] {*}"
    )
    assert (
        latex_words("λ_0 = 5%\n& ~^\\") == r"$\lambda$\_0 = 5\% \& \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert markdown_words("a|b\n<i>*x*") == r"a\|b \<i\>\*x\*"


def test_drawings() -> None:
    panel = confusion("A & B", np.array([[3, 1], [0, 0]]), ["angry", "sad"])
    ElementTree.fromstring(panel.svg())
    assert "angry taken for sad: 1 of 4" in panel.svg()
    assert ">75<" in panel.svg()
    assert "Recalls: angry 75 %." in panel.alt
    ElementTree.fromstring(together([panel, panel, panel], 2, "t"))
    canvas = Canvas(10, 10)
    canvas.curve([[(0, 0), (1, math.nan), (2, 2), (3, 3)]], "red")
    assert 'd="M0 0M2 2L3 3"' in canvas.parts[0]
    assert Scale(0, 1, 0, 100).ticks(4) == [0, 0.25, 0.5, 0.75, 1]
    assert Scale(0.01, 1, 0, 100, logarithmic=True)(0.1) == pytest.approx(50)
    assert look_of("dat", 0, chosen=True).hollow
    assert look_of("a-fifth", 4) != look_of("dat", 4)


def test_maps_are_seeded_and_bounded() -> None:
    random = np.random.default_rng(0)
    e = random.normal(size=(40, 8))
    assert np.array_equal(flat(e), flat(e))
    assert picked(10) == list(range(10))
    assert picked(4000) == picked(4000) == sorted(set(picked(4000)))
    assert len(picked(4000)) == 1500
    assert len(four_speakers([f"s{k % 9}" for k in range(4000)])) == 4
    assert four_speakers(["b", "a"]) == ["a", "b"]


def test_the_content_does_not_know_where_the_run_lies(tmp_path: Path) -> None:
    """A published report tells nothing about the machine it was made on."""
    run = invent(tmp_path / "somewhere-private", systems=("ser",), seeds=1, extras=False)
    report: Any = compose(read_run(run), summarise(read_run(run)))
    assert "somewhere-private" not in str(report)


def test_the_recipe_is_said_as_it_is(tmp_path: Path) -> None:
    paper = recipe(load(None, {"manifest": "made.csv", "out": "out"}))
    assert paper.startswith("SGD, momentum 0.9 (Nesterov), learning rate 0.001, batch 32")
    assert paper.endswith("100 epochs; the best epoch is chosen by validation accuracy")
    ours = recipe(load(None, {"manifest": "made.csv", "out": "out", "recipe": "strong"}))
    assert ours == (
        "AdamW, one cycle up to a learning rate of 0.002 (20 % of the steps lead up), batch 16, weight decay 0.01, "
        "label smoothing 0.1, 50 % of the utterances with a voice heard before, decided for the mean of WA and UAR, "
        "fp32, 50 epochs; the last epoch is read out"
    )
    out = invent(tmp_path / "run", recipe="strong", epochs=50)
    text = markdown_of(compose(read_run(out), summarise(read_run(out))))
    assert "AdamW" in text
    assert "kind fbank" in text
    assert "tract 0.15" in text
    assert "validation chose" not in text


def test_the_command_names_what_the_verb_knows(tmp_path: Path) -> None:
    out = invent(tmp_path / "run", folds=4, systems=("ser", "mtl"))
    settings = yaml.safe_load((out / "config.yaml").read_text()) | {"folds": 2, "systems": ["ser"]}
    (out / "config.yaml").write_text(yaml.safe_dump(settings))
    said = again(read_run(out))
    assert said.endswith("--systems ser,mtl --folds 4")
    for path in out.glob("cells/mtl*/result.json"):
        path.write_text(path.read_text().replace('"system": "mtl"', '"system": "opensmile"'))
    assert "opensmile" not in again(read_run(out))
