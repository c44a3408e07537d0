"""The Python DSL that recipes import."""
