"""The command line: `unheard VERB ...`.

Verbs are imported when they are called, so that `unheard --help` is quick.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

VERBS = {
    "corpora": "List the corpora with readers: size, language, licence, traps.",
    "fetch": "Download a corpus that anyone may download.",
    "synthetic": "Make a corpus of invented voices.",
    "prepare": "Read a corpus and write its manifest.",
    "doctor": "Examine a manifest, its recordings and a split.",
    "features": "Extract the features of a manifest into a store.",
    "encoder": "Write the first layers of a speech encoder as one ONNX file.",
    "experiment": "Compare systems over folds and seeds on speakers never heard in training.",
    "train": "Train one system on one fold; the model is left in the run's folder.",
    "evaluate": "Score a trained model on a labelled manifest.",
    "probe": "Measure how much of the speaker a model keeps, and whom it serves badly.",
    "contrast": "Test every system of a run, or of several, against one of them, on all test speakers or some.",
    "adapt": "Score a run's speakers after a few of their utterances have been heard, unlabelled.",
    "report": "Write a run's report: a page to read, print and cite; tables and figures.",
    "compare": "Put two runs on the same split side by side.",
    "export": "Write a trained model as an ONNX file with its card; it needs no PyTorch.",
    "serve": "Serve a model over HTTP, with a page to try it.",
    "predict": "Say which emotion a recording expresses, with a timeline where it is long.",
    "embed": "Write the embedding of each recording.",
    "listen": "Hear a microphone, or raw samples from a pipe, and print emotions as they are known.",
    "profiles": "List the speaker profiles kept on this machine, or delete one.",
    "starter": "Train, measure and export a model to give to people.",
    "demo": "The main job on invented voices, in minutes.",
}
"""Verb -> what it does, in one line."""

RESUMED = ("experiment", "train", "features", "starter", "demo", "synthetic", "fetch")
"""Verbs that go on where they were stopped."""

FILES = {
    "experiment": "experiment",
    "train": "experiment",
    **dict.fromkeys(("adapt", "compare", "contrast", "probe", "report", "starter", "export"), "research"),
    **dict.fromkeys(("predict", "profiles", "embed", "listen", "serve"), "use"),
}
"""Verb -> its file in this folder, where that is not `data`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 (something failed or was found), 2 (cannot work), 130 (stopped)."""
    from cyclopts import App, CycloptsError

    from unheard import __version__
    from unheard.cli.common import say
    from unheard.errors import UnheardError

    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    app = App(
        name="unheard",
        version=__version__,
        help="Speech emotion recognition for voices the model has never heard.\n\n"
        "`unheard VERB --help` explains a verb, with an example. `--debug` shows where an error came from.",
        help_format="markdown",
        suppress_keyboard_interrupt=False,  # it is answered below
    )
    for verb, text in VERBS.items():
        where = FILES.get(verb, "data")
        # the verb that is called explains itself; the others get their line without being imported
        app.command(f"unheard.cli.{where}:{verb}", name=verb, help=None if verb in given[:1] else text)
    for stream in (sys.stdout, sys.stderr):  # a letter that a console does not know ends no answer
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(given, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (UnheardError, CycloptsError) as error:
        if debug:
            raise
        say(f"unheard: {' '.join(str(error).split())}")
        return 2
    except ImportError as error:
        missing = getattr(error.__cause__ or error, "name", None) or getattr(error, "name", None)
        if debug or missing not in ("torch", "safetensors", "onnx", "pydantic"):
            raise
        say(f'unheard: this needs {missing}, which is not installed. Install it with: pip install "unheard[train]"')
        return 2
    except KeyboardInterrupt:
        goes_on = bool(given) and given[0] in RESUMED
        say("unheard: stopped." + " Nothing finished is lost; the same command goes on where it stopped." * goes_on)
        return 130
    except BrokenPipeError:  # `unheard corpora | head -1` has seen enough
        _close_output()
        return 0
    except OSError as error:
        if debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        say(f"unheard: {place}{error.strerror or error}. Check that place; --debug shows where it was needed.")
        return 2


def _close_output() -> None:
    """So that what is left in the buffer does not fail again when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # no file of the system's own, as in a notebook
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
