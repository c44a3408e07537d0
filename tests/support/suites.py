"""The Debian suites whose tools the tests use."""

from tdxc_runtime.toolsroot.contents import DEFAULT_SUITE

NEWER_SUITE = "forky"
"""Debian testing: mkosi 27, QEMU 11, systemd 262. Unlike those of unstable, its packages fit together on any day."""

SUITES = (DEFAULT_SUITE, NEWER_SUITE)
"""The product's own, and the newer one."""
