"""tdxc: the compiler from a recipe to a mkosi tree, and the IR, passes and diagnostics that it consists of."""

__version__ = "0.1.0"
