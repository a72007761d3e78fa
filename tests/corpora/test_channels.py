"""Recordings with several channels as rows of a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from unheard.corpora.channels import choose_channel, expand_channels
from unheard.manifest import Manifest, Utterance


def test_a_call_becomes_one_row_a_channel(tmp_path: Path) -> None:
    call, mono = tmp_path / "call.wav", tmp_path / "mono.wav"
    soundfile.write(call, np.stack([np.zeros(8000, np.float32), np.zeros(8000, np.float32)], 1), 16_000)
    soundfile.write(mono, np.zeros(8000, np.float32), 16_000)
    rows = [
        Utterance("a", str(call), "x", "neutral", channel="each"),
        Utterance("b", str(mono), "y", "neutral", channel="each"),
        Utterance("c", str(call), "z", "neutral"),
        Utterance("d", str(tmp_path / "gone.wav"), "w", "neutral", channel="each"),
    ]
    expanded = expand_channels(Manifest(tuple(rows)))
    assert [(row.id, row.speaker, row.channel) for row in expanded] == [
        ("a-left", "x-left", "left"),
        ("a-right", "x-right", "right"),
        ("b", "y", "mix"),
        ("c", "z", "mix"),
        ("d", "w", "mix"),
    ]
    assert [row.session for row in expanded] == ["a", "a", "", "", ""]  # both ends of a call on one side
    assert not expanded.notes
    rows.append(Utterance("e", str(call), "y", "neutral", channel="each"))
    assert "1 speakers (y) have recordings with one channel and with several" in str(
        expand_channels(Manifest(tuple(rows))).notes[0]
    )


def test_a_channel_chosen_for_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros((8000, 2), np.float32), 8000)
    manifest = Manifest((Utterance("call", str(path), "s", "sad"),))
    assert [row.channel for row in choose_channel(manifest, "right")] == ["right"]
    assert [row.id for row in choose_channel(manifest, "each")] == ["call-left", "call-right"]
    own = Manifest((replace(manifest[0], channel="each"),))
    assert [row.channel for row in choose_channel(own)] == ["left", "right"]


def test_all_that_is_cut_out_of_a_call_stays_on_one_side(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros((32_000, 2), np.float32), 16_000)
    rows = tuple(
        Utterance(f"u{n}", str(path), speaker, "neutral", start=float(n), end=n + 1.0)
        for n, speaker in enumerate(("agent", "customer"))
    )
    assert {row.session for row in choose_channel(Manifest(rows), "each")} == {"u0"}
