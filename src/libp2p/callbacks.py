"""Functions that a program gives to be called: which of them are `async def`, and which must not be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def is_async(function: object) -> bool:
    """Whether calling `function` gives something to be awaited: an `async def`, also behind decorators, or an object
    that is called like one.
    """
    bare = inspect.unwrap(function) if callable(function) else function
    return inspect.iscoroutinefunction(bare) or inspect.iscoroutinefunction(
        getattr(bare, "__call__", None)  # noqa: B004 - an object that is called like a function
    )


def plain(function: F, what: str) -> F:
    """`function`, which is called at once, as `what`. Raises `TypeError` for an `async def`: nobody would await it, and
    what it gives would be taken for its answer.
    """
    if is_async(function):
        raise TypeError(f"{what} is a plain function, called at once, and not an `async def`: got {function!r}")
    return function


def at_once(answer: T, what: str) -> T:
    """`answer`, which `what` gave. Raises `TypeError` where it has to be awaited: what looked plain was not."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # else Python complains that nobody awaited it
        raise TypeError(f"{what} is a plain function, called at once: what it gave has to be awaited")
    return answer
