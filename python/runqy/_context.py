"""What a handler may know about its task, besides the payload."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Dict, Optional, SupportsFloat, Tuple, Union

from ._deadline import effective_deadline, from_unix, parse_time
from ._report import TaskProgress, check_arguments


class Context:
    """The second argument of a handler that asks for one.

    Make one by hand to call a handler from a test: ``Context(task_id="t1", loaded={"model": fake})``.
    """

    __slots__ = (
        "task_id",
        "type",
        "queue",
        "retry_count",
        "max_retry",
        "headers",
        "loaded",
        "_deadline",
        "_clock",
        "_cancelled",
        "_progress",
    )

    def __init__(
        self,
        task_id: str = "",
        type: str = "",
        queue: str = "",
        retry_count: int = 0,
        max_retry: int = 0,
        deadline: Union[datetime, str, None] = None,
        headers: Optional[Dict[str, str]] = None,
        loaded: Any = None,
    ) -> None:
        self.task_id = task_id
        self.type = type
        self.queue = queue
        #: How many attempts at this task have failed before; 0 on the first attempt.
        self.retry_count = retry_count
        #: How often the task may be retried.
        self.max_retry = max_retry
        self.headers: Dict[str, str] = {} if headers is None else headers
        #: What the @load function returned; None when there is none.
        self.loaded = loaded
        self._deadline = deadline
        self._clock: Optional[Tuple[Any, float]] = None  # the timeout and when it began, until deadline is read
        self._cancelled = False
        self._progress: Optional[TaskProgress] = None

    @property
    def deadline(self) -> Optional[datetime]:
        """When the task must have ended, as an aware datetime. None when it has no deadline."""
        clock = self._clock
        if clock is not None:
            until = effective_deadline(self._deadline, *clock)
            if until is not None:
                self._deadline = from_unix(until)
            self._clock = None
        if isinstance(self._deadline, str):
            self._deadline = parse_time(self._deadline)
        return self._deadline

    def _begin(self, timeout: Any, now: float) -> None:
        # The timeout of the request, in seconds, counts from now, in Unix time. Worked out when it is asked for.
        self._clock = (timeout, now)

    def remaining(self) -> Optional[float]:
        """Seconds until the deadline, negative once it has passed. None when there is no deadline."""
        deadline = self.deadline
        if deadline is None:
            return None
        return (deadline - datetime.now(timezone.utc)).total_seconds()

    @property
    def cancelled(self) -> bool:
        """Whether the worker has asked for this task to end, because it was cancelled or is past its deadline.

        A long synchronous handler checks it between its steps. See docs/python.md, "Cancellation and deadlines".
        """
        return self._cancelled

    def progress(self, fraction: Optional[SupportsFloat], message: str = "") -> None:
        """Report progress of this task, as `runqy.progress` does, from any thread.

        Does nothing in a context made by hand.
        """
        report = check_arguments(fraction, message)
        if self._progress is not None:
            self._progress.report(*report)

    def __getitem__(self, key: Any) -> Any:
        """``ctx["model"]`` is short for ``ctx.loaded["model"]``."""
        if self.loaded is None:
            raise KeyError(f"{key!r}: no @load function, or it returned None")
        return self.loaded[key]

    def __repr__(self) -> str:
        return (
            f"Context(task_id={self.task_id!r}, type={self.type!r}, queue={self.queue!r}, "
            f"retry_count={self.retry_count!r})"
        )
