"""Measurement: predict every register of a boot, replay what a machine logged, and explain the difference."""
