"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# Machines that run these tests are shared and slow at times: how long one example takes says nothing.
settings.register_profile("tdxvm", deadline=None, print_blob=True)
settings.load_profile("tdxvm")
