"""Modules: units of an image that can be composed. A module is any class with ``apply(image)``."""

from tdx.modules.time_synchronisation import TimeSynchronisation as TimeSynchronisation
