"""The pipes to and from the worker: descriptors of the protocol's own that nothing else in the process can reach."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import Any, Callable, List, Sequence, Tuple, Union


#: A line to the worker, or its pieces: joining them would copy a large result.
Line = Union[bytes, Tuple[bytes, ...]]

_MAX_PIECES = 256  # of one write; Linux and macOS take 1024


class WorkerGone(Exception):
    """The worker no longer reads what this process writes."""


class Channel:
    """Descriptors 0 and 1 as the worker gave them, moved where print, C code and child processes cannot reach them.

    The constructor copies both, then points descriptor 0 at /dev/null and descriptor 1 at standard error. Programs that
    this process starts do not inherit the copies.
    """

    def __init__(self) -> None:
        # At least 3: if 0, 1 or 2 was closed, a plain dup could take that number, and C code that writes to it would
        # write into the protocol.
        self.input = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
        self.output = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
        os.set_blocking(self.input, True)
        os.set_blocking(self.output, True)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        try:
            os.dup2(2, 1)
        except OSError:  # started with a closed standard error
            os.dup2(null, 1)
            os.dup2(null, 2)
        if null > 2:
            os.close(null)
        self.gone = False
        #: Called once, on the thread that finds that the worker is gone.
        self.on_gone: Callable[[], None] = lambda: None
        self.forked = False
        # What was printed but not yet flushed now goes to the log. From here on every line is flushed when it ends;
        # standard error does so by itself only from Python 3.9 on.
        streams: List[Any] = [sys.stdout, sys.stderr]
        for stream in streams:
            try:
                stream.flush()
                stream.reconfigure(line_buffering=True, errors="backslashreplace")
            except (AttributeError, OSError, ValueError):
                pass  # None, closed, or an object of the task file's own
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # A forked child must neither answer for its parent nor keep the pipes open after the parent has died. In what that
        # one forks this runs again, and the numbers may be those of other files.
        if self.forked:
            return
        self.forked = True
        os.close(self.input)
        os.close(self.output)

    def write(self, data: bytes) -> None:
        """Write all of data. Blocks while the pipe is full; raises WorkerGone when there is no reader.

        One call at a time: Outbox sees to that.
        """
        self._write(self._write_data, data)

    def write_pieces(self, pieces: Sequence[bytes]) -> None:
        """Write the pieces as write does, without joining them."""
        self._write(self._write_views, [memoryview(piece) for piece in pieces])

    def _write_data(self, data: bytes) -> None:
        done = os.write(self.output, data)
        if done < len(data):
            self._write_views([memoryview(data)[done:]])

    def _write_views(self, views: List[memoryview]) -> None:
        views.reverse()
        while views:
            done = os.writev(self.output, views[: -_MAX_PIECES - 1 : -1])
            while views and done >= len(views[-1]):
                done -= len(views.pop())
            if done:
                views[-1] = views[-1][done:]

    def _write(self, write: Callable[[Any], None], what: Any) -> None:
        if self.gone or self.forked:
            raise WorkerGone()
        try:
            write(what)
        except OSError as exc:  # EPIPE; after any other error the worker cannot be reached either
            self.gone = True
            self.silence()
            self.on_gone()
            raise WorkerGone() from exc

    def close_output(self) -> None:
        """Close this process' end of the output, so that the worker sees that nothing follows.

        Another thread may be writing at this moment. So the descriptor is not closed, which would set its number free,
        but made that of a pipe without a reader.
        """
        if self.forked:
            return
        self.gone = True
        try:
            reader, writer = os.pipe()
        except OSError:  # no descriptor is free
            os.close(self.output)
            return
        os.close(reader)
        os.dup2(writer, self.output, inheritable=False)
        os.close(writer)

    def silence(self) -> None:
        """Point standard output and error at /dev/null: their reader is gone too, and writing must not fail."""
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.close(null)
        except OSError:
            pass


def exit_forked_child(status: int) -> None:
    """End a child process that a handler forked and that returned from it: only the parent answers the task."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit(status & 0xFF)
