"""``python -m bench`` and ``msa-bench``: signals are heeded before anything else is imported."""

from bench.core.signals import Ending, guard_signals, leave


def main() -> None:
    """Run the command line, and exit with its code."""
    guard_signals()
    from bench.core.imports import put_user_last

    put_user_last()
    from bench.cli.app import call

    code = 0
    try:
        Ending.at_once = False
        code = call()
        Ending.at_once = True
    except BaseException:
        Ending.at_once = True
        if not Ending.signal:  # else it came of the signal, whatever an import or a library made of that
            raise
    leave(code)


if __name__ == "__main__":
    main()
