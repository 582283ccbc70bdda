"""`python -m tangential` and the `tangential` command: the command line, or the line that says how to get it."""

import sys


def main() -> None:
    """Run the command line; without its extra, say what to install and exit with code 2."""
    try:
        from tangential.cli.app import run
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("tangential"):
            raise
        sys.stderr.write(f"tangential: {missing.name} is not installed; run: pip install 'tangential[recipes]'\n")
        raise SystemExit(2) from None
    run()


if __name__ == "__main__":
    main()
