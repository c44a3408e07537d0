"""The body of a TD quote: what the TDX module reports about a TD.

Sources: Intel TDX DCAP Quoting Library API, section A.3.2 (TD quote body, 584 bytes, for TDX 1.0) and A.4 (with
TEE_TCB_SVN_2 and MRSERVICETD, 648 bytes, for TDX 1.5); Intel TDX module ABI, "ATTRIBUTES".
"""

from __future__ import annotations

import attrs

from tdxc_runtime.measure.cursor import Cursor
from tdxc_runtime.measure.events import MRTD, RTMR0, RTMR1, RTMR2, RTMR3, Register

BODY_SIZE_1_0 = 584
BODY_SIZE_1_5 = 648
_ATTRIBUTES = {
    0: "DEBUG",
    4: "HGS_PLUS_PROF",
    5: "PERF_PROF",
    6: "PMT_PROF",
    27: "LASS",
    28: "SEPT_VE_DISABLE",
    29: "MIGRATABLE",
    30: "PKS",
    31: "KL",
    62: "TPA",
    63: "PERFMON",
}


@attrs.frozen(kw_only=True)
class TdBody:
    """The fields in the order of the structure; ``td_attributes`` and ``xfam`` are little-endian bit fields of 64 bits.

    ``tee_tcb_svn_2`` and ``mr_service_td`` are ``None`` in the body of TDX 1.0.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: int
    xfam: int
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn_2: bytes | None = None
    mr_service_td: bytes | None = None

    @property
    def registers(self) -> dict[Register, bytes]:
        """MRTD and the four RTMRs."""
        return dict(zip((MRTD, RTMR0, RTMR1, RTMR2, RTMR3), (self.mr_td, *self.rtmrs), strict=True))

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The names of the TD attributes that are set, unknown bits as ``bit N``."""
        return tuple(_ATTRIBUTES.get(bit, f"bit {bit}") for bit in range(64) if self.td_attributes >> bit & 1)

    @property
    def is_debug(self) -> bool:
        """Whether the host may look into the TD: such a TD proves nothing.

        That is any bit of the group "TD under debug", 0 to 7 (Intel TDX DCAP Quoting Library API, A.3.4).
        """
        return bool(self.td_attributes & 0xFF)

    def to_json(self) -> dict[str, object]:
        """Registers by name, and every further field, in hexadecimal."""
        return {
            **{register.name: value.hex() for register, value in self.registers.items()},
            "report_data": self.report_data.hex(),
            "td_attributes": f"{self.td_attributes:016x}",
            "td_attribute_names": list(self.attribute_names),
            "xfam": f"{self.xfam:016x}",
            "mr_config_id": self.mr_config_id.hex(),
            "mr_owner": self.mr_owner.hex(),
            "mr_owner_config": self.mr_owner_config.hex(),
            "mr_seam": self.mr_seam.hex(),
            "mr_signer_seam": self.mr_signer_seam.hex(),
            "seam_attributes": self.seam_attributes.hex(),
            "tee_tcb_svn": self.tee_tcb_svn.hex(),
            "tee_tcb_svn_2": None if self.tee_tcb_svn_2 is None else self.tee_tcb_svn_2.hex(),
            "mr_service_td": None if self.mr_service_td is None else self.mr_service_td.hex(),
        }


def read_body(cursor: Cursor, size: int) -> TdBody:
    """Read a body of 584 or 648 bytes at the cursor."""
    body = cursor.sub(size, "the TD quote body")

    def field(width: int, what: str) -> bytes:
        return bytes(body.take(width, what))

    return TdBody(
        tee_tcb_svn=field(16, "TEE_TCB_SVN"),
        mr_seam=field(48, "MRSEAM"),
        mr_signer_seam=field(48, "MRSIGNERSEAM"),
        seam_attributes=field(8, "SEAMATTRIBUTES"),
        td_attributes=body.u64("TDATTRIBUTES"),
        xfam=body.u64("XFAM"),
        mr_td=field(48, "MRTD"),
        mr_config_id=field(48, "MRCONFIGID"),
        mr_owner=field(48, "MROWNER"),
        mr_owner_config=field(48, "MROWNERCONFIG"),
        rtmrs=(field(48, "RTMR0"), field(48, "RTMR1"), field(48, "RTMR2"), field(48, "RTMR3")),
        report_data=field(64, "REPORTDATA"),
        tee_tcb_svn_2=field(16, "TEE_TCB_SVN_2") if size == BODY_SIZE_1_5 else None,
        mr_service_td=field(48, "MRSERVICETD") if size == BODY_SIZE_1_5 else None,
    )


def write_body(body: TdBody) -> bytes:
    """The bytes of a body: 584, or 648 when it has the fields of TDX 1.5."""
    return b"".join(
        (
            body.tee_tcb_svn,
            body.mr_seam,
            body.mr_signer_seam,
            body.seam_attributes,
            body.td_attributes.to_bytes(8, "little"),
            body.xfam.to_bytes(8, "little"),
            body.mr_td,
            body.mr_config_id,
            body.mr_owner,
            body.mr_owner_config,
            *body.rtmrs,
            body.report_data,
            body.tee_tcb_svn_2 or b"",
            body.mr_service_td or b"",
        )
    )
