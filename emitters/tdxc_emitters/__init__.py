"""Emitters: pure functions from the resolved IR to a tree of files."""
