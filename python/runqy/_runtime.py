"""run(): read requests, hand them to the handlers, answer.

Threads: a reader parses what comes in and answers pings, whatever the handlers are doing; synchronous handlers run on
the main thread, one at a time, in the order of arrival; `async def` handlers share one event loop, which has the main
thread to itself when there are no synchronous ones, and a thread of its own otherwise.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from . import _channel, _startup, _wire
from ._channel import PATIENCE, Channel, Outbox, WorkerGone
from ._errors import describe
from ._registry import Registry, is_async, registry
from ._report import current, outlet
from ._wire import Request

if TYPE_CHECKING:
    from ._loop import EventLoop

_CHUNK = 256 * 1024


def run() -> None:
    """Serve tasks until the worker closes our standard input, then return.

    Call it once, last, from the main thread of the task file. It takes standard input and output for itself: from then
    on input() sees end of file and print() goes to the worker's log. When the @load function raises, the worker is told
    and the process exits with status 1.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run() must be called from the main thread")
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        raise RuntimeError('run() was called in a multiprocessing child; put it under `if __name__ == "__main__":`')
    if _startup.run_called():
        raise RuntimeError("run() can be called only once")
    interactive = os.isatty(0)
    supervised = _startup.supervised()
    channel = Channel()
    # So that a crash in C code leaves a line in the log that says where.
    if not faulthandler.is_enabled():
        faulthandler.enable(2, all_threads=False)
    try:
        app = App(registry, channel)
        if supervised:
            outlet.open(app.outbox)
        app.prepare()
        if interactive:
            print(
                'runqy: type task lines such as {"task_id":"1","type":"hello","payload":{}}; Ctrl-D ends',
                file=sys.stderr,
            )
        app.serve()
    except WorkerGone:
        pass
    except KeyboardInterrupt:  # Ctrl-C at a terminal, between tasks
        sys.exit(130)
    finally:
        outlet.close()


