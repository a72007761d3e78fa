"""`unheard export`: a trained model as a folder that needs no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unheard.cli.shared import Output, say


def export(
    model: Path,
    /,
    *,
    output: Output,
    run: Path | None = None,
    system: str = "",
    int8: Annotated[bool, Parameter(negative="")] = False,
    manifest: Path | None = None,
    name: str = "",
    licence: str = "",
) -> None:
    """Write a trained model as an ONNX file with its model card: a folder that `unheard predict` opens without PyTorch.

    Example: unheard export RUN/cells/dat-fold0-seed0-1051edb3 -o my-model --run RUN --int8 --manifest other.csv

    The file is compared with PyTorch before it is written.

    Parameters
    ----------
    model
        A model.safetensors, or the folder of a trained cell.
    output
        Folder to write: model.onnx, README.md (the card), config.json.
    run
        The run of the model's recipe: its validation speakers calibrate the probabilities, its test speakers give the
        card's figures.
    system
        Whose figures, where the run has several and the model is none of them.
    int8
        Also write model.int8.onnx: the weights as bytes, a quarter of the size.
    manifest
        Labelled recordings to measure on what int8 costs.
    name
        What the model is called (default: its cell's name).
    licence
        Licence of the weights, such as "CC BY-NC-SA 4.0".
    """
    from unheard.export.folder import export as write

    done = write(
        model, output, name=name, licence=licence, run=run, system=system, int8=int8, manifest=manifest, say=say
    )
    for file in sorted(done.folder.glob("*.onnx")):
        say(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")
    if done.cost:
        (wa, small), of = done.cost.wa, done.cost.utterances
        say(f"int8: WA {100 * wa:.1f} % → {100 * small:.1f} %, {done.cost.changed} of {of} labels changed")
    print(done.folder)
