"""`unheard probe`: how much of the speaker a model keeps, and whom it serves badly."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unheard.cli.shared import no_recording, not_over, pairs, say


def probe(
    model: Path,
    manifest: Path,
    /,
    *,
    seen: Annotated[bool, Parameter(negative="")] = False,
    format: Literal["md", "json"] = "md",
    output: Annotated[Path | None, Parameter(name=["--output", "-o", "--out"], validator=no_recording)] = None,
    map: str = "",
    channel: Literal["mix", "left", "right", "each"] = "mix",
    store: Path | None = None,
    device: str = "auto",
) -> None:
    """Measure how much of the speaker is left in a model's embeddings, and whom the model serves badly.

    Example: unheard probe RUN/cells/dat-fold0-seed0-1051edb3 other.csv

    A fresh probe learns the speakers from the finished embeddings of speakers the model was not trained on; beside it
    verification, the emotion recall of the worst speaker, the gap between women and men, and the same of the input.

    Parameters
    ----------
    model
        A model.safetensors, or the folder of a trained cell.
    manifest
        CSV, JSONL or a Kaldi data directory; rows with labels the model does not know are left out and counted.
    seen
        Examine the speakers the model was trained on too.
    format
        md: a table to read. json: every figure, with every speaker's.
    output
        File to write it to instead.
    map
        Labels renamed before, such as excited=happy.
    channel
        Of recordings with several: their mean, one of them, or each as a recording of its own.
    store
        Folder to keep the features in (default: they are not kept).
    device
        auto, cpu, cuda or mps.
    """
    from unheard.experiments.invariance.of_model import probe_model
    from unheard.files import write_text

    not_over(output, manifest)
    probed = probe_model(
        model, manifest, mapping=pairs(map), channel=channel, seen=seen, store=store, device=device, say=say
    )
    if format == "md":
        text = probed.as_markdown()
    else:
        text = json.dumps(probed.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)
