"""Patterns: what is accepted means the same to Python, and what RE2 does not know or reads otherwise is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc.grammar.re2 import MAX_PATTERN, PatternError, check_pattern

ACCEPTED = [
    "",
    "^tok_",
    "^tok_[a-z0-9]{8,}$",
    "(?i)abc",
    "(?ims)a.b",
    "a+?b*?c??",
    "a{2,3}?",
    "[]a]",
    "[^]a]",
    "[a-]",
    "[-a]",
    "[\\d_]",
    "[^\\]\\[]",
    "(a|b|)+",
    "(?:ab)*",
    "\\Aabc",
    "\\bword\\b",
    "x\\.y\\$",
    "\\x41",
    "{a}",
    "{}",
    "a{}",
    "a{,٣}",
    "a{",
    "a{1,2",
    "é+",
    "(a{30}){30}",
    "a|b",
]
REFUSED = {
    "^a{,3}$": "write {0,3}",
    "a{,}": "write {0,}",
    "{,}": "\\{,}",
    "a**": "group",
    "{2}": "\\{",
    "a|{1,3}b": "\\{",
    "a{2}{3}": "group",
    "a*+": "'+'",
    "(?=x)": "",
    "(?!x)": "",
    "(?<=x)y": "",
    "(?<!x)y": "",
    "(?P<n>x)": "",
    "(?P=n)": "",
    "(?>a)": "",
    "(?#c)": "",
    "(a)(?(1)b)": "",
    "(?i:a)": "(?i)",
    "a(?i)b": "(?i)",
    "(?x)a b": "(?i)",
    "a\\Z": "write $",
    "a\\z": "write $",
    "(a)\\1": "",
    "\\07": "",
    "\\u0041": "",
    "\\N{DIGIT ONE}": "",
    "\\pL": "",
    "\\Qa\\E": "",
    "\\é": "",
    "[[:alpha:]]": "\\[",
    "[z-a]": "",
    "[\\d-x]": "",
    "[---]": "write \\-",
    "[a||b]": "write \\|",
    "[!--]": "write \\-",
    "[\\b]": "",
    "[a": "",
    "(a": "",
    "a)": "",
    "*a": "\\*",
    "^*": "",
    "\\b+": "",
    "a{3,2}": "",
    "a{1001}": "",
    "(a{100}){11}": "",
    "a\\": "",
    "a" * (MAX_PATTERN + 1): "",
    "(" * 200 + ")" * 200: "",
}


@pytest.mark.parametrize("pattern", ACCEPTED)
def test_accepted(pattern: str) -> None:
    check_pattern(pattern)
    re.compile(pattern)


@pytest.mark.parametrize("pattern", sorted(REFUSED))
def test_refused_with_its_place_and_what_to_write(pattern: str) -> None:
    with pytest.raises(PatternError) as caught:
        check_pattern(pattern)
    assert 0 <= caught.value.position <= len(pattern)
    assert REFUSED[pattern] in caught.value.fix


@given(st.text("ab01()[]{}|*+?\\^$.,-=!<>:Pidwz", max_size=14))
def test_python_compiles_whatever_is_accepted(pattern: str) -> None:
    try:
        check_pattern(pattern)
    except PatternError:
        return
    re.compile(pattern)
