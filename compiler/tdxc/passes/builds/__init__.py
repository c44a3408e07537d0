"""Builds from source: which toolchain each language uses, and the shell text that fetches, compiles and tests."""

from tdxc.passes.builds.lower import lower_build as lower_build
from tdxc.passes.builds.variables import check_variables as check_variables
