"""help(Stream) and help(Connection) say what everything public is."""

import inspect
import re

import pytest

from libp2p import Connection, Stream


@pytest.mark.parametrize("kind", [Stream, Connection])
def test_each_public_attribute_has_a_line_of_its_own(kind: type[Stream | Connection]) -> None:
    table = inspect.getdoc(kind) or ""
    for name in {*dir(kind), *kind.__annotations__}:
        attribute = inspect.getattr_static(kind, name, None)
        if name.startswith("_"):
            continue
        if inspect.isroutine(attribute) or isinstance(attribute, property):
            assert inspect.getdoc(getattr(kind, name)), name
        else:
            assert re.search(rf"^ *{name}  +\S", table, re.M), name
