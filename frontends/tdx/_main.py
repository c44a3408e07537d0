"""main: a recipe as a small program of its own, for ``python -m examples.my_image compile``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tdx._session import active_session
from tdx.image import Image


def main(image: Image, arguments: Sequence[str] | None = None) -> None:
    """Run one verb of ``image`` as the command line says: ``compile``, ``lock`` or ``bake``.

    The tree goes to ``mkosi/`` in the recipe's folder, artifacts and the lockfile to ``build/`` there, unless ``-o``
    says otherwise. Does nothing while ``tdxc`` loads the recipe.
    """
    if active_session() is not None:
        return
    import argparse

    parser = argparse.ArgumentParser(description=f"Compile, lock or bake the image '{image.name}'.")
    parser.add_argument("verb", choices=("compile", "lock", "bake"))
    parser.add_argument("-o", "--output", type=Path, help="where the tree, the lockfile or the artifacts go")
    parser.add_argument("--frozen", action="store_true", help="bake: refuse when the lockfile does not fit")
    parser.add_argument("--force", action="store_true", help="overwrite files of the tree that were changed by hand")
    options = parser.parse_args(arguments)
    tree, build = image.folder / "mkosi", image.folder / "build"
    if options.verb == "compile":
        image.compile(options.output or tree, force=options.force)
    elif options.verb == "lock":
        image.lock(options.output or build / "tdx.lock")
    else:
        if not options.frozen:
            image.lock(build / "tdx.lock")
        image.bake(
            frozen=True,
            output=options.output or build / "output",
            tree=tree,
            lockfile=build / "tdx.lock",
            force=options.force,
        )
