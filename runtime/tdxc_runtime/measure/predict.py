"""Predict every register of one boot: the engine's entry point.

:func:`predict` opens what a :class:`MeasurementRequest` names, hashes it once and lays out the events of the platform's
registers. Whatever is missing makes events pending; whatever is unknown (a stub, a firmware) is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, SourceSpan

from .acpi.chipset import MMCONFIG, MMCONFIG_BEFORE_202305
from .acpi.items import SMBIOS_TABLES, FwCfgItems, read_from_folder, read_from_qemu
from .acpi.qemu import Qemu, find_qemu
from .artifact import Artifact, open_artifact
from .boot.applications import separator_event
from .events import (
    MRTD,
    RTMR0,
    Algorithm,
    EventType,
    Origin,
    PredictedEvent,
    Register,
    RegisterKind,
)
from .firmware.endorsement import FirmwareEndorsement, parse_endorsement
from .firmware.load import (
    Firmware,
    declare_release,
    firmware_warnings,
    read_firmware,
    require_traits,
    unsigned_warning,
)
from .firmware.tdvf import firmware_error
from .firmware.traits import FIRST_WITH_HIGH_MMCONFIG, FirmwareTraits
from .machine import GIB, GuestMachine, QemuVersion
from .manifest import Endorsement, Manifest, Platform
from .payload import Payload, measure_payload
from .platforms import platform_rules
from .request import BootMode, MeasurementRequest
from .rtmr0.authority import authority_event
from .rtmr0.boot_options import virtio_disk_option
from .rtmr0.events import MachineInputs, rtmr0_events
from .rtmr0.smbios import measured_smbios
from .rtmr0.variables import secure_boot_events
from .sequence import (
    BootPath,
    Item,
    application_pcr_items,
    in_td,
    payload_pcr_items,
    register_of,
    rtmr1_items,
    rtmr2_items,
    stub_only_rtmr2_items,
    with_recipe_origins,
)
from .sources import FileSource
from .stub.uki import overlap_warning


@attrs.frozen(kw_only=True)
class Measurement:
    """The result: the manifest, and warnings about what was measured."""

    manifest: Manifest
    warnings: tuple[Diagnostic, ...] = ()


@attrs.frozen(kw_only=True)
class Surroundings:
    """What surrounds the image, read once; a matrix keeps it while it varies the request."""

    firmware: Firmware | None = None
    qemu: Qemu | None = None
    items: FwCfgItems | None = None

    @property
    def traits(self) -> FirmwareTraits | None:
        """The firmware's, if there is a firmware whose traits are known."""
        return None if self.firmware is None else self.firmware.traits


def predict(request: MeasurementRequest) -> Measurement:
    """Predict a boot. Raises ``DiagnosticError``: E_MEASUREMENT, E_ARTIFACT, E_FIRMWARE or E_BACKEND_…"""
    check_request(request)
    surroundings = read_surroundings(request)
    secure_boot = secure_boot_state(request, surroundings.firmware)
    with open_artifact(request.artifact, request.disk) as artifact:
        qemu = qemu_version(request, surroundings)
        payload = measure_payload(artifact, request, secure_boot=secure_boot, qemu=qemu)
        return assemble(request, surroundings, artifact, payload)


def check_request(request: MeasurementRequest) -> None:
    """Refuse requests that contradict themselves: E_MEASUREMENT."""
    if request.platform is not Platform.QEMU and request.boot is BootMode.DIRECT:
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"machines of {request.platform.value} boot from a disk, there is no direct kernel boot",
            SourceSpan(file=str(request.artifact)),
            fix="measure with --boot disk",
        )


@attrs.frozen(kw_only=True)
class Readers:
    """How surroundings are read; a matrix puts remembering versions in place of these."""

    firmware: Callable[[Path], Firmware] = read_firmware
    qemu: Callable[[Path | None], Qemu] = find_qemu
    tables: Callable[[Qemu, GuestMachine, int], FwCfgItems] = read_from_qemu


READERS = Readers()


