"""The summary of a run on hand-made records with visible answers."""

from __future__ import annotations

import math

import pytest
from made_runs import LABELS, line, run

from unheard.analysis.intervals import Spread
from unheard.errors import RunError
from unheard.experiments.summary import summarise
from unheard.report.content import markdown_of_table
from unheard.report.results import contrast_table

WORSE = {"s0": "aa as ss sa", "s1": "as ss", "s2": "aa sa"}  # angry 2 of 4, sad 2 of 4
BETTER = {"s0": "aa aa ss sa", "s1": "aa ss", "s2": "aa ss"}  # angry 4 of 4, sad 3 of 4
MIDDLE = {"s0": "aa as ss sa", "s1": "aa ss", "s2": "aa ss"}  # angry 3 of 4, sad 3 of 4


def test_a_line_over_its_seeds() -> None:
    (summary,) = summarise(run(line("ser", {0: WORSE, 1: BETTER}))).lines
    assert summary.name == "SER_only"
    wa = summary.over_seeds("wa")
    assert wa.values == (4 / 8, 7 / 8)
    assert wa.mean == pytest.approx(11 / 16)
    assert wa.std == pytest.approx(math.sqrt(2) * 3 / 16)
    assert str(wa) == "68.8 ± 26.5"
    assert summary.over_seeds("uar").values == pytest.approx((0.5, 0.875))
    folds = summary.over_seeds("wa_of_folds").values
    assert folds == pytest.approx(((2 / 4 + 1 / 2 + 1 / 2) / 3, (3 / 4 + 1 + 1) / 3))
    assert summary.over_seeds("macro_f1").values[0] == pytest.approx(0.5)
    assert summary.over_seeds("wa", "dev").values == (0.5, 0.5)
    assert summary.gap.values == (0.0, 0.5 - 7 / 8)
    assert [recall.values for recall in summary.recalls] == [(0.5, 1.0), (0.5, 0.75)]
    assert summary.confusion.tolist() == [[2 + 4, 2 + 0], [2 + 1, 2 + 3]]
    assert summary.counts.speakers == ("s0", "s1", "s2")
    interval = summary.interval("wa")
    assert interval.low < 11 / 16 < interval.high
    (missing,) = summarise(run(line("ser", {0: {"s0": "aa", "s1": "as"}}))).lines
    assert [recall.values for recall in missing.recalls] == [(0.5,), ()]  # nobody is sad
    assert missing.over_seeds("uar").values == (0.5,)


def test_contrasts_are_over_the_seeds_both_have() -> None:
    """DAT minus SER_only: seed 0 gains 3 of 8 (one more of each speaker), seed 1 nothing: 3/16 on average.
    Each speaker's share is 1/16: of the 8 arrangements of three equal shares, two are as far from 0."""
    records = run(
        line("ser", {0: WORSE, 1: BETTER}),
        line("mtl", {1: MIDDLE}),
        line("dat", {0: BETTER, 1: BETTER, 2: WORSE}),
        line("cgt", {}, wanted=6),
        line("dat", {0: BETTER}, chosen=True),
    )
    summary = summarise(records)
    assert summary.labels == LABELS
    found = {(one.name, one.metric): one for one in summary.contrasts}
    dat = found["SER_SR_DAT", "wa"]
    assert dat.seeds == (0, 1)
    assert dat.shares == pytest.approx((1 / 16, 1 / 16, 1 / 16))
    assert dat.points == pytest.approx(100 * 3 / 16)
    assert (dat.before, dat.after) == pytest.approx((11 / 16, 14 / 16))
    assert dat.rerr == pytest.approx((3 / 16) / (5 / 16))
    assert dat.p == 0.25 == dat.smallest_p
    assert dat.interval is not None
    assert dat.detectable is None  # three speakers can show nothing
    mtl = found["SER_SR_MTL", "wa"]
    assert mtl.seeds == (1,)
    assert mtl.points == pytest.approx(-12.5)  # s0's second utterance
    assert mtl.p == 1
    # a family of two (MTL, DAT): 0.25 x 2 and 1; the chosen one is a family of its own
    assert (dat.p_holm, mtl.p_holm, dat.family_size) == (0.5, 1, 2)
    chosen = found["SER_SR_DAT, λ chosen", "uar"]
    assert (chosen.family, chosen.family_size, chosen.p_holm) == ("chosen", 1, chosen.p)
    assert summary.notes == ("SER_SR_CGT is not compared: SER_SR_CGT has no complete seed.",)
    assert str(summary.lines[3].over_seeds("wa")) == "–"
    assert (summary.lines[3].counts, summary.lines[3].interval("wa")) == (None, None)


def test_a_swap_is_of_all_seeds_together() -> None:
    """s0 gains in seed 0 and loses in seed 1: swapped together that is nothing, and p = 1."""
    first, second = {"s0": "aa ss", "s1": "aa ss"}, {"s0": "as sa", "s1": "aa ss"}
    summary = summarise(run(line("ser", {0: first, 1: second}), line("mtl", {0: second, 1: first})))
    assert [one.p for one in summary.contrasts] == [1, 1]
    assert summary.contrasts[0].shares == (0, 0)


def test_what_cannot_be_compared() -> None:
    alone = summarise(run(line("dat", {0: WORSE})))
    assert alone.contrasts == ()
    assert alone.notes == ("SER_SR_DAT is not compared: the run has no SER_only.",)
    apart = summarise(run(line("ser", {0: WORSE}), line("dat", {1: WORSE})))
    assert apart.notes == ("SER_SR_DAT is not compared: it has no complete seed in common with SER_only.",)
    with pytest.raises(RunError, match="seeds 0 and 1 were scored on different utterances"):
        summarise(run(line("ser", {0: WORSE, 1: {"s0": "aa as"}})))
    with pytest.raises(RunError, match="two systems"):
        summarise(run(line("ser", {0: WORSE}), line("dat", {0: {"s0": "aa as"}})))


def test_contrasts_in_markdown() -> None:
    """Validation is 50 % for all; test 50 % and 87.5 %: the gap goes from 0 to -37.5 points."""
    summary = summarise(run(line("ser", {0: WORSE}), line("mtl", {0: MIDDLE}), line("cgt", {0: BETTER}, chosen=True)))
    text = markdown_of_table(contrast_table(summary.contrasts, "", ""))
    assert "| SER_SR_MTL | WA | +25.0 | 0.0 to +50.0 | +50.0 % | 0.500 | 0.500 | – |" in text
    assert "| SER_SR_CGT, ε chosen | UAR | +37.5 |" in text
    assert "all 8 swaps" in text
    assert "p is at least 0.250. That is above 0.05: no difference, however large, can be significant here." in text
    gap = summary.gaps[2]
    assert (gap.before, gap.after, gap.difference, gap.metric, gap.family) == (0, -0.375, -0.375, "wa", "chosen")
    assert (gap.speakers, gap.p, gap.interval) == (("s0", "s1", "s2"), 0.25, None)  # one validates: no interval
    one = summarise(run(line("ser", {0: {"s0": "as ss"}}), line("dat", {0: {"s0": "aa ss"}}))).contrasts
    text = markdown_of_table(contrast_table(one, "", ""))
    assert "| SER_SR_DAT | WA | +50.0 | – | +100.0 % | 1.000 | 1.000 | – |" in text
    assert "nan" not in text
    assert str(Spread((0.5,))) == "50.0 ± –"
