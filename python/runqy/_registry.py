"""@task, @load and @health: the functions of the task file, and how each is called."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Optional, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])

#: The key of the handler that takes every type no other handler takes.
CATCH_ALL = None


class Handler:
    """One decorated function."""

    __slots__ = ("func", "is_async", "wants_context", "slow")

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func
        self.is_async = is_async(func)
        self.wants_context = _wants_context(func)
        #: Whether its last run took so long that finished replies must not wait for the next. True before the first.
        self.slow = True


class Registry:
    """The handlers, the loader and the check of this process. Modules add to it until it is frozen."""

    def __init__(self) -> None:
        self.handlers: Dict[Optional[str], Handler] = {}
        self.loader: Optional[Callable[[], Any]] = None
        self.check: Optional[Callable[..., Any]] = None
        self._frozen = False

    def freeze(self) -> None:
        """Refuse more of them: the worker is about to be told whether there are async ones."""
        self._frozen = True

    @property
    def frozen(self) -> bool:
        """Whether more are refused."""
        return self._frozen

    def add(self, task_type: Optional[str], func: Callable[..., Any]) -> None:
        """Take func as the handler of a task type. Raises ValueError when the type has one already."""
        if self._frozen:
            raise RuntimeError(
                f"@task {_name(func)}: run() is serving already; "
                "import the module at the top of the task file or in @load"
            )
        if task_type in self.handlers:
            what = "catch-all handler" if task_type is CATCH_ALL else f"handler for task type {task_type!r}"
            raise ValueError(
                f"there is already a {what}: {_name(self.handlers[task_type].func)}; remove one of the two"
            )
        self.handlers[task_type] = Handler(func)

    def find(self, task_type: str) -> Optional[Handler]:
        """The handler of a task type, or the catch-all handler."""
        return self.handlers.get(task_type) or self.handlers.get(CATCH_ALL)

    def kinds(self) -> Dict[str, str]:
        """Each task type with "sync" or "async"; "*" stands for all types without a handler of their own."""
        return {
            "*" if task_type is CATCH_ALL else task_type: "async" if handler.is_async else "sync"
            for task_type, handler in self.handlers.items()
        }

    def types(self) -> List[str]:
        """The task types with a handler of their own, sorted."""
        return sorted(task_type for task_type in self.handlers if task_type is not None)


registry = Registry()


@overload
def task(handler: F, /) -> F:
    ...


@overload
def task(*types: str) -> Callable[[F], F]:
    ...


def task(*args: Any) -> Any:
    """Declare a handler: ``@task("resize")`` for one type (or several), bare ``@task`` for every other type.

    The function may be plain or ``async def``. It is called with the payload and, when it has a second positional
    parameter, with a Context. What it returns is the task's result and must be JSON. The decorator returns the function
    unchanged, so that tests can call it. It raises TypeError or ValueError for a function that cannot be a handler.
    """
    if len(args) == 1 and not isinstance(args[0], str):
        registry.add(CATCH_ALL, _callable(args[0], "task"))
        return args[0]
    for task_type in args:
        if not isinstance(task_type, str) or not task_type:
            raise TypeError(f"@task({task_type!r}): a task type is a non-empty string")

    def decorate(func: F) -> F:
        _callable(func, "task")
        for task_type in args or (CATCH_ALL,):
            registry.add(task_type, func)
        return func

    return decorate


@overload
def load(loader: F, /) -> F:
    ...


@overload
def load() -> Callable[[F], F]:
    ...


def load(*args: Any) -> Any:
    """Declare the function that prepares this process. It runs once, before the first task.

    The function may be plain or ``async def`` and takes no arguments. What it returns is ``ctx.loaded`` in every
    handler that takes a Context. There is at most one such function in a process.
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


@overload
def health(check: F, /) -> F:
    ...


@overload
def health() -> Callable[[F], F]:
    ...


def health(*args: Any) -> Any:
    """Declare the function that says whether this process can do its work.

    It fails by an exception, or by returning False or a text; None and True are fine. The function may be plain or
    ``async def``. It takes no argument, or a Context, of which ``loaded`` is set. It is called after @load, while there
    is nothing to do, and after a failed task; a plain one on the main thread; never while a handler runs. There is at
    most one such function in a process.
    """

    def decorate(func: F) -> F:
        _callable(func, "health")
        if registry.frozen:
            raise RuntimeError(f"@health {_name(func)}: run() is serving already; declare it at the top of the file")
        if registry.check is not None:
            raise ValueError(
                f"there is already a @health function: {_name(registry.check)}; call the second from the first"
            )
        wants_argument(func)
        registry.check = func
        return func

    return decorate(args[0]) if args else decorate


def wants_argument(check: Callable[..., Any]) -> bool:
    """Whether a @health function takes a context. Raises TypeError when it takes more than that."""
    parameters = _positional(check)
    if not parameters:
        return False
    for extra in parameters[1:]:
        if extra.default is extra.empty and extra.kind is not extra.VAR_POSITIONAL:
            raise TypeError(f"@health {_name(check)} takes too many arguments; it gets a context and nothing else")
    first = parameters[0]
    if first.kind is not first.VAR_POSITIONAL and first.default not in (first.empty, None):
        raise TypeError(
            f"@health {_name(check)}: its parameter {first.name!r} would receive the context; "
            "make it keyword-only (put * before it)"
        )
    return True


def _callable(func: Any, decorator: str) -> Any:
    if not callable(func):
        raise TypeError(f"@{decorator} is for functions, not {func!r}")
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(f"@{decorator} {_name(func)}: a generator cannot be one; return a list instead of yielding")
    return func


def is_async(func: Callable[..., Any]) -> bool:
    """Whether what func returns must be awaited. A callable object is async when its __call__ is."""
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))


def _positional(func: Callable[..., Any]) -> Optional[List[inspect.Parameter]]:
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except ValueError:  # some builtins have no signature
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
        # A context as the factor of `def scale(payload, factor=2)` would only fail when a task runs.
        raise TypeError(
            f"@task {_name(func)}: its second parameter {second.name!r} would receive the context; "
            "make it keyword-only (put * before it)"
        )
    return True


def _name(func: Any) -> str:
    return getattr(func, "__qualname__", None) or repr(func)
