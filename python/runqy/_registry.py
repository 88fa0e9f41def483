"""@task and @load: which functions there are, and how each wants to be called."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Optional, TypeVar, Union, overload

F = TypeVar("F", bound=Callable[..., Any])

#: The key of the handler that takes every type nobody else has claimed.
CATCH_ALL = None


class Handler:
    """One decorated function."""

    __slots__ = ("func", "is_async", "wants_context", "slow")

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func
        self.is_async = is_async(func)
        self.wants_context = _wants_context(func)
        #: Whether its last run took long enough that finished replies must not wait for it. Unknown counts as slow.
        self.slow = True


class Registry:
    """The handlers and the loader of this process. Filled while modules are imported, read-only once it is ready."""

    def __init__(self) -> None:
        self.handlers: Dict[Optional[str], Handler] = {}
        self.loader: Optional[Callable[[], Any]] = None
        self._frozen = False

    def freeze(self) -> None:
        """No more handlers: the worker has been told which kinds there are."""
        self._frozen = True

    def add(self, kind: Optional[str], func: Callable[..., Any]) -> None:
        if self._frozen:
            raise RuntimeError(
                f"@task {_name(func)}: run() is serving already; "
                "import the module at the top of the task file or in @load"
            )
        if kind in self.handlers:
            what = "catch-all handler" if kind is CATCH_ALL else f"handler for task type {kind!r}"
            raise ValueError(f"there is already a {what}: {_name(self.handlers[kind].func)}; remove one of the two")
        self.handlers[kind] = Handler(func)

    def find(self, kind: str) -> Optional[Handler]:
        return self.handlers.get(kind) or self.handlers.get(CATCH_ALL)

    def types(self) -> List[str]:
        return sorted(kind for kind in self.handlers if kind is not None)


registry = Registry()


@overload
def task(handler: F) -> F:
    ...


@overload
def task(*types: str) -> Callable[[F], F]:
    ...


def task(*args: Any) -> Any:
    """Declare a handler: ``@task("resize")`` for one type (or several), bare ``@task`` for every other type.

    The function, plain or ``async def``, is called with the payload and, when it has a second positional parameter,
    a Context. What it returns becomes the result and must be JSON. The function itself is returned unchanged, so that
    tests can call it. Raises TypeError or ValueError at once for a function that could never be called.
    """
    if len(args) == 1 and not isinstance(args[0], str):
        registry.add(CATCH_ALL, _callable(args[0], "task"))
        return args[0]
    for kind in args:
        if not isinstance(kind, str) or not kind:
            raise TypeError(f"@task({kind!r}): a task type is a non-empty string")

    def decorate(func: F) -> F:
        _callable(func, "task")
        for kind in args or (CATCH_ALL,):
            registry.add(kind, func)
        return func

    return decorate


@overload
def load(loader: F) -> F:
    ...


@overload
def load() -> Callable[[F], F]:
    ...


def load(*args: Any) -> Any:
    """Declare the function, plain or ``async def``, that prepares this process: it runs once, before the first task.

    What it returns is ``ctx.loaded`` in every handler that takes a Context. There is one such function per process.
    """

    def decorate(func: F) -> F:
        _callable(func, "load")
        if registry.loader is not None:
            raise ValueError(
                f"there is already a @load function: {_name(registry.loader)}; call the second from the first"
            )
        if _required(func):
            raise TypeError(f"@load {_name(func)}: it is called without arguments")
        registry.loader = func
        return func

    return decorate(args[0]) if args else decorate


def _callable(func: Any, decorator: str) -> Any:
    if not callable(func):
        raise TypeError(f"@{decorator} is for functions, not {func!r}")
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(f"@{decorator} {_name(func)}: a generator cannot be one; return a list instead of yielding")
    return func


def is_async(func: Callable[..., Any]) -> bool:
    """Whether calling func gives something to await; a callable object counts by its __call__."""
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))


def _positional(func: Callable[..., Any]) -> Union[List[inspect.Parameter], None]:
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except ValueError:  # some builtins do not tell
        return None
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise TypeError(f"{_name(func)}: the keyword-only parameter {parameter.name!r} needs a default")
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return [parameter for parameter in parameters if parameter.kind in kinds]


def _required(func: Callable[..., Any]) -> bool:
    return any(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in _positional(func) or [])


def _wants_context(func: Callable[..., Any]) -> bool:
    parameters = _positional(func)
    if parameters is None:
        return False
    rule = "a handler takes the payload and, if it wants one, a context"
    if not parameters:
        raise TypeError(f"@task {_name(func)} takes no argument; {rule}")
    if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return True
    for extra in parameters[2:]:
        if extra.default is extra.empty and extra.kind is not extra.VAR_POSITIONAL:
            raise TypeError(f"@task {_name(func)} takes too many arguments; {rule}")
    if len(parameters) == 1:
        return False
    second = parameters[1]
    if second.kind is not second.VAR_POSITIONAL and second.default not in (second.empty, None):
        # Handing a context to `def scale(payload, factor=2)` would be a puzzle at run time.
        raise TypeError(
            f"@task {_name(func)}: its second parameter {second.name!r} would receive the context; "
            "make it keyword-only (put * before it)"
        )
    return True


def _name(func: Any) -> str:
    return getattr(func, "__qualname__", None) or repr(func)
