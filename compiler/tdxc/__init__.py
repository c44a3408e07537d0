"""tdxc: the compiler from a recipe to a mkosi tree, and the IR, passes and diagnostics that it consists of."""
