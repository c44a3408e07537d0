"""Digests out of the real event logs, for comparison with predictions."""

from support.event_logs import dstack_log, vector
from tdxc_runtime.measure.events import Algorithm, EventType, Register
from tdxc_runtime.measure.logs import EventLog, LogKind, parse_event_log


def tpm_boot(name: str) -> EventLog:
    """A boot of the folder ``qemu-tcg``."""
    return parse_event_log(vector(f"qemu-tcg/{name}.eventlog.bin"), name=name, kind=LogKind.TPM)


def td_boot(name: str) -> EventLog:
    """A TD's log: ``dstack``, or a file of the folder."""
    data = dstack_log() if name == "dstack" else vector(name)
    return parse_event_log(data, name=name, kind=LogKind.CC)


def digests(
    log: EventLog, register: Register, *, algorithm: Algorithm = Algorithm.SHA256, kind: EventType | None = None
) -> list[str]:
    """The digests of a register's events in order, in hex."""
    found = (event for event in log if event.register == register and event.is_extended)
    return [(event.digest(algorithm) or b"").hex() for event in found if kind is None or event.event_type == kind]
