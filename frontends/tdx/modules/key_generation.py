"""KeyGeneration: a key that the guest has after each boot, for the disks that DiskEncryption opens with it."""

from __future__ import annotations

from typing import Annotated, Literal

from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import GuestKey

from tdx import _values as v
from tdx._declare import describes, here
from tdx.image import Image
from tdx.modules._guest import KEY_PRIORITY, PROGRAM, VolumeName, between, install_program

Pcr = Annotated[int, between(0, 23, "the number of a PCR")]
PipeTimeout = Annotated[int, between(1, 3600, "a time in seconds")]
Strategy = Literal["tpm", "random", "pipe", "tdx"]


class KeyGeneration:
    """Make or unseal a key at boot, before everything else (priority 10).

    ``tpm``: a random key, sealed to the TPM under the values that ``pcrs`` have at the first boot; another image cannot
    unseal it. Without ``pcrs`` these are the registers that hold the image wherever it may run. ``random``: a key of
    this boot alone. ``pipe``: read from the named pipe at ``pipe``. ``keep`` leaves it in ``/run/tdx-guest/keys/NAME``
    for root, where it is otherwise wiped once the disks are open.
    """

    @describes
    def __init__(
        self,
        strategy: Strategy = "tpm",
        *,
        name: VolumeName = "disk",
        pcrs: list[Pcr] | tuple[Pcr, ...] = (),
        pipe: v.OptionalProgramPath = "",
        timeout: PipeTimeout = 300,
        keep: bool = False,
    ) -> None:
        span = here()
        if strategy == "tdx":
            raise DiagnosticError.of(
                Code.E_UNSUPPORTED,
                "KeyGeneration(strategy='tdx') needs a key broker, and this version speaks to none",
                span,
                fix="write strategy='tpm', or hand the key over with strategy='pipe'",
            )
        if bool(pipe) != (strategy == "pipe"):
            message = "KeyGeneration(): pipe is the named pipe's path of strategy='pipe', and of no other"
            raise DiagnosticError.of(
                Code.E_VALUE, message, span, fix="give both: strategy='pipe', pipe='/run/disk-key'"
            )
        if pcrs and strategy != "tpm":
            message = f"KeyGeneration(): pcrs are those of a TPM, which strategy='{strategy}' does not use"
            raise DiagnosticError.of(Code.E_VALUE, message, span, fix="leave pcrs out, or write strategy='tpm'")
        self.node = GuestKey(
            name=name,
            strategy=strategy,
            pcrs=tuple(sorted(set(pcrs))),
            pipe=pipe,
            timeout_seconds=timeout if strategy == "pipe" else 0,
            keep=keep,
            span=span,
        )

    def apply(self, image: Image) -> None:
        """Declare the key, the program that makes it, and its boot step."""
        with image.module("KeyGeneration"):
            install_program(image)
            image.declare("guest_keys", self.node)
            image.on_boot(f"exec {PROGRAM} key", name="key-generation", priority=KEY_PRIORITY)
