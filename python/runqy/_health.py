"""@health: the task file's own answer to whether this process can do its work."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Optional

from ._context import Context
from ._errors import describe
from ._registry import is_async, wants_argument
from ._wire import checked


class Check:
    """The @health function, or a check that always passes: then the answer shows that the process takes turns."""

    def __init__(self, func: Optional[Callable[..., Any]]) -> None:
        self._func = func
        self.is_async = func is not None and is_async(func)
        self._wants_context = func is not None and wants_argument(func)
        #: What @load returned.
        self.loaded: Any = None

    def answer(self, number: Any) -> bytes:
        """Call the function, which is not async, and return the answer to the worker's check with this number."""
        try:
            error = _fault(self._call())
        except BaseException as exc:  # sys.exit in it ends the check, not the process, as in a handler
            error = describe(exc)
        return checked(number, error)

    async def answer_async(self, number: Any) -> bytes:
        """As answer, for an async function."""
        try:
            error = _fault(await self._call())
        except BaseException as exc:
            error = describe(exc)
        return checked(number, error)

    def _call(self) -> Any:
        if self._func is None:
            return None
        return self._func(Context(loaded=self.loaded)) if self._wants_context else self._func()


def _fault(returned: Any) -> Optional[str]:
    """What a check's return value says is wrong; None when nothing is."""
    if returned is None:
        return None
    if isinstance(returned, str):
        return returned or "the check returned an empty text"
    if inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        return "the check returned a coroutine, which nobody awaits; declare it `async def`"
    return None if returned else f"the check returned {returned!r}"
