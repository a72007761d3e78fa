"""The command line: `unheard VERB ...`.

A verb is imported only when it is called, so that `unheard --help` is quick.
"""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

VERBS = {
    "corpora": ("data", "List the supported corpora: size, language, licence, known problems."),
    "fetch": ("data", "Download a corpus that is free to download."),
    "synthetic": ("data", "Make a corpus of synthetic voices."),
    "prepare": ("data", "Read a corpus and write its manifest."),
    "doctor": ("data", "Check a manifest, its recordings and a split."),
    "features": ("data", "Extract the features of a manifest into a store."),
    "encoder": ("data", "Write the first layers of a speech encoder as one ONNX file."),
    "experiment": ("research", "Compare systems over folds and seeds on speakers not used for training."),
    "train": ("research", "Train one system on one fold."),
    "evaluate": ("research", "Score a trained model on a labelled manifest."),
    "report": ("research", "Write the report of a run: a page, tables and figures."),
    "compare": ("research", "Compare two runs on the same split."),
    "contrast": ("research", "Test the systems of one or more runs against a baseline."),
    "probe": ("research", "Measure how much speaker information a model keeps, and which speakers it serves badly."),
    "adapt": ("research", "Score the test speakers of a run after adapting to a few of their utterances."),
    "demo": ("demo", "Show what the package does, in two minutes: real clips, the four systems, or a real corpus."),
    "export": ("research", "Write a trained model as an ONNX file with its model card."),
    "starter": ("research", "Train, measure and export a model."),
    "predict": ("use", "Predict the emotion of recordings."),
    "embed": ("use", "Write the embedding of each recording."),
    "listen": ("use", "Predict emotions from a microphone or a pipe while somebody speaks."),
    "profiles": ("use", "List or delete the speaker profiles stored on this machine."),
    "serve": ("use", "Serve a model over HTTP, with a web page to try it."),
}
"""Verb -> its module in this package, and what it does in one line."""

GROUPS = {"data": "Prepare data", "research": "Train and evaluate", "demo": "Train and evaluate", "use": "Use a model"}
"""Module -> heading of its verbs in `unheard --help`."""

RESUMED = ("experiment", "train", "features", "starter", "demo", "synthetic", "fetch")
"""Verbs that resume where they were stopped."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 1 (a failure or finding), 2 (an error), 130 (interrupted)."""
    from cyclopts import App, CycloptsError, Group, Parameter

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
        "`unheard COMMAND --help` explains a command, with an example. `--debug` shows the traceback of an error.",
        help_format="markdown",
        default_parameter=Parameter(show_default=_shown_default),
        suppress_keyboard_interrupt=False,  # handled below
    )
    groups = {name: Group.create_ordered(name) for name in dict.fromkeys(GROUPS.values())}
    for verb, (module, text) in VERBS.items():
        # a docstring explains the verb that is called; the other verbs are not imported
        text_or_docstring = None if verb in given[:1] else text
        app.command(f"unheard.cli.{module}:{verb}", name=verb, help=text_or_docstring, group=groups[GROUPS[module]])
    for stream in (sys.stdout, sys.stderr):  # consoles without Unicode
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
        resumed = bool(given) and given[0] in RESUMED
        say("unheard: stopped." + " Finished work is kept; run the same command again to continue." * resumed)
        return 130
    except BrokenPipeError:  # the reader has closed, as in `unheard corpora | head -1`
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):  # so that flushing at exit does not fail again; a notebook has no file
            os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return 0
    except OSError as error:
        if debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        say(f"unheard: {place}{error.strerror or error}. Check this path; --debug shows where it was needed.")
        return 2


def _shown_default(value: object) -> str | None:
    return None if isinstance(value, bool) or value in ("", (), None) else str(value)
