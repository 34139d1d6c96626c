"""help(Stream) and help(Connection) say what everything public is."""

import inspect
import pydoc
import re

import pytest

from libp2p import Connection, Stream


@pytest.mark.parametrize("kind", [Stream, Connection])
def test_each_public_attribute_has_a_line_of_its_own(kind: type[Stream | Connection]) -> None:
    names = {name for name in (*dir(kind), *kind.__annotations__) if not name.startswith("_")}
    methods = {name for name in names if inspect.isroutine(inspect.getattr_static(kind, name, None))}
    assert not [name for name in methods if not inspect.getdoc(getattr(kind, name))]
    text = pydoc.plain(pydoc.render_doc(kind))
    for name in names - methods - {"is_diverted", "abort"}:
        assert re.search(rf"^ \|      +(?:\w+, )?{name}\b.* {{2,}}\w| \|  {name}$", text, re.M), name
