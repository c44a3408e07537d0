"""ACPI tables and other fw_cfg items as the guest's firmware gets them, read out of a QEMU that never runs a guest."""
