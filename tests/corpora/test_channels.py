"""Recordings with several channels as rows of a manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from unheard.manifest import Manifest, Utterance, choose_channel, expand_channels


def test_a_call_becomes_a_row_per_channel(tmp_path: Path) -> None:
    call, mono = str(tmp_path / "call.wav"), str(tmp_path / "mono.wav")
    soundfile.write(call, np.zeros((8000, 2), np.float32), 16_000)
    soundfile.write(mono, np.zeros(8000, np.float32), 16_000)
    rows = [
        Utterance("a", call, "x", "neutral", channel="each", end=0.2),
        Utterance("a2", call, "agent", "neutral", channel="each", start=0.2),
        Utterance("b", mono, "y", "neutral", channel="each"),
        Utterance("c", call, "z", "neutral"),
        Utterance("d", str(tmp_path / "gone.wav"), "w", "neutral", channel="each"),
    ]
    expanded = expand_channels(Manifest(tuple(rows)))
    assert [(row.id, row.speaker, row.channel, row.session) for row in expanded] == [
        ("a-left", "x-left", "left", "a"),  # everything cut out of a call stays on one side of a split
        ("a-right", "x-right", "right", "a"),
        ("a2-left", "agent-left", "left", "a"),
        ("a2-right", "agent-right", "right", "a"),
        ("b", "y", "mix", ""),
        ("c", "z", "mix", ""),
        ("d", "w", "mix", ""),
    ]
    assert not expanded.notes
    rows.append(Utterance("e", call, "y", "neutral", channel="each"))
    (note,) = expand_channels(Manifest(tuple(rows))).notes
    assert "1 speakers (y) have recordings with one channel and with several" in str(note)
    assert [row.channel for row in choose_channel(Manifest((rows[3],)), "right")] == ["right"]
    assert [row.id for row in choose_channel(Manifest((rows[3],)), "each")] == ["c-left", "c-right"]
    assert [row.channel for row in choose_channel(Manifest((rows[0],)))] == ["left", "right"]
