"""run(): read requests, call the handlers, write the replies.

Threads: a reader thread parses requests and answers pings, whatever the handlers do. Synchronous handlers run on the
main thread, one at a time, in the order of arrival. `async def` handlers share one event loop. It runs on the main
thread when there are no synchronous handlers, and on a thread of its own otherwise.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Union

from . import _channel, _stack, _startup, _wire
from ._channel import Channel, Line, WorkerGone
from ._errors import describe, says_broken
from ._health import Check
from ._outbox import HOLD_TIME, Outbox
from ._registry import Handler, Registry, is_async, registry
from ._report import current_task, reporter
from ._wire import Input, Request, Waiting

if TYPE_CHECKING:
    from ._loop import EventLoop

_CHUNK = 256 * 1024  # bytes of one read
_MAX_BUFFER = 8 * 1024 * 1024  # of the buffer between reads


def run() -> None:
    """Run tasks until the worker closes standard input, then return.

    Call it in the last line of the task file, on the main thread, and only there. It takes standard input and output
    for the protocol: from then on input() finds the end of the file, and print() writes to the worker's log. When the
    @load function raises, the worker gets the error and the process exits with status 1.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run() must be called from the main thread")
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        raise RuntimeError('run() was called in a multiprocessing child; put it under `if __name__ == "__main__":`')
    if _startup.mark_run_called():
        raise RuntimeError("run() can be called only once")
    interactive = os.isatty(0)
    under_worker = _startup.under_worker()
    channel = Channel()
    # A crash in C code then writes the Python traceback to the log.
    if not faulthandler.is_enabled():
        faulthandler.enable(2, all_threads=False)
    app = App(registry, channel)
    try:
        if under_worker:
            reporter.open(app.outbox)
        app.prepare()
        if interactive:
            print(
                'runqy: type task lines such as {"task_id":"1","type":"hello","payload":{}}; Ctrl-D ends',
                file=sys.stderr,
            )
        app.serve()
    except WorkerGone:
        pass
    except KeyboardInterrupt:  # Ctrl-C at a terminal, or SIGINT, between tasks
        if under_worker:
            _warn("SIGINT ended run()")
        sys.exit(130)
    finally:
        # However it is left, no task is run from now on. Other threads may live on, and the process with them: the worker
        # must not take their answers for life.
        app.left()


