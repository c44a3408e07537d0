"""The small parent process that stands between this program and every tool it runs.

Standard library only and started with ``python -I -S``: it must begin in a few milliseconds, and it must still work
when the program that started it has been killed. :mod:`tdxc_runtime.process` is the one place that starts it.
"""
