"""`python -m tangential` and the `tangential` command: the command line, or one line on how to install it."""

import sys


def main() -> None:
    """Run the command line; without its extra, print what to install and exit with code 2."""
    try:
        from tangential.cli.app import run
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"tangential: {_to_install(missing)}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


def _to_install(missing: ModuleNotFoundError) -> str:
    if (missing.name or "").startswith("tangential"):
        raise missing  # not the user's environment, but this package is incomplete
    return f"{missing.name} is not installed; run: pip install 'tangential[recipes]'"


if __name__ == "__main__":
    main()
