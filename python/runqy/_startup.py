"""What happens to a task file that never gets as far as run()."""

from __future__ import annotations

import atexit
import os
import stat
import sys
from typing import Any

from ._errors import describe
from ._registry import registry
from ._wire import broken

_run_called = False


def run_called() -> bool:
    """Notes that run() has taken over; True when it had before."""
    global _run_called
    before, _run_called = _run_called, True
    return before


def watch() -> None:
    """Tell a supervising worker when the task file fails before run(), e.g. because an import in it does.

    Does nothing unless standard input and output are both pipes, as they are under a worker: a program that imports
    this package for another reason keeps its output to itself.
    """
    previous = sys.excepthook

    def hook(kind: Any, exc: BaseException, trace: Any) -> None:
        if not _run_called and supervised():
            try:
                # The newline ends whatever was printed without one.
                os.write(1, b"\n" + broken(describe(exc, own_frame=False)))
            except OSError:
                pass
        previous(kind, exc, trace)

    sys.excepthook = hook
    atexit.register(_remind)


def _remind() -> None:
    if not _run_called and registry.handlers and supervised():
        print("runqy: the task file ended without calling run(); call it on its last line", file=sys.stderr)


def supervised() -> bool:
    try:
        return all(_is_pipe(fd) for fd in (0, 1))
    except OSError:
        return False


def _is_pipe(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