class App:
    """The running process: one per run()."""

    def __init__(self, functions: Registry, channel: Channel) -> None:
        self._functions = functions
        self._channel = channel
        self.outbox = Outbox(channel)
        self._loaded: Any = None
        self._has_async = self._has_sync = False
        self._loop: Optional[EventLoop] = None
        # Synchronous requests not yet started; whoever pops one from here, the main thread to run it or the reader to
        # cancel it, is the one that answers it.
        self._queued: Dict[Request, None] = {}
        self._inbox: "queue.SimpleQueue[Optional[List[Request]]]" = queue.SimpleQueue()
        self._running: Optional[Request] = None
        channel.on_gone = self._finish

    # --- getting ready ---------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Runs the loader, or tells the worker why not and exits with status 1."""
        error = None
        if self._functions.loader is not None:
            error = self._load(self._functions.loader)
        # Only now: what the loader imports may declare handlers too.
        self._functions.freeze()
        handlers = list(self._functions.handlers.values())
        self._has_async = any(handler.is_async for handler in handlers)
        self._has_sync = any(not handler.is_async for handler in handlers)
        if self._has_async:
            self._event_loop()
        if error is None and not handlers:
            error = "no handler: decorate a function with @task before calling run()"
        if error is not None:
            self.outbox.send(b"\n" + _wire.broken(error))
            sys.exit(1)

    def _load(self, loader: Any) -> Optional[str]:
        try:
            if is_async(loader):
                self._loaded = self._event_loop().run_first(loader())
            else:
                self._loaded = loader()
        except BaseException as exc:  # SystemExit too: the worker must hear why
            if self._channel.forked:
                raise
            return describe(exc)
        return None

    def _event_loop(self) -> "EventLoop":
        if self._loop is None:
            # Imported here: asyncio costs a synchronous task file 50 ms of its start for nothing.
            from ._loop import EventLoop

            self._loop = EventLoop(self.outbox, self._channel)
        return self._loop

    # --- serving ---------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Announces that we are ready; returns when standard input has ended and everything read is answered."""
        if self._loop is not None:
            self._loop.loaded = self._loaded
            if not self._has_sync:
                self._loop.take_interrupts()
        # A blank line first, in case something was printed without a newline before run() took standard output.
        self.outbox.send(b"\n" + _wire.ready("async" if self._has_async else "sync"))
        reader = threading.Thread(target=or_die, args=(self._read,), name="runqy-reader", daemon=True)
        if self._loop is None:
            reader.start()
            self._serve_sync()
        elif not self._has_sync:
            reader.start()
            self._loop.serve()
        else:
            thread = threading.Thread(target=or_die, args=(self._loop.serve,), name="runqy-loop", daemon=True)
            thread.start()
            reader.start()
            self._serve_sync()
            thread.join()
        self.outbox.flush()

    def _serve_sync(self) -> None:
        clock = time.monotonic
        outbox, inbox, queued = self.outbox, self._inbox, self._queued
        while True:
            batch = inbox.get()
            if batch is None:
                return
            batch.reverse()
            while batch:
                request = batch.pop()
                if queued.pop(request, self) is self:
                    continue  # cancelled, and answered, while it waited
                handler = request.handler
                assert handler is not None
                if outbox.waiting and handler.slow:
                    outbox.flush()
                self._running = request
                begun = clock()
                reply = self._execute(request)
                handler.slow = clock() - begun > PATIENCE
                self._running = None
                if handler.slow or not (batch or not inbox.empty()):
                    outbox.send(reply)
                else:
                    outbox.hold(reply)
                # Nothing may keep a large payload or result alive while we wait for the next task.
                del request, reply

    def _execute(self, request: Request) -> bytes:
        task_id = request.task_id
        status = 0
        current.set(request.meter)
        try:
            result = request.handler.func(*request.arguments(self._loaded))  # type: ignore[union-attr]
        except BaseException as exc:  # sys.exit and KeyboardInterrupt in a handler are the task's failures
            reply = _wire.raised(task_id, exc)
            if isinstance(exc, SystemExit) and isinstance(exc.code, int):
                status = exc.code
            elif not (isinstance(exc, SystemExit) and exc.code is None):
                status = 1
        else:
            reply = _wire.success(task_id, result)
        if self._channel.forked:
            _channel.leave_fork(status)
        current.set(None)
        request.meter.end()
        return reply

    # --- the reader thread -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        # Ends at the end of standard input, or when the worker is gone; the serving threads end after it.
        pieces: List[bytes] = []
        source = self._channel.input
        try:
            while True:
                chunk = os.read(source, _CHUNK)
                if not chunk:
                    break
                cut = chunk.rfind(b"\n")
                if cut < 0:
                    pieces.append(chunk)
                    continue
                pieces.append(chunk[:cut])
                block = b"".join(pieces)
                pieces = [chunk[cut + 1 :]]
                del chunk
                self._take(block)
                del block
            if pieces:
                self._take(b"".join(pieces))
        except WorkerGone:
            pass
        except OSError as exc:
            note(f"cannot read standard input: {exc}")
        finally:
            self._finish()

    def _finish(self) -> None:
        self._inbox.put(None)
        if self._loop is not None:
            self._loop.finish()

    def _take(self, block: bytes) -> None:
        sync_batch: List[Request] = []
        async_batch: List[Request] = []
        for raw in block.split(b"\n"):
            if not raw or raw.isspace():
                continue
            # As json.loads does: a lone surrogate written in UTF-8 is let through.
            try:
                line = raw.decode("utf-8", "surrogatepass")
                message = _wire.parse(line)
            except (ValueError, RecursionError, MemoryError) as exc:
                self._unreadable(raw, exc)
                continue
            del line
            if type(message) is not dict:
                note(f"ignored an input line that is not a JSON object: {excerpt(raw)}")
            elif "task_id" in message:
                request = self._request(message)
                if request is None:
                    pass
                elif request.handler.is_async:  # type: ignore[union-attr]
                    async_batch.append(request)
                else:
                    self._queued[request] = None
                    sync_batch.append(request)
            elif "ping" in message:
                lag = self._loop.lag() if self._loop is not None and self._has_async else 0.0
                self.outbox.send(_wire.pong(message["ping"], lag))
            elif "cancel" in message:
                # What came before it on this read must be known to those it could concern.
                self._deliver(sync_batch, async_batch)
                sync_batch, async_batch = [], []
                self._cancel(message["cancel"])
            else:
                note(f"ignored an input line that is neither task, ping nor cancel: {excerpt(raw)}")
        self._deliver(sync_batch, async_batch)

    def _deliver(self, sync_batch: List[Request], async_batch: List[Request]) -> None:
        if sync_batch:
            self._inbox.put(sync_batch)
        if async_batch:
            assert self._loop is not None
            self._loop.deliver(async_batch)

    def _request(self, message: Dict[str, Any]) -> Optional[Request]:
        task_id = message["task_id"]
        kind = message.get("type")
        if kind is None:
            kind = ""
        if not isinstance(kind, str):
            self.outbox.send(_wire.failure(task_id, "BadRequest: the task's type is not a string", False))
            return None
        handler = self._functions.find(kind)
        if handler is None:
            known = ", ".join(repr(name) for name in self._functions.types())
            error = f"UnknownTask: no handler for task type {kind!r}; this process has handlers for {known}"
            # Retried, as asynq does: during a rolling deployment another worker may already know the type.
            self.outbox.send(_wire.failure(task_id, error, True))
            return None
        return Request(message, handler)

    def _unreadable(self, raw: bytes, exc: BaseException) -> None:
        task_id = _wire.leading_id(raw[:4096].decode("utf-8", "replace"))
        if task_id is None:
            note(f"ignored an input line that is not JSON ({type(exc).__name__}): {excerpt(raw)}")
            return
        if isinstance(exc, RecursionError):
            why = "it is nested too deeply for Python's JSON reader"
        else:
            why = str(exc) or type(exc).__name__
        # Permanent: the same bytes would fail the same way.
        self.outbox.send(_wire.failure(task_id, "BadRequest: the task cannot be read: " + why, False))

    def _cancel(self, task_id: Any) -> None:
        # Copied first: the main thread removes entries meanwhile.
        for request in list(self._queued):
            if request.task_id == task_id and self._queued.pop(request, self) is not self:
                self.outbox.send(_wire.failure(task_id, _wire.CANCELLED, True))
        running = self._running
        if running is not None and running.task_id == task_id:
            # Only made visible in the context. An exception injected from here could strike in the middle of the
            # handler's clean-up or of C code; the worker replaces the process if the handler does not end in time.
            running.cancel()
        if self._loop is not None:
            self._loop.cancel(task_id)


def or_die(body: Callable[[], None]) -> None:
    """Runs the body of a thread without which this process would look alive and be deaf: if it fails, so do we."""
    try:
        body()
    except BaseException:
        try:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)


def note(text: str) -> None:
    try:
        print("runqy: " + text, file=sys.stderr, flush=True)
    except Exception:
        pass  # sys.stderr is the task author's to replace or close


def excerpt(raw: bytes) -> str:
    return repr(raw if len(raw) <= 200 else raw[:200] + b"...")