def read_surroundings(request: MeasurementRequest, readers: Readers = READERS) -> Surroundings:
    """Read the firmware, and the machine's tables where they are wanted."""
    if request.platform is not Platform.QEMU:
        return Surroundings()
    firmware = readers.firmware(request.firmware) if request.firmware else None
    if firmware is not None and request.firmware_release:
        firmware = declare_release(firmware, request.firmware_release)
    if request.acpi_folder is not None:
        qemu = readers.qemu(request.qemu) if request.qemu is not None else None
        return Surroundings(firmware=firmware, qemu=qemu, items=read_from_folder(request.acpi_folder))
    if request.machine is None or not dumps_tables(request) or firmware is None:
        return Surroundings(firmware=firmware)
    qemu = readers.qemu(request.qemu)
    _check_qemu(request, qemu)
    items = readers.tables(qemu, request.machine, configuration_window(firmware))
    return Surroundings(firmware=firmware, qemu=qemu, items=items)


def dumps_tables(request: MeasurementRequest) -> bool:
    """Whether a QEMU will be asked for the machine's tables."""
    wanted = request.machine is not None and request.firmware is not None and request.acpi_folder is None
    return wanted and request.dump_tables and request.platform is Platform.QEMU


def _check_qemu(request: MeasurementRequest, qemu: Qemu) -> None:
    """E_MEASUREMENT when QEMU is not of the version that the request states."""
    wanted = request.qemu_version
    if wanted is not None and (wanted.major, wanted.minor) != (qemu.version.major, qemu.version.minor):
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"the tables of QEMU {wanted} were asked for, but '{qemu.program}' is {qemu.version}",
            fix="name the QEMU of the host with --qemu",
        )


def configuration_window(firmware: Firmware) -> int:
    """Where the firmware places the PCI configuration window, which the tables show."""
    high = firmware.traits is None or firmware.traits.at_least(FIRST_WITH_HIGH_MMCONFIG) is not False
    return MMCONFIG if high else MMCONFIG_BEFORE_202305


def secure_boot_state(request: MeasurementRequest, firmware: Firmware | None) -> bool | None:
    """Whether Secure Boot is on: as the firmware file tells, else as the request states."""
    state = None if firmware is None else firmware.secure_boot
    return request.secure_boot if state is None else state


def qemu_version(request: MeasurementRequest, surroundings: Surroundings) -> QemuVersion | None:
    """The version of the QEMU that starts the machine, as far as known."""
    return surroundings.qemu.version if surroundings.qemu is not None else request.qemu_version


def assemble(
    request: MeasurementRequest, surroundings: Surroundings, artifact: Artifact, payload: Payload
) -> Measurement:
    """Lay out the manifest from what was read and hashed; pure but for an endorsement file."""
    path = BootPath(
        payload=payload,
        boot=request.boot,
        traits=surroundings.traits,
        qemu=qemu_version(request, surroundings),
        secure_boot=secure_boot_state(request, surroundings.firmware),
        table=artifact.table or request.partition_table,
        table_name=str(request.disk or request.artifact),
    )
    builders = {Platform.QEMU: _qemu_items, Platform.GCP: _gcp_items, Platform.AZURE: _azure_items}
    items, missing = builders[request.platform](request, surroundings, path)
    rules = platform_rules(request.platform)
    covers = tuple(register for register in rules.predictable if register not in missing)
    covered = frozenset(covers)
    endorsements = _endorsements(request)
    endorsed = {endorsement.register for endorsement in endorsements}
    manifest = Manifest(
        platform=request.platform,
        prediction=with_recipe_origins((i for i in items if register_of(i) <= covered), request.origins),
        covers=covers,
        missing=tuple(missing.items()),
        endorsements=endorsements,
        unpredictable=tuple((register, why) for register, why in rules.why_not if register not in endorsed),
        inputs=describe_inputs(request, surroundings, payload),
        pending=tuple(dict.fromkeys(missing.values())),
    )
    return Measurement(manifest=manifest, warnings=_warnings(surroundings.firmware, payload))


_Layout = tuple[list[Item], dict[Register, str]]


