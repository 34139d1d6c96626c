"""How tests are run: `async def` tests in virtual time, those marked `real` on an ordinary loop.

Hypothesis tests may be `async def` as well: each example is one run.
"""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable
from typing import Any

import pytest

pytest.register_assert_rewrite("libp2p.testing.conformance")

from libp2p.testing.loop import run, run_real  # noqa: E402 - behind the registration


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported so far stays: the collections at the end of each test need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    runner: Callable[[Any], None] = run_real if pyfuncitem.get_closest_marker("real") else run
    test = pyfuncitem.obj
    hypothesis = getattr(test, "hypothesis", None)
    if hypothesis is not None:
        example = hypothesis.inner_test
        if inspect.iscoroutinefunction(example):

            @functools.wraps(example)
            def one_example(*args: Any, **kwargs: Any) -> None:
                runner(example(*args, **kwargs))

            hypothesis.inner_test = one_example
        return None
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    runner(test(**arguments))
    return True
