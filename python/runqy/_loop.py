"""The event loop that `async def` handlers share, and how late it runs."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Dict, List, Optional, Tuple

from . import _stack, _wire
from ._channel import Channel, Line, WorkerGone, exit_forked_child
from ._errors import says_broken
from ._outbox import Outbox
from ._report import current_task
from ._wire import Request, Waiting

if TYPE_CHECKING:
    from ._health import Check

_TICK = 0.5  # seconds between two measurements of the lag

_MakeTask = Callable[[Coroutine[Any, Any, None]], Any]


class EventLoop:
    """Runs requests as asyncio tasks. Any thread may call `deliver`, `check`, `cancel`, `answer_cancelled`, `finish`,
    `lag`, `running` and `stacks`."""

    def __init__(self, outbox: Outbox, channel: Channel, queued: Waiting) -> None:
        self.loaded: Any = None
        # Requests that have not begun, of any handler. Who removes one from here answers it.
        self._queued = queued
        self._outbox = outbox
        self._channel = channel
        self._loop = asyncio.new_event_loop()
        # Used on the loop's thread only.
        self._tasks: Dict[Request, "asyncio.Task[None]"] = {}  # of those that are delivered and not answered
        self._starting: Optional[Request] = None  # its asyncio task is being made, and may take the first step by that
        self._ticker: Any = None
        self._thread: Optional[int] = None  # that serves
        self._checking: Any = None  # the asyncio task of the last check: a loop keeps no task from being collected
        self._ending = False
        self._ended = False
        self._interrupted = False
        # Written by the loop's thread and read by any thread. No lock: each is one float.
        self._due = float("inf")
        self._late = 0.0

    def run_loader(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the loader on the loop that the handlers will use, so that what it opens belongs to that loop."""
        asyncio.set_event_loop(self._loop)
        try:
            return self._loop.run_until_complete(coroutine)
        finally:
            asyncio.set_event_loop(None)

    def handle_interrupts(self) -> None:
        """Have Ctrl-C end serve() with KeyboardInterrupt. Call it on the main thread."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_interrupt)

    def serve(self) -> None:
        """Run the loop until finish() was called and every request is answered.

        Call it one time only, on the loop's thread.
        """
        loop = self._loop
        self._thread = threading.get_ident()
        asyncio.set_event_loop(loop)
        self._start_ticking()
        while not self._ended and not self._interrupted:
            # It returns early when a handler stops the loop, or when sys.exit is called in a task or callback that a
            # handler started: such a task raises SystemExit in the loop as well as in the code that awaits it.
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                if self._channel.forked:
                    raise
        if self._interrupted:
            raise KeyboardInterrupt
        self._close()

    def deliver(self, batch: List[Request]) -> None:
        """Start these requests."""
        self._loop.call_soon_threadsafe(self._begin, batch)

    def check(self, check: "Check", number: Any) -> None:
        """Answer the worker's check with this number."""
        self._loop.call_soon_threadsafe(self._begin_check, check, number)

    def cancel(self, task_id: Any) -> None:
        """Cancel the request with this task id, if there is one that has begun."""
        self._loop.call_soon_threadsafe(self._cancel, task_id)

    def answer_cancelled(self, request: Request) -> None:
        """Answer a delivered request that the caller has removed from those that have not begun."""
        reply = _wire.failure_reply(request.task_id, _wire.CANCELLED, True)
        self._loop.call_soon_threadsafe(self._reply, request, reply)

    def finish(self) -> None:
        """Tell the loop that no more requests come, so that it may end."""
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:
            pass  # the loop is closed: it has ended already

    def lag(self) -> float:
        """How late the loop runs, in seconds: at its last tick, or now, if the next tick is overdue by more."""
        return max(0.0, self._late, time.monotonic() - self._due)

    def running(self) -> Dict[Optional[int], Any]:
        """The id of the task whose handler the loop executes now, by the loop's thread; empty while none is."""
        try:
            current = asyncio.current_task(self._loop)
        except RuntimeError:
            return {}
        ids = [request.task_id for request, task in self._named() if task is current]
        return {self._thread: ids[0]} if current is not None and ids else {}

    def stacks(self) -> str:
        """Where each asyncio task of this loop is, those that run tasks of the queue first."""
        try:
            requests = self._named()
            known = [task for _, task in requests] + [self._ticker]
            others = [task for task in asyncio.all_tasks(self._loop) if task not in known]
        except RuntimeError:  # the loop's thread has changed the sets all the time
            return ""
        named = [(_stack.name_of_task(request.task_id), task) for request, task in requests if task is not None]
        return _stack.of_asyncio(named + [(_stack.name_of_other(task), task) for task in others])

    def _named(self) -> List[Tuple[Request, Any]]:
        """The requests with their asyncio tasks."""
        named: List[Tuple[Request, Any]] = list(self._tasks.items())
        starting = self._starting
        if starting is not None and starting not in self._tasks:
            named.append((starting, asyncio.current_task(self._loop)))
        return named

    # --- on the loop's thread --------------------------------------------------------------------------------------

    def _on_interrupt(self, signum: int, frame: Any) -> None:
        # Ctrl-C must end the process. A KeyboardInterrupt that a handler raises does not, and this one may be raised
        # inside a handler, so the flag ends serve(). It is raised nevertheless, to end a handler that blocks the loop.
        self._interrupted = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        raise KeyboardInterrupt()

    def _start_ticking(self, _: Any = None) -> None:
        # Called again when a handler has cancelled every task of the loop: without ticks the loop would look blocked.
        self._answer_unbegun()
        if not self._ended:
            self._ticker = self._loop.create_task(self._tick())
            self._ticker.add_done_callback(self._start_ticking)

    async def _tick(self) -> None:
        while True:
            begun = time.monotonic()
            self._due = begun + _TICK
            await asyncio.sleep(_TICK)
            self._late = max(0.0, time.monotonic() - begun - _TICK)

    def _begin(self, batch: List[Request]) -> None:
        tasks, start = self._tasks, self._starter()
        for request in batch:
            self._starting = request
            task = start(self._serve(request))
            if not task.done():
                tasks[request] = task
        self._starting = None

    def _starter(self) -> _MakeTask:
        """What makes an asyncio task of a coroutine."""
        loop = self._loop
        if loop.get_task_factory() is not None:  # the task file's own
            return loop.create_task
        # create_task would make up a name for each. Started eagerly, a handler that never waits needs no turn of the loop.
        how: Dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
        make: _MakeTask = partial(asyncio.Task, loop=loop, name="runqy", **how)
        return make

    def _begin_check(self, check: "Check", number: Any) -> None:
        if self._queued.closed:
            return  # the worker replaces this process
        if check.is_async:
            self._checking = self._loop.create_task(self._answer_check(check, number))
        else:
            self._send_answer(check.answer(number))  # the loop runs on the main thread

    async def _answer_check(self, check: "Check", number: Any) -> None:
        self._send_answer(await check.answer_async(number))

    def _send_answer(self, answer: bytes) -> None:
        if self._channel.forked:
            exit_forked_child(0)
        try:
            self._outbox.send(answer)
        except WorkerGone:
            self._end()

    async def _serve(self, request: Request) -> None:
        queued = self._queued
        if queued.closed or queued.pop(request, self) is self:
            # None begins any more; or it was cancelled or withdrawn, and answered, before it began.
            self._forget(request)
            return
        current_task.set(request)  # for this asyncio task and those it starts; each has its own context
        task_id = request.task_id
        try:
            result = await request.handler.func(*request.arguments(self.loaded))
            seconds = time.monotonic() - request.begun
        except asyncio.CancelledError as exc:
            if request.cancelled:
                reply: Line = _wire.cancelled_reply(task_id, exc, request.ran())
            else:
                reply = _wire.error_reply(task_id, exc, request.ran())
        except BaseException as exc:  # SystemExit would stop the loop
            if says_broken(exc):
                queued.closed = True
            reply = _wire.error_reply(task_id, exc, request.ran())
        else:
            reply = _wire.success_reply(task_id, result, seconds)
        if self._channel.forked:
            exit_forked_child(0)
        request.end()
        self._reply(request, reply)

    def _reply(self, request: Request, reply: Line) -> None:
        try:
            if self._outbox.hold(reply, time.monotonic()):
                # Requests that end in the same iteration of the loop share the write.
                self._loop.call_soon(self._flush)
        except WorkerGone:
            self._end()
        self._forget(request)

    def _forget(self, request: Request) -> None:
        self._tasks.pop(request, None)
        if self._ending and not self._tasks:
            self._end()

    def _answer_unbegun(self) -> None:
        # asyncio tasks that a handler has cancelled before their first step never run, not even to say so.
        for request, task in list(self._tasks.items()):
            if not task.done():
                continue
            if self._queued.pop(request, self) is self:
                self._forget(request)
            else:
                self._reply(request, _wire.error_reply(request.task_id, asyncio.CancelledError(), None))

    def _flush(self) -> None:
        try:
            self._outbox.flush()
        except WorkerGone:
            self._end()

    def _cancel(self, task_id: Any) -> None:
        for request, task in list(self._tasks.items()):
            if request.task_id == task_id and request.begun:
                request.cancel()
                task.cancel()

    def _finish(self) -> None:
        self._ending = True
        if not self._tasks or self._channel.gone:
            self._end()

    def _end(self) -> None:
        # One stop only: a second one would stop the loop while _close uses it.
        if not self._ended:
            self._ended = True
            self._loop.stop()

    def _close(self) -> None:
        # As asyncio.run does at its end: end what handlers and the loader left running.
        loop = self._loop
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if hasattr(loop, "shutdown_default_executor"):  # Python 3.9
            loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()
