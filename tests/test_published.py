"""The figures of the README, docs/results.md and docs/notebook.md are those of the files under results/.

A comment `<!-- table NAME: RUN ... -->` stands before every table that is recomputed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest

from unheard.experiments import adaptation
from unheard.experiments.baselines import NAMES
from unheard.experiments.leakage import markdown, run_leakage
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.summary import Predictions, table_markdown
from unheard.report.comparison import compare_runs, contrast_runs
from unheard.training.metrics import unweighted_average_recall

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
TEXT = "".join(
    (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/results.md", "docs/notebook.md")
)
CORPORA = {"EmoDB": "emodb", "RAVDESS": "ravdess", "ASED": "ased"}
SYSTEMS = {**NAMES, "opensmile": "ComParE 2016 + SVM"}
UNTOUCHED = f"{RESULTS / 'development-speakers.csv'}:untouched"

NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


def cells(row: str) -> list[str]:
    """The cells of a row of a Markdown table, as plain text."""
    plain = row.replace("**", "").replace("\\_", "_").replace("−", "-")
    return [cell.strip() for cell in plain.strip().strip("|").split("|")]


def tables(text: str) -> Iterator[list[list[str]]]:
    """Every Markdown table of `text`: its rows, the heads first, without the rule between."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = block.splitlines()
        yield [cells(row) for row in (rows[0], *rows[2:])]


