"""The entry point of `python -m unheard`."""

from unheard.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