def _qemu_items(request: MeasurementRequest, surroundings: Surroundings, path: BootPath) -> _Layout:
    """A TD under QEMU, and the same image on a machine with a TPM."""
    items: list[Item] = []
    missing: dict[Register, str] = {}
    firmware = surroundings.firmware
    if firmware is None:
        missing = dict.fromkeys((MRTD, RTMR0, Register.pcr(7)), "the firmware file (--firmware)")
    else:
        items.append(_mrtd_event(request, firmware))
        traits = require_traits(firmware)
        authority = (
            authority_event(firmware.variables, path.payload.certificate_table) if firmware.secure_boot else None
        )
        if request.machine is None:
            missing[RTMR0] = "the machine's memory and processors (--memory, --vcpus)"
        else:
            inputs = _machine_inputs(request, surroundings, authority)
            items.extend(in_td(rtmr0_events(firmware, traits, inputs)))
            items.extend(_stub_smbios_events(path.payload))
        variables = secure_boot_events(firmware.variables, built_in=traits.secure_boot_built_in, artifact=firmware.name)
        items.extend((*variables, separator_event(Register.pcr(7), "the firmware ends its Secure Boot configuration")))
        items.extend(() if authority is None else (authority,))
    items.extend((*rtmr1_items(path), *rtmr2_items(path)))
    tpm = attrs.evolve(path, td=False)
    items.extend((*application_pcr_items(tpm), *payload_pcr_items(tpm, request.units)))
    return items, missing


def _gcp_items(request: MeasurementRequest, surroundings: Surroundings, path: BootPath) -> _Layout:
    """A confidential VM of Google's: a TD with a virtual TPM, so the kernel measures into the TPM."""
    del surroundings
    items = [*rtmr1_items(path), *stub_only_rtmr2_items(path), *payload_pcr_items(path, request.units)]
    return items, {}


def _azure_items(request: MeasurementRequest, surroundings: Surroundings, path: BootPath) -> _Layout:
    """A confidential VM of Microsoft's: only the virtual TPM sees the image."""
    del surroundings
    items = [*application_pcr_items(path), *payload_pcr_items(path, request.units)]
    return items, {}


def _mrtd_event(request: MeasurementRequest, firmware: Firmware) -> PredictedEvent:
    return PredictedEvent(
        register=MRTD,
        event_type=EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2,
        digests=((Algorithm.SHA384, firmware.mrtd[request.page_order]),),
        description=f"the VMM loads the firmware, {request.page_order.value}",
        origin=Origin(artifact=firmware.name, section="BFV", rule=f"TDX module, {request.page_order.value} page order"),
    )


def _machine_inputs(
    request: MeasurementRequest, surroundings: Surroundings, authority: PredictedEvent | None
) -> MachineInputs:
    machine, items = request.machine, surroundings.items
    if machine is None:
        raise ValueError("there is no machine")
    slot, (smbios, smbios_missing) = request.boot_slot, _smbios(request, surroundings)
    if slot is None and items is not None and len(items.virtio_disks) == 1:
        slot = items.virtio_disks[0]
    return MachineInputs(
        memory=machine.memory,
        direct=request.boot is BootMode.DIRECT,
        items=None if items is None else items.items,
        items_origin="" if items is None else items.origin,
        items_missing="the machine's ACPI tables, from its QEMU (--qemu) or from files",
        smbios=smbios,
        smbios_missing=smbios_missing,
        smbios_sha384=request.smbios_sha384,
        boot_disk=None if slot is None else virtio_disk_option(slot),
        authority=authority,
    )


def _smbios(request: MeasurementRequest, surroundings: Surroundings) -> tuple[bytes | None, str]:
    """What the firmware hashes of the SMBIOS tables, or ``None`` and what is missing for that."""
    machine, items, traits = request.machine, surroundings.items, surroundings.traits
    tables = None if items is None else items.items.get(SMBIOS_TABLES)
    if machine is None or items is None or tables is None:
        return None, "the machine's SMBIOS tables, from its QEMU (--qemu) or from files"
    if request.acpi_folder is None and not machine.processor and not machine.processor_id:
        return None, "the identity of the host's processor (--processor-id), which the SMBIOS tables show"
    if traits is None or traits.texts is None:
        return None, "what the firmware reports as its vendor and version, which its file does not tell"
    try:
        return measured_smbios(tables, traits.texts, processor_id=bytes.fromhex(machine.processor_id) or None), ""
    except ValueError as error:
        raise DiagnosticError.of(
            Code.E_MEASUREMENT, f"the SMBIOS tables of {items.origin} cannot be measured: {error}"
        ) from None