def table(name: str) -> list[list[str]]:
    """The table after the comment with this name: its rows, the header first."""
    ((block),) = re.findall(rf"^<!-- table {name}: .*-->\n\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    return next(tables(block))


def names(start: str) -> list[str]:
    """The names of the tables that begin with `start`."""
    return re.findall(rf"^<!-- table ({start}\S*): ", TEXT, re.MULTILINE)


WRITTEN, REESTIMATED = ", as written", ", batch norm re-estimated"
ENCODED = ("emodb", "ravdess", "nemo")
TOGETHER = {"paper": tuple(CORPORA.values()), "strong": tuple(CORPORA.values()), "encoder": ENCODED}
"""Recipe -> the corpora whose runs are contrasted together."""

Contrasts = dict[tuple[str, str], list[str]]
"""(system, metric) -> difference, interval, relative reduction, p, p (Holm), detectable."""


def said(run: str, baseline: str, speakers: str, decision: str) -> dict[str, str]:
    """Run -> what `unheard contrast` says of it, and of "Mean over runs", where it is contrasted with others."""
    recipe = run.partition("-")[2]
    runs = tuple(f"{corpus}-{recipe}" for corpus in TOGETHER.get(recipe, ()))
    return contrasted(runs if run in runs else (run,), baseline, speakers, decision)


@cache
def contrasted(runs: tuple[str, ...], baseline: str, speakers: str, decision: str) -> dict[str, str]:
    text = contrast_runs(*(RESULTS / run for run in runs), baseline=baseline, speakers=speakers, decision=decision)
    if len(runs) == 1:
        return {runs[0]: text}
    return dict(zip([*runs, "Mean over runs"], text.split("## ")[1:], strict=True))


def figures(run: str, speakers: str = "", decision: str = "", evaluation: str = "") -> dict[str, list[str]]:
    """System -> WA, UAR and seeds; of a run with two evaluations of batch norm one, without its name."""
    baseline = {"strong": "opensmile", "encoder": "pooled"}.get(run.partition("-")[2], "ser")  # decides no figure
    first, *_ = tables(said(run, baseline, speakers, decision)[run])
    return {name.removesuffix(evaluation): rest for name, *rest in first[1:] if name.endswith(evaluation)}


def contrasts(run: str, baseline: str, speakers: str = "", decision: str = "", where: str = "") -> Contrasts:
    *_, last = tables(said(run, baseline, speakers, decision)[where or run])
    return {(row[0].split(" - ")[0], row[1]): row[2:] for row in last[1:]}


def together(
    recipe: str, baseline: str, speakers: str = "", decision: str = "", evaluation: str = ""
) -> tuple[int, Contrasts]:
    """How many speakers, and the mean of the runs' differences."""
    run, where = f"emodb-{recipe}", "Mean over runs"
    (people,) = re.findall(r"on (\d+) test speakers", said(run, baseline, speakers, decision)[where])
    found = contrasts(run, baseline, speakers, decision, where)
    own = {(name.removesuffix(evaluation), m): row for (name, m), row in found.items() if name.endswith(evaluation)}
    return int(people), own


def assert_agree(shown: str, exact: str) -> None:
    """Each number of `shown` is that of `exact`, to the digits it is shown with (and `exact` was rounded to)."""
    ours, theirs = NUMBER.findall(shown), NUMBER.findall(exact)
    assert len(ours) == len(theirs), (shown, exact)
    for one, other in zip(ours, theirs, strict=True):
        digits, known = (len(number.partition(".")[2]) for number in (one, other))
        room = 0.5 * 10**-digits if digits < known else 0.0
        assert abs(float(one) - float(other)) <= room + 1e-9, (shown, exact)


P, HOLM, DETECTABLE = 3, 4, 5


def assert_difference(shown: str, row: list[str], p: int | None = HOLM) -> None:
    """`shown` is the difference, its interval and, unless `p` is None, this p."""
    plain = re.sub(r"[()]| to |95 %", " ", shown)
    assert_agree(plain, " ".join([*row[:2], *([] if p is None else [row[p]])]))


@pytest.mark.parametrize(("one", "other"), [("0.07", "0.070"), ("0.07", "0.0691"), ("12.3 ± 1.0", "12.3 ± 1.0")])
def test_agreeing(one: str, other: str) -> None:
    assert_agree(one, other)


@pytest.mark.parametrize(("one", "other"), [("0.07", "0.06"), ("0.069", "0.07"), ("+1", "-1")])
def test_disagreeing(one: str, other: str) -> None:
    with pytest.raises(AssertionError):
        assert_agree(one, other)


def test_tables_of_systems_are_those_of_the_runs() -> None:
    """What cannot be said (–) has no column in some."""
    rows = [row for name in names("paper-") + names("reestimated-") for row in table(name)[1:]]
    assert len(rows) > 20
    runs = [read_run(path.parent) for path in RESULTS.glob("*-paper*/config.yaml")]
    assert len(runs) == 3
    known = {
        _known([re.sub(f"{WRITTEN}$|{REESTIMATED}$", "", row[0]), *row[1:]])
        for run in runs
        for found in tables(table_markdown(run.lines, ""))
        for row in found
    }
    assert [row for row in rows if _known(row) not in known] == []


def _known(row: list[str]) -> tuple[str, ...]:
    return tuple(cell for cell in row if cell != "–")


def test_what_hearing_a_speaker_is_worth() -> None:
    rows = [row for name in names("adapt-") for row in table(name)[1:]]
    assert len(rows) == 12
    known = [row for short in CORPORA.values() for row in adaptation_table(short)]
    assert [row for row in rows if row not in known] == []


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_strong_recipe(corpus: str) -> None:
    run = f"{CORPORA[corpus]}-strong"
    head, *rows = table(f"strong-{CORPORA[corpus]}")
    assert head[:4] == ["System", "WA", "UAR", "Seeds"]
    assert {row[0] for row in rows} == set(figures(run))
    for name, *row in rows:
        exact = figures(run)[name]
        assert row[:3] == exact
        if head[4:]:
            assert row[3:5] == figures(run, UNTOUCHED)[name][:2]


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_emotion_that_serves_both(corpus: str) -> None:
    run = f"{CORPORA[corpus]}-strong"
    head, *rows = table("decision")
    place = head.index(corpus)
    columns = {place: ""}
    if head[place + 1 :][:1] == ["untouched speakers"]:
        columns[place + 1] = UNTOUCHED
    for row in rows:
        for column, speakers in columns.items():
            if row[0] in SYSTEMS.values():
                exact = figures(run, speakers, "both")[row[0]][:2]
                exact = exact if "±" in row[column] else [one.split(" ")[0] for one in exact]
                assert_agree(row[column], " / ".join(exact))
            else:
                metric = "UAR" if row[0].startswith("…") else "WA"
                exact = contrasts(run, "opensmile", speakers, "both")["SER_only", metric]
                assert_difference(row[column], exact, P if ";" in row[column] else None)


@pytest.mark.parametrize("corpus", CORPORA)
def test_whether_the_speaker_systems_help(corpus: str) -> None:
    head, *rows = table("strong-systems")
    for row in rows:
        assert_difference(row[head.index(corpus)], contrasts(f"{CORPORA[corpus]}-strong", "ser")[row[0], "WA"])


@pytest.mark.parametrize("corpus", CORPORA)
def test_against_the_peer(corpus: str) -> None:
    """The sentence under each table: SER_only against ComParE + SVM."""
    exact = contrasts(f"{CORPORA[corpus]}-strong", "opensmile")
    text = " ".join(TEXT.partition(f"<!-- table strong-{CORPORA[corpus]}: ")[2].replace("**", "").split())
    text = text.partition("points of WA. ")[0] + "points of WA."
    for metric in ("WA", "UAR"):
        (said,) = re.findall(rf"SER_only against ComParE \+ SVM:.*?{metric} ([^=]*= [\d.]+)[;\s.(]", text)
        assert_difference(said, exact["SER_only", metric], P)
    (least,) = re.findall(r"could have shown is ([\d.]+) points of WA", text)
    assert_agree(least, exact["SER_only", "WA"][DETECTABLE])


LEAKAGE = ("probe, linear", "probe, MLP", "EER", "Mean of speakers' UAR")


@pytest.mark.parametrize("corpus", ["ravdess", "ased"])
def test_what_the_embeddings_keep(corpus: str) -> None:
    lines = run_leakage(read_run(RESULTS / f"{corpus}-paper"))
    (known,) = tables(markdown(lines))
    heads = [known[0].index(next(head for head in known[0] if head.endswith(end))) for end in LEAKAGE]
    exact = {row[0].removesuffix(REESTIMATED): [row[place] for place in heads] for row in known[1:]}
    rows = table(f"leakage-{corpus}")[1:]
    assert len(rows) > 3
    longer = {"functionals": "SVM (functionals)", "ComParE 2016": "ComParE 2016 + SVM"}
    for name, *row in rows:
        for shown, one in zip(row, exact[longer.get(name, name)], strict=True):
            if ("±" in shown, "(" in shown) == ("±" in one, "(" in one):
                assert_agree(shown, one)
            else:  # of one seed, or the same whatever the seed
                assert_agree(shown.split(" ")[0], one.split(" ")[0])


def _counted(short: str, recipe: str) -> list[adaptation.AdaptationResult]:
    return adaptation.average(adaptation.read_counts(RESULTS / f"{short}-{recipe}"))


@cache
def adaptation_table(short: str) -> list[list[str]]:
    """The table of adaptation of a strong run, from its counts."""
    return next(tables(adaptation.adaptation_table(_counted(short, "strong"), adaptation.SIZES)))


def _adapted(short: str) -> dict[str, str]:
    """System -> gain in WA from 16 utterances."""
    head, *rows = adaptation_table(short)
    return {row[0]: row[head.index("k = 16")].partition("(")[2].split(" ")[0] for row in rows}


def test_the_table_of_the_readme() -> None:
    rows = table("readme")[1:]
    assert [row[0] for row in rows] == [*CORPORA, "nEMO"]

    def wa(run: str, system: str = "SER_only", **how: str) -> str:
        return figures(run, **how)[system][0].split(" ")[0]

    for corpus, *row in rows:
        short, known = corpus.lower(), [""] * 4
        if corpus in CORPORA:
            known = [wa(f"{short}-paper", evaluation=evaluation) for evaluation in (WRITTEN, REESTIMATED)]
            known += [wa(f"{short}-strong", SYSTEMS["opensmile"]), wa(f"{short}-strong", decision="both")]
        known += [wa(f"{short}-encoder", SYSTEMS["pooled"]), wa(f"{short}-encoder")]
        four = [one.wa for one in _counted(short, "encoder") if (one.system, one.k) == ("ser", 4)] if row[-1] else []
        assert row == [*known, *(f"{100 * one:.1f}" for one in four)] + [""] * (corpus == "ASED")


@pytest.mark.parametrize("short", CORPORA.values())
def test_the_tables_of_the_results(short: str) -> None:
    rows = table(short)[1:]
    strong = figures(f"{short}-strong", "", "both")
    assert [row[0] for row in rows] == list(strong)
    for name, *row in rows:
        paper = [
            figures(f"{short}-paper", evaluation=evaluation)[name][:2] if row[0] else ["", ""]
            for evaluation in (WRITTEN, REESTIMATED)
        ]
        assert row == [*paper[0], *paper[1], *strong[name][:2], _adapted(short).get(name, "")]


def test_the_table_of_the_encoder_recipe() -> None:
    """The last column is UAR on a corpus left out, mean over EmoDB, RAVDESS and nEMO."""
    runs = [figures(f"{short}-encoder") for short in (*ENCODED, "ased")]
    left_out = read_run(RESULTS / "leave-corpus-out-encoder")
    rows = table("encoder")[1:]
    assert [row[0] for row in rows] == [line.name for line in left_out.lines]
    for (name, *row), line in zip(rows, left_out.lines, strict=True):
        means = [100 * fmean(_uar_on(left_out, seed.test, corpus) for corpus in ENCODED) for seed in line.seeds]
        known = [cell for run in runs for cell in run.get(name, ["", ""])[:2]]
        assert row == [*known, f"{fmean(means):.1f} ± {stdev(means):.1f}"]


def _uar_on(run: RunRecords, test: Predictions, corpus: str) -> float:
    here = np.array([run.utterances[name]["corpus"] == corpus for name in test.ids])
    return unweighted_average_recall(test.truth[here], test.predicted[here], len(run.labels))


def test_the_encoder_recipe_on_three_corpora_together() -> None:
    """SER_only against the SVM on the same vectors, WA and UAR; p is Holm's."""
    _, exact = together("encoder", "pooled")
    text = " ".join(TEXT.replace("−", "-").split()).partition("On EmoDB, RAVDESS and nEMO together")[2]
    for metric in ("WA", "UAR"):
        (said,) = re.findall(rf"([+-][\d.]+ \([^)]*\)) points of {metric}", text)[:1]
        assert_difference(said, exact["SER_only", metric])


def test_the_encoder_recipe_on_corpora_left_out() -> None:
    text = " ".join(TEXT.replace("−", "-").replace("**", "").split()).partition(
        "On corpora left out SER_only is better"
    )[2]
    said = re.match(
        r" than the SVM by ([^)]*\)) and DAT by ([^)]*\)); DAT differs from SER_only by ([^)]*\))\. "
        r"MTL \(([^;]*); [^)]*\) and CGT \(([^;]*);",
        text,
    )
    over, svm = (contrasts("leave-corpus-out-encoder", baseline) for baseline in ("ser", "pooled"))
    exact = [svm["SER_only", "WA"], svm["SER_SR_DAT", "WA"], over["SER_SR_DAT", "WA"]]
    for shown, row in zip(said.groups()[:3], exact, strict=True):
        assert_difference(shown, row)
    for shown, name in zip(said.groups()[3:], ("SER_SR_MTL", "SER_SR_CGT"), strict=True):
        assert_agree(shown, over[name, "WA"][0])


def test_the_differences_of_the_results() -> None:
    for name, *row in table("together")[1:]:
        runs = (("paper", WRITTEN), ("paper", REESTIMATED), ("strong", ""))
        for shown, (kind, evaluation) in zip(row, runs, strict=True):
            assert_difference(shown, together(kind, "ser", evaluation=evaluation)[1][name, "WA"])


OVER = {
    "together-compare": ("opensmile", [("strong", ""), ("strong", UNTOUCHED)]),
    "together-systems": ("ser", [("strong", ""), ("paper", REESTIMATED), ("paper", WRITTEN)]),
}


@pytest.mark.parametrize("title", OVER)
def test_the_corpora_together(title: str) -> None:
    """WA and UAR of each run and set of speakers; p is Holm's."""
    baseline, columns = OVER[title]
    head, *rows = table(title)
    assert len(rows) == (5 if baseline == "opensmile" else 3)
    assert len(head) == 1 + 2 * len(columns)
    for place, (kind, which) in enumerate(columns):
        of = {"evaluation": which} if baseline == "ser" else {"speakers": which}
        people, exact = together(kind, baseline, **of)
        if baseline == "opensmile":
            assert re.findall(r"\d+", head[1 + 2 * place]) == [str(people)]
        for row in rows:
            for column, metric in ((1 + 2 * place, "WA"), (2 + 2 * place, "UAR")):
                assert_difference(row[column], exact[row[0], metric])


def test_the_corpora_together_with_the_emotion_that_serves_both() -> None:
    text = " ".join(TEXT.replace("−", "-").split())
    shown = re.findall(r"[+-][\d.]+ \([^)]*\)", text.partition("(`--decision both`)")[2].partition("|")[0])
    assert len(shown) == 4
    of_readme, end, _ = text.partition("On the three corpora together")[2].partition("CGT's gain")
    assert end
    for half, speakers in enumerate(("", UNTOUCHED)):
        people, exact = together("strong", "opensmile", speakers, "both")
        for metric, cell in zip(("WA", "UAR"), shown[2 * half : 2 * half + 2], strict=True):
            assert_difference(cell, exact["SER_only", metric])
        for number in NUMBER.findall(" ".join(exact["SER_only", "WA"][:2])):
            assert number.lstrip("+") in of_readme
        assert str(people) in of_readme


def test_what_choosing_among_seeds_alone_is_worth() -> None:
    """SER_only on RAVDESS as written, each fold by the seed that its validation speakers like best."""
    (shown,) = re.findall(r"SER_only's best of three seeds, .*? has ([\d.]+) where", " ".join(TEXT.split()))
    with (RESULTS / "ravdess-paper" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["system"], row["evaluation"]) == ("ser", WRITTEN[2:])]
    folds: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        folds.setdefault(row["fold"], []).append(row)
    best = [max(own, key=lambda row: float(row["val_wa"])) for own in folds.values()]
    assert [len(own) for own in folds.values()] == [3] * 6
    right = sum(float(row["test_wa"]) * int(row["n_test"]) for row in best)
    assert_agree(shown, f"{100 * right / sum(int(row['n_test']) for row in best):.4f}")


