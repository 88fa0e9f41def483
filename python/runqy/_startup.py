"""Task files that fail, or end, before they call run()."""

from __future__ import annotations

import atexit
import os
import stat
import sys
from typing import Any

from ._errors import describe
from ._registry import registry
from ._wire import startup_error

_run_called = False


def mark_run_called() -> bool:
    """Remember that run() was called. Returns whether it was called before."""
    global _run_called
    before, _run_called = _run_called, True
    return before


def report_failed_start() -> None:
    """Have the worker told when the task file fails before run(), for example because an import in it fails.

    Without a worker, in a program that imports this package for another reason, nothing is written.
    """
    previous = sys.excepthook

    def hook(kind: Any, exc: BaseException, trace: Any) -> None:
        if not _run_called and under_worker():
            try:
                # The newline ends whatever was printed without one.
                os.write(1, b"\n" + startup_error(describe(exc, skip_first_frame=False)))
            except OSError:
                pass
        previous(kind, exc, trace)

    sys.excepthook = hook
    atexit.register(_warn_if_not_run)


def _warn_if_not_run() -> None:
    if not _run_called and registry.handlers and under_worker():
        print("runqy: the task file ended without calling run(); call it on its last line", file=sys.stderr)


def under_worker() -> bool:
    """Whether a worker seems to run this process: standard input and output are both pipes."""
    try:
        return all(_is_pipe(fd) for fd in (0, 1))
    except OSError:
        return False


def _is_pipe(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
