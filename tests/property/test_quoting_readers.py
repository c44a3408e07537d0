"""The same promise against systemd's, mkosi's, nft's and systemd-sysusers' own parsers in the tools root."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.systemd import field, load_units, run_inside
from tdxc import quoting
from tdxc.diagnostics import DiagnosticError

pytestmark = pytest.mark.integration

few = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
NASTY = [
    " ", "a b", " a", "a ", "'", '"', '"a b"', "\\", "a\\", "\\n", "\\x41", "$HOME", "${HOME}", "$$", "%n", "%%",
    "%", "%h/x",    "é ü", "日本", "a\nb", "a\tb", "-", "--", ";", "#", "# x", "a;b", "[Service]", "=", "a=b", "\u2028",
    "\x85", "\ufeff", "\xa0", "*", "?", "~", "!", "|", ":", ",", "a,b",
]  # fmt: skip
texts = st.one_of(st.sampled_from(NASTY), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
batches = st.lists(texts, min_size=20, max_size=40)
paths = batches.map(lambda values: ["/srv/" + value.replace("/", "_") for value in values])


def written(write: Callable[[str], str], values: list[str]) -> dict[str, tuple[str, str]]:
    """Unit name to (value, text) for each value that is not refused."""
    kept: dict[str, tuple[str, str]] = {}
    for index, value in enumerate(values):
        try:
            kept[f"t{index}.service"] = (value, write(value))
        except DiagnosticError:
            continue
    return kept


def blocks(kept: dict[str, tuple[str, str]], section: str, key: str) -> list[tuple[str, str]]:
    """Each kept value with systemd's view of the unit that holds it."""
    units = {}
    for name, (_, text) in kept.items():
        line = f"{key}={text}\n"
        description = line if section == "Unit" else ""
        units[name] = (
            f"[Unit]\nDefaultDependencies=no\n{description}[Service]\nType=oneshot\n"
            + (line if section == "Service" else "")
            + ("" if key == "ExecStart" else "ExecStart=/bin/true\n")
        )
    loaded = load_units(units)
    return [(value, loaded[name]) for name, (value, _) in kept.items()]


@given(values=batches)
@few
def test_descriptions(values: list[str]) -> None:
    for value, block in blocks(written(quoting.unit_text, [v for v in values if v]), "Unit", "Description"):
        assert field(block, "Description") == value


@given(values=batches)
@few
def test_environment(values: list[str]) -> None:
    kept = written(lambda v: quoting.environment_assignment("V", v), values)
    for value, block in blocks(kept, "Service", "Environment"):
        assert field(block, "Environment", "RuntimeDirectoryPreserve:") == f"V={value}"


@given(values=batches)
@few
def test_program_arguments(values: list[str]) -> None:
    kept = written(lambda v: quoting.exec_line(["/bin/echo", v]), values)
    for value, block in blocks(kept, "Service", "ExecStart"):
        line = re.search(r"Command Line: /bin/echo (.*)\n", block)
        assert line
        assert unescape(line.group(1)) == value.replace("$", "$$")


@given(values=paths)
@few
def test_lists_of_paths(values: list[str]) -> None:
    kept = written(quoting.unit_path_word, values)
    for value, block in blocks(kept, "Service", "ReadWritePaths"):
        assert field(block, "ReadWritePaths").rstrip("/") == value.rstrip("/")


@given(values=paths)
@few
def test_single_paths(values: list[str]) -> None:
    kept = written(quoting.unit_path, values)
    for value, block in blocks(kept, "Service", "WorkingDirectory"):
        assert field(block, "WorkingDirectory").rstrip("/") == value.rstrip("/")


def unescape(word: str) -> str:
    """Undo the quoting in which systemd prints command lines."""
    if not word.startswith('"'):
        return word
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m.group(1), m.group(1)), word[1:-1])


@given(values=batches)
@few
def test_mkosi(values: list[str]) -> None:
    words: dict[str, str] = {}
    lines: list[str] = []
    packages: list[str] = []
    for index, value in enumerate(values):
        with contextlib.suppress(DiagnosticError):
            lines.append(f"Environment={quoting.mkosi_environment(f'V{index}', value)}")
            words[f"V{index}"] = value
        with contextlib.suppress(DiagnosticError):
            packages.append(quoting.mkosi_item(f"p{value}p", ","))
    conf = "[Distribution]\nDistribution=debian\nRelease=trixie\n[Build]\n" + "\n".join(lines) + "\n[Content]\n"
    conf += "\n".join(f"Packages={package}" for package in packages) + "\n"
    done = run_inside(["mkosi", "-C", "/mnt", "--json", "summary"], {"mkosi.conf": conf})
    assert not done.status, done.lines
    image = json.loads(done.stdout)["Images"][-1]
    assert {k: v for k, v in image["Environment"].items() if k in words} == words
    assert image["Packages"] == [package.replace("%%", "%") for package in packages]
    assert not [line for line in done.lines if "specifier" in line]


@given(values=batches)
@few
def test_nft_comments(values: list[str]) -> None:
    kept = [text for _, text in written(lambda v: quoting.nft_string("x" + v), values).values()]
    rules = "\n".join(f"    accept comment {text}" for text in kept)
    done = run_inside(["nft", "-c", "-f", "/mnt/r"], {"r": f"table inet t {{\n  chain c {{\n{rules}\n  }}\n}}\n"})
    assert not done.status, done.lines


@given(values=batches)
@few
def test_tmpfiles_paths(values: list[str]) -> None:
    names = sorted({"x" + value.replace("/", "_") for value in values})
    kept = written(lambda name: quoting.tmpfiles_path(f"/d/{name}"), names).values()
    conf = "d /d 0755 root root\n" + "".join(f"d {text} 0755 root root\n" for _, text in kept)
    create = "mkdir /run/r; systemd-tmpfiles --root=/run/r --create /mnt/t.conf"
    script = f"{create}; cd /run/r/d && find . -mindepth 1 -print0"
    done = run_inside(["sh", "-c", script], {"t.conf": conf}, env={"LC_ALL": "C"})
    assert sorted(done.stdout.decode().split("\0")[:-1]) == sorted(f"./{value}" for value, _ in kept), done.lines


def test_kernel_words_are_one_word_to_systemd() -> None:
    for word in ["title=a b", "a b", "x=y", "p=50%,b"]:
        env = {"SYSTEMD_PROC_CMDLINE": f"quiet {quoting.kernel_word(word)} splash"}
        condition = f"ConditionKernelCommandLine={word.replace('%', '%%')}"
        done = run_inside(["systemd-analyze", "condition", condition], {}, env=env)
        assert not done.status, (word, done.lines, done.stdout)
