"""Where this process is: the stacks of its threads and of its asyncio tasks, for a worker that asks.

The worker asks twice. First with a message, which the reader thread answers. That needs the GIL, and in return it is
safe and knows which task is where. When no answer comes, because C code holds the GIL or run() has not been called yet,
the worker sends a signal, whose handler is C code that needs no lock. It reads the stacks of threads that may run
meanwhile, so it could crash on one that ends at that moment; where nobody answers, nothing moves.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import json
import os
import signal
import stat
import sys
import threading
from types import CodeType, FrameType
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

_SIGNAL = "RUNQY_STACK_SIGNAL"
_DESCRIPTOR = "RUNQY_STACK_FD"

# The bounds that faulthandler has too.
_MAX_STACKS = 100  # threads, and asyncio tasks
_MAX_FRAMES = 100  # of one stack
_MAX_NAME = 500  # characters of a file or function name

#: Threads of this package in which no handler runs.
_OWN_THREADS = ("runqy-reader", "runqy-flush", "runqy-progress")


def register() -> bool:
    """Have the worker's signal write the stacks of all threads to the worker's pipe, from now on.

    Returns whether the signal is registered: there is nothing to register without a worker that asks for it.
    """
    # Removed: the descriptor is not for the programs that this one starts.
    number, descriptor = _number(os.environ.pop(_SIGNAL, "")), _number(os.environ.pop(_DESCRIPTOR, ""))
    # PyPy's faulthandler has no register.
    handle: Optional[Callable[..., None]] = getattr(faulthandler, "register", None)
    if not number or not descriptor or handle is None:
        return False
    try:
        if not _is_pipe_end(descriptor) or signal.getsignal(number) is not signal.SIG_DFL:
            return False
        handle(number, file=descriptor, all_threads=True, chain=False)
    except (OSError, RuntimeError, ValueError):
        return False
    # Last: by this the worker sees that it is our handler that catches the signal.
    os.set_inheritable(descriptor, False)

    forgotten = False

    def forget() -> None:
        # The worker asks its own child only, and the pipe must not stay open after that has died. In what a forked child
        # forks this runs again, and the number may be that of another file.
        nonlocal forgotten
        if forgotten:
            return
        forgotten = True
        faulthandler.unregister(number)
        os.close(descriptor)

    os.register_at_fork(after_in_child=forget)
    return True


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _is_pipe_end(descriptor: int) -> bool:
    # A program between the worker and this process may have closed the pipe, and the number may be of another file.
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    return (
        stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        and flags & os.O_ACCMODE == os.O_WRONLY
        and bool(flags & os.O_NONBLOCK)
    )


def of_threads(tasks: Dict[Optional[int], Any]) -> str:
    """The stacks of the threads, the innermost call first, as faulthandler writes them.

    tasks has the ids of the tasks that run, by the threads that run them.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = [ident for ident, name in names.items() if name in _OWN_THREADS]
    stacks = [(ident, frame) for ident, frame in sys._current_frames().items() if ident not in own]
    lines: List[str] = []
    for ident, innermost in stacks[:_MAX_STACKS]:
        task = f", task {json.dumps(tasks[ident])}" if ident in tasks else ""
        lines.append(f"thread {_clean(names.get(ident) or hex(ident))}{task} (most recent call first):")
        frame: Optional[FrameType] = innermost
        for _ in range(_MAX_FRAMES):
            if frame is None:
                break
            lines.append(_line(frame.f_code, frame.f_lineno))
            frame = frame.f_back
    return _joined(lines, len(stacks))


def of_asyncio(tasks: Iterable[Tuple[str, Any]]) -> str:
    """The stacks of asyncio tasks in the same form; each comes with a name."""
    stacks = list(tasks)
    lines: List[str] = []
    for name, task in stacks[:_MAX_STACKS]:
        lines.append(f"asyncio task {name} (most recent call first):")
        waits_for = getattr(task, "_fut_waiter", None)
        if waits_for is not None and hasattr(waits_for, "get_name"):
            lines.append(f"  waiting for asyncio task {name_of_other(waits_for)}")
        lines.extend(_awaited(task.get_coro()))
    return _joined(lines, len(stacks))


def name_of_task(task_id: Any) -> str:
    """The name of the asyncio task that runs a task of the queue."""
    return json.dumps(task_id)


def name_of_other(task: Any) -> str:
    """The name of any other asyncio task."""
    return _clean(str(task.get_name()))


def _awaited(coroutine: Any) -> List[str]:
    """A line for each call that is awaited, the innermost first."""
    frames: List[Tuple[CodeType, Any]] = []
    while coroutine is not None and len(frames) < _MAX_FRAMES:
        names = _names(coroutine)
        if names is None:
            # A step of an asynchronous generator, for example, refers to the generator and has no attribute for it.
            coroutine = next((it for it in gc.get_referents(coroutine) if _names(it) is not None), None)
            continue
        prefix, awaited = names
        frame: Optional[FrameType] = getattr(coroutine, prefix + "_frame")
        frames.append((getattr(coroutine, prefix + "_code"), "???" if frame is None else frame.f_lineno))
        coroutine = getattr(coroutine, awaited, None)
    return [_line(code, number) for code, number in reversed(frames)]


def _names(awaitable: Any) -> Optional[Tuple[str, str]]:
    """What the attributes of a coroutine, a generator or an asynchronous generator begin with, and which of them has what
    it waits for. None for anything else."""
    for prefix, awaited in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        if hasattr(awaitable, prefix + "_code"):
            return prefix, awaited
    return None


def _line(code: CodeType, number: Any) -> str:
    return f'  File "{_clean(code.co_filename)}", line {number} in {_clean(code.co_name)}'


def _clean(name: str) -> str:
    return ascii(name)[1:-1][:_MAX_NAME]


def _joined(lines: List[str], stacks: int) -> str:
    if stacks > _MAX_STACKS:
        lines.append(f"({stacks - _MAX_STACKS} more)")
    return "".join(line + "\n" for line in lines)
