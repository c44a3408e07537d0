"""An image that shows what its boot measured: the firmware's event log and all PCRs, on the serial console."""

from tdx import Image, Kernel

REPORT = """\
#!/bin/sh
# Prints the TPM's event log and its PCRs, each line marked and the log with its digest; again, should one be garbled.
set -eu
log=/sys/kernel/security/tpm0/binary_bios_measurements
pcrs=/sys/class/tpm/tpm0
for _ in 1 2 3; do
    echo "report: begin"
    base64 -w 100 "$log" | while read -r line; do echo "log $line"; done
    for bank in sha256 sha384; do
        for pcr in "$pcrs/pcr-$bank"/*; do echo "pcr $bank ${pcr##*/} $(cat "$pcr")"; done
    done
    echo "sum $(sha256sum "$log")"
    echo "report: end"
done > /dev/ttyS0
"""

img = Image("measured", base="debian/trixie")
img.output_targets("qemu")
img.debloat(enabled=True)
img.kernel = Kernel.tdx(cmdline="quiet measured.by=recipe")
img.file("/usr/bin/report", content=REPORT, mode=0o755)
img.on_boot("/usr/bin/report", name="report", priority=10)

with img.profile("loud"):
    img.kernel = Kernel.tdx(cmdline="measured.by=profile")