def test_the_check_that_the_claims_page_offers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    monkeypatch.chdir(ROOT)
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], {})
    assert capsys.readouterr().out.count("shares no speaker") == len(list(RESULTS.rglob("predictions.csv.xz")))


@pytest.mark.parametrize(
    ("corpus", "claimed"),
    [
        ("emodb", "+8.3 (+6.1 to +10.7; 0.008)"),
        ("ased", "+9.2 (+6.5 to +12.1; 0.0004)"),
        ("ravdess", "+0.1 (−5.6 to +6.1; 1.0)"),
    ],
)
def test_strong_beside_the_papers_recipe(corpus: str, claimed: str) -> None:
    """`unheard compare` of two runs, of which only the first has two evaluations of its weights."""
    assert claimed in (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    compared = compare_runs(*(read_run(RESULTS / f"{corpus}-{recipe}") for recipe in ("paper", "strong"))).contrasts
    (one,) = (one for one in compared if (one.name, one.metric) == ("SER_only, batch norm re-estimated", "wa"))
    assert one.interval is not None
    found = [100 * value for value in (one.difference, one.interval.low, one.interval.high)]
    *points, p = (float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+\.\d+", claimed))
    assert [round(value, 1) for value in found] == points
    assert one.p_holm == pytest.approx(p, rel=0.05)
