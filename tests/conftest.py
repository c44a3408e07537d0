"""Settings that all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings
from tdxc.diagnostics import DiagnosticError
from tdxc.render import render_diagnostics

# Machines that run these tests are shared and slow at times: how long examples take says nothing. In continuous
# integration the examples are the same each time, so that a red run is the change's fault; elsewhere they are new ones.
settings.register_profile(
    "tdxvm",
    deadline=None,
    print_blob=True,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tdxvm")

# The tools that tests hold ours against are where the set-up has found them, which the PATH of a user may lack; and
# some, such as dpkg-deb, want the usual umask. Tests of other ones set their own.
os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
os.umask(0o022)

# Programs that we run colour nothing, whatever continuous integration asks for; tests of colour set these themselves.
for _name in ("CLICOLOR_FORCE", "FORCE_COLOR", "MYPY_FORCE_COLOR", "PY_COLORS", "PYTEST_ADDOPTS"):
    os.environ.pop(_name, None)

# A shell starts its background commands deaf to Ctrl-C, and so would be the programs that we send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that ends with diagnostics shows them whole: a console's last lines are in the notes."""
    report = yield
    if call.excinfo and isinstance(call.excinfo.value, DiagnosticError):
        report.sections.append(("diagnostics", render_diagnostics(call.excinfo.value.diagnostics)))
    return report
