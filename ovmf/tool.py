"""How the tools that print end when their output cannot be written."""

import contextlib
import os
import signal
import sys
from typing import Callable


def last_words(name: str, trouble: str) -> None:
    """Says a trouble on standard error, if it can be written. Standard output takes no more: what is
    left in its buffer must not be tried again at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(OSError):
        os.write(2, f"{name}: {trouble}\n".encode(errors="backslashreplace"))


def run(name: str, main: Callable[[], int], broken: int) -> int:
    """Runs a tool's main function and returns the exit status: `broken` if its output cannot be
    written. A reader that has enough, such as `head`, ends the tool without a word."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        if sys.stdout is None or sys.stderr is None:
            raise OSError(0, "standard output or standard error is closed")
        status = main()
        sys.stdout.flush()
        return status
    except OSError as error:
        last_words(name, f"{error.filename or 'output'}: {error.strerror or error}")
        return broken