def _stub_smbios_events(payload: Payload) -> tuple[PredictedEvent, ...]:
    """The SMBIOS objects that newer stubs measure into RTMR0."""
    if payload.uki is None or not (payload.uki.rules.smbios_events and payload.uki.rules.cc_tagged_events):
        return ()
    event = PredictedEvent(
        register=RTMR0,
        event_type=EventType.EV_EVENT_TAG,
        description="systemd-stub measures the SMBIOS objects of the machine",
        origin=Origin(artifact=payload.name, node="machine", rule=f"systemd-stub {payload.uki.stub_version}"),
        pending=f"systemd-stub {payload.uki.stub_version} measures the machine's SMBIOS objects; use systemd-stub 257",
    )
    return (event,)


def _endorsements(request: MeasurementRequest) -> tuple[Endorsement, ...]:
    endorsement = read_endorsement(request)
    if endorsement is None:
        return ()
    ram_gib = request.machine.memory // GIB if request.machine is not None else None
    values = endorsement.mrtds(ram_gib)
    if not values:
        raise firmware_error(
            str(request.endorsement), f"it endorses no launch with {ram_gib} GiB of memory", "leave out --memory"
        )
    return (Endorsement(register=MRTD, values=values, by=f"{endorsement.subject} (chain to Google not checked)"),)


def read_endorsement(request: MeasurementRequest) -> FirmwareEndorsement | None:
    """The endorsement that a request names, read and verified."""
    if request.endorsement is None:
        return None
    with FileSource(request.endorsement, Code.E_FIRMWARE) as source:
        return parse_endorsement(source.read(0, min(source.size, (1 << 20) + 1)), name=str(request.endorsement))


def _warnings(firmware: Firmware | None, payload: Payload) -> tuple[Diagnostic, ...]:
    found = () if payload.uki is None else overlap_warning(payload.uki)
    if firmware is None:
        return found
    signed = bool(payload.certificate_table)
    return (*found, *firmware_warnings(firmware), *unsigned_warning(firmware, signed=signed))


def describe_inputs(request: MeasurementRequest, surroundings: Surroundings, payload: Payload) -> Mapping[str, object]:
    """What was measured, as JSON data: no paths beyond the names that the user gave."""
    inputs: dict[str, object] = {
        "artifact": payload.name,
        "artifact_authenticode": dict(payload.image)[Algorithm.SHA384].hex(),
        "boot": request.boot.value,
    }
    if payload.uki is not None:
        inputs |= {"stub": payload.uki.stub_version, "profile": payload.uki.profile}
    if payload.kernel_version is not None:
        inputs["kernel"] = str(payload.kernel_version)
    if surroundings.firmware is not None:
        firmware, traits = surroundings.firmware, surroundings.traits
        described: dict[str, object] = {"file": firmware.name, "sha256": firmware.sha256}
        if traits is not None:
            described |= {"version": traits.version, "releases": [traits.oldest, traits.newest]}
        inputs |= {"firmware": described, "page_order": request.page_order.value}
    if request.machine is not None:
        machine = attrs.asdict(request.machine)
        inputs["machine"] = {key: list(v) if isinstance(v, tuple) else v for key, v in machine.items()}
    if surroundings.qemu is not None:
        inputs["qemu"] = {"version": surroundings.qemu.version_text, "sha256": surroundings.qemu.sha256}
    elif request.qemu_version is not None:
        inputs["qemu"] = {"version": str(request.qemu_version)}
    if surroundings.items is not None:
        inputs["tables"] = surroundings.items.origin
    return inputs


def covered_pcrs(manifest: Manifest) -> tuple[Register, ...]:
    """The PCRs that a manifest covers, in order."""
    return tuple(sorted(r for r in manifest.covers if r.kind is RegisterKind.PCR))
