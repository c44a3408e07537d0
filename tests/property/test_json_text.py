"""The quick writer of indented JSON against the standard library's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc.ir.json_text import json_text

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
)


@given(VALUES, st.booleans())
def test_the_text_is_that_of_the_standard_library(data: Any, sort_keys: bool) -> None:
    assert (
        json_text(data, sort_keys=sort_keys)
        == json.dumps(data, indent=1, ensure_ascii=False, sort_keys=sort_keys) + "\n"
    )


@pytest.mark.parametrize("data", [object(), {"a": {1, 2}}, [b"bytes"], {1: "key"}, {("a",): 1}])
def test_what_json_cannot_hold_is_refused(data: Any) -> None:
    with pytest.raises(TypeError):
        json_text(data)