class App:
    """What run() runs: the handlers, the reader thread, and the event loop if there are async handlers."""

    def __init__(self, registry: Registry, channel: Channel) -> None:
        self._registry = registry
        self._channel = channel
        self.outbox = Outbox(channel)
        self._loaded: Any = None
        self._has_async = self._has_sync = False
        self._loop: Optional[EventLoop] = None
        self._queued = Waiting()
        # What the main thread does next: requests, a check, or nothing more.
        self._inbox: "queue.SimpleQueue[Union[List[Request], _CheckNumber, None]]" = queue.SimpleQueue()
        self._check = Check(None)
        self._check_on_loop = False
        self._running: Optional[Request] = None
        self._in_run = True
        channel.on_gone = self._finish

    # --- getting ready ---------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Run the loader. If it fails, send the worker the error and exit with status 1."""
        error = None
        if self._registry.loader is not None:
            error = self._load(self._registry.loader)
        # Not earlier: modules that the loader imports may declare handlers.
        self._registry.freeze()
        handlers = list(self._registry.handlers.values())
        self._has_async = any(handler.is_async for handler in handlers)
        self._has_sync = any(not handler.is_async for handler in handlers)
        self._check = Check(self._registry.check)
        self._check.loaded = self._loaded
        # A plain one on the main thread, where the loop runs when all handlers are async.
        self._check_on_loop = self._check.is_async or not self._has_sync
        if self._has_async or self._check.is_async:
            self._event_loop()
        if error is None and not handlers:
            error = "no handler: decorate a function with @task before calling run()"
        if error is not None:
            self.outbox.send(b"\n" + _wire.startup_error(error))
            sys.exit(1)

    def _load(self, loader: Any) -> Optional[str]:
        try:
            if is_async(loader):
                self._loaded = self._event_loop().run_loader(loader())
            else:
                self._loaded = loader()
        except BaseException as exc:  # SystemExit too: the worker needs the reason
            if self._channel.forked:
                raise
            return describe(exc)
        return None

    def _event_loop(self) -> "EventLoop":
        if self._loop is None:
            # Imported only here: asyncio would add 50 ms to the start of a task file without async handlers.
            from ._loop import EventLoop

            self._loop = EventLoop(self.outbox, self._channel, self._queued)
        return self._loop

    def left(self) -> None:
        """Say that the main thread has left run(): nothing is written any more, and the worker sees that."""
        self._in_run = False
        reporter.close()
        self._channel.close_output()

    # --- serving ---------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Send the ready message; return when standard input has ended and every request is answered."""
        if self._loop is not None:
            self._loop.loaded = self._loaded
            if not self._has_sync:
                self._loop.handle_interrupts()
        # The newline ends what may have been printed without one before run() took standard output.
        self.outbox.send(b"\n" + _wire.ready("async" if self._has_async else "sync", self._registry.kinds()))
        reader = threading.Thread(target=_exit_on_error, args=(self._read,), name="runqy-reader", daemon=True)
        if self._loop is None:
            reader.start()
            self._serve_sync()
        elif not self._has_sync:
            reader.start()
            self._loop.serve()
        else:
            thread = threading.Thread(target=_exit_on_error, args=(self._loop.serve,), name="runqy-loop", daemon=True)
            thread.start()
            reader.start()
            self._serve_sync()
            thread.join()
        self.outbox.flush()

    def _serve_sync(self) -> None:
        clock = time.monotonic
        outbox, inbox, queued, execute = (self.outbox, self._inbox, self._queued, self._execute)
        while True:
            batch = inbox.get()
            if not isinstance(batch, list):
                if batch is None:
                    return
                self._answer_check(batch.number)
                continue
            batch.reverse()
            while batch and not queued.closed:
                request = batch.pop()
                if queued.pop(request, self) is self:
                    continue  # cancelled or withdrawn, and answered, while it waited
                handler = request.handler
                if handler.slow and outbox.held:
                    outbox.flush()
                self._running = request
                begun = clock()
                reply = execute(request)
                now = clock()
                self._running = None
                handler.slow = slow = now - begun > HOLD_TIME
                if slow or not (batch or not inbox.empty()):
                    outbox.send(reply)
                else:
                    outbox.hold(reply, now)
                # A large payload or result must not stay in memory until the next task comes.
                del request, reply
            current_task.set(None)

    def _answer_check(self, number: Any) -> None:
        if self._queued.closed:
            return  # the worker replaces this process
        answer = self._check.answer(number)
        if self._channel.forked:
            _channel.exit_forked_child(0)
        self.outbox.send(answer)

    def _execute(self, request: Request) -> Line:
        task_id = request.task_id
        status = 0
        current_task.set(request)
        try:
            result = request.handler.func(*request.arguments(self._loaded))
            seconds = time.monotonic() - request.begun
        except BaseException as exc:  # after sys.exit or KeyboardInterrupt in a handler the task has failed
            if says_broken(exc):
                self._queued.closed = True
            reply: Line = _wire.error_reply(task_id, exc, request.ran())
            if isinstance(exc, SystemExit) and isinstance(exc.code, int):
                status = exc.code
            elif not (isinstance(exc, SystemExit) and exc.code is None):
                status = 1
        else:
            reply = _wire.success_reply(task_id, result, seconds)
        if self._channel.forked:
            _channel.exit_forked_child(status)
        request.end()
        return reply

    # --- the reader thread -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        # Ends at the end of standard input, or when the worker is gone. The threads that run handlers end after it.
        # One buffer for all that is read: fresh memory for each large line would cost more than its parsing.
        source, buffer, used = self._channel.input, bytearray(_CHUNK), 0
        try:
            while True:
                if used == len(buffer):
                    buffer += bytes(used)
                with memoryview(buffer) as view, view[used:] as free:
                    end = used + os.readv(source, [free])
                if end == used:
                    break
                cut = buffer.rfind(b"\n", used, end)
                used = end
                if cut < 0:
                    continue
                with memoryview(buffer) as view, view[:cut] as block:
                    if cut > _CHUNK and buffer.find(b"\n") == cut:
                        self._handle_lines([block])
                    else:
                        self._handle_lines(bytes(block).split(b"\n"))
                rest = buffer[cut + 1 : end]
                used = len(rest)
                if len(buffer) > _MAX_BUFFER:
                    buffer = bytearray(max(_CHUNK, used))
                buffer[:used] = rest
            if used:
                self._handle_lines([bytes(buffer[:used])])
        except WorkerGone:
            pass
        except OSError as exc:
            _warn(f"cannot read standard input: {exc}")
        finally:
            self._finish()

    def _finish(self) -> None:
        self._inbox.put(None)
        if self._loop is not None:
            self._loop.finish()

    def _handle_lines(self, lines: Sequence[Input]) -> None:
        sync_batch: List[Request] = []
        async_batch: List[Request] = []
        handlers = self._registry.handlers
        for raw in lines:
            if not raw:
                continue
            try:
                message = _wire.parse(raw)
            except (ValueError, RecursionError, MemoryError) as exc:
                self._reject(raw, exc)
                continue
            if type(message) is not dict:
                _warn(f"ignored an input line that is not a JSON object: {_excerpt(raw)}")
            elif "task_id" in message:
                kind = message.get("type")
                handler = (handlers.get(kind) if type(kind) is str else None) or self._handler(message)
                if handler is not None:
                    (async_batch if handler.is_async else sync_batch).append(Request(message, handler))
            elif "ping" in message:
                lag = self._loop.lag() if self._loop is not None and self._has_async else 0.0
                # Not alive: it has ended, without what is done when run() is left, and only other threads live.
                main = self._in_run and threading.main_thread().is_alive()
                self.outbox.send(_wire.pong(message["ping"], lag, main))
            elif "stack" in message:
                self.outbox.send(_wire.stack(message["stack"], self._stacks()))
            elif "cancel" in message or "withdraw" in message or "check" in message:
                # The tasks before it in this block must be delivered first: it concerns them, or comes after them.
                self._deliver(sync_batch, async_batch)
                sync_batch, async_batch = [], []
                if "cancel" in message:
                    self._cancel(message["cancel"])
                elif "withdraw" in message:
                    self._withdraw(message["withdraw"])
                elif self._check_on_loop and self._loop is not None:
                    self._loop.check(self._check, message["check"])
                else:
                    self._inbox.put(_CheckNumber(message["check"]))
            else:
                _warn(f"ignored an input line that is neither a task nor a request of the worker's: {_excerpt(raw)}")
        self._deliver(sync_batch, async_batch)

    def _stacks(self) -> str:
        tasks: Dict[Optional[int], Any] = {}
        if self._running is not None:
            tasks[threading.main_thread().ident] = self._running.task_id
        if self._loop is None:
            return _stack.of_threads(tasks)
        return _stack.of_threads({**self._loop.running(), **tasks}) + self._loop.stacks()

    def _deliver(self, sync_batch: List[Request], async_batch: List[Request]) -> None:
        if sync_batch:
            self._queued.update(dict.fromkeys(sync_batch))
            self._inbox.put(sync_batch)
        if async_batch:
            assert self._loop is not None
            self._queued.update(dict.fromkeys(async_batch))
            self._loop.deliver(async_batch)

    def _handler(self, message: Dict[str, Any]) -> Optional[Handler]:
        """The handler of a task; None when there is none and the task is answered."""
        kind = message.get("type")
        if kind is None:
            kind = ""
        if type(kind) is not str:
            self.outbox.send(
                _wire.failure_reply(message["task_id"], "BadRequest: the task's type is not a string", False)
            )
            return None
        handler = self._registry.find(kind)
        if handler is None:
            known = ", ".join(repr(name) for name in self._registry.types())
            error = f"UnknownTask: no handler for task type {kind!r}; this process has handlers for {known}"
            # Retried, as in asynq: during a rolling deployment another worker may already have the handler.
            self.outbox.send(_wire.failure_reply(message["task_id"], error, True))
        return handler

    def _reject(self, raw: Input, exc: BaseException) -> None:
        if bytes(raw).isspace():
            return
        task_id = _wire.leading_task_id(str(raw[:4096], "utf-8", "replace"))
        if task_id is None:
            _warn(f"ignored an input line that is not JSON ({type(exc).__name__}): {_excerpt(raw)}")
            return
        if isinstance(exc, RecursionError):
            reason = "it is nested too deeply for Python's JSON reader"
        else:
            reason = str(exc) or type(exc).__name__
        # Permanent: the same bytes would fail the same way.
        self.outbox.send(_wire.failure_reply(task_id, "BadRequest: the task cannot be read: " + reason, False))

    def _cancel(self, task_id: Any) -> None:
        for request in self._waiting(task_id):
            if self._claim(request):
                if request.handler.is_async and self._loop is not None:
                    self._loop.answer_cancelled(request)  # there, since it keeps count of what it was given
                else:
                    self.outbox.send(_wire.failure_reply(task_id, _wire.CANCELLED, True))
        running = self._running
        if running is not None and running.task_id == task_id:
            # The context shows it, and nothing else happens. An exception raised from here could interrupt the handler
            # in its clean-up or in C code. If the handler does not end in time, the worker replaces the process.
            running.cancel()
        if self._loop is not None:
            self._loop.cancel(task_id)

    def _withdraw(self, task_id: Any) -> None:
        for request in self._waiting(task_id):
            if self._claim(request):
                self.outbox.send(_wire.withdrawn(task_id))

    def _waiting(self, task_id: Any) -> List[Request]:
        # A copy, since the threads that run handlers remove entries at the same time.
        return [request for request in list(self._queued) if request.task_id == task_id]

    def _claim(self, request: Request) -> bool:
        """Whether this thread is the one that answers a request that has not begun."""
        return self._queued.pop(request, self) is not self


class _CheckNumber:
    """A check of the worker's that waits for the main thread."""

    __slots__ = ("number",)

    def __init__(self, number: Any) -> None:
        self.number = number


def _exit_on_error(body: Callable[[], None]) -> None:
    """Run the body of a thread, and end the process if it raises: without the thread no task would be answered."""
    try:
        body()
    except BaseException:
        try:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)


def _warn(text: str) -> None:
    try:
        print("runqy: " + text, file=sys.stderr, flush=True)
    except Exception:
        pass  # the task file may have replaced or closed sys.stderr


def _excerpt(raw: Input) -> str:
    return repr(bytes(raw) if len(raw) <= 200 else bytes(raw[:200]) + b"...")
