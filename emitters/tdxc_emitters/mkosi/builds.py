"""Builds from source: each is a mkosi image of its own, whose artifacts the main image takes as an extra tree.

``mkosi.images/build-NAME/`` holds everything of a build, and nothing of the image: its environment is the packages it
names and no others, so that it can be kept and shared. mkosi runs ``fetch.sh`` (with the network), ``build.sh``
(without), ``collect.sh`` and ``pack.sh`` there; what comes out is ``build-NAME.tar`` in the output folder, the same
bytes each time.

Sources: mkosi(1) of 25.3 and 27.1, "Building multiple images", "Scripts" and "SCOPE" of settings: distribution, clock
and network are the main image's and cannot be set here.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticError, Note
from tdxc.ir import (
    Artifact,
    BuildLanguage,
    CompiledImage,
    File,
    Node,
    Package,
    ResolvedBuild,
    ResolvedImage,
    SourceFile,
    Symlink,
)
from tdxc.tree import Entry, FileTree, Origin, TreeFile

from tdxc_emitters.mkosi.build_scripts import build_text, collect_text, fetch_text, pack_text
from tdxc_emitters.mkosi.ini import render_settings
from tdxc_emitters.mkosi.paths import image_path
from tdxc_emitters.mkosi.project import EXTRA, MkosiSetting, Rule, origin_of
from tdxc_emitters.mkosi.rootfs import gives_artifacts

IMAGES = "mkosi.images"
DECLARATION = ".tdxc/builds.json"
"""What a bake reads to find out which builds it needs and whether it has them already."""

_FORMAT = 1
_ALONE = "compile this variant alone: --profile "


def subimage(name: str) -> str:
    """The name that mkosi knows a build by; the prefix keeps it apart from the image's own."""
    return f"build-{name}"


def build_settings(image: ResolvedImage, *, always: bool) -> tuple[MkosiSetting, ...]:
    """What the main image needs of its builds; ``always``: a profile has some, and mkosi would build them for all."""
    if not (image.builds or always):
        return ()
    origin = _origin(image.builds[0], "built from source") if image.builds else Origin(span=image.span)
    names = tuple(subimage(build.name) for build in image.builds)
    trees = (*(f"%O/{name}.tar" for name in names), *((EXTRA,) if _overlaid(image) else ()))
    needed = MkosiSetting(
        section="Config", key="Dependencies", values=names, is_list=True, reset=not names, origin=origin
    )
    if not names:
        return (needed,)
    return (needed, MkosiSetting(section="Content", key="ExtraTrees", values=trees, is_list=True, origin=origin))


def _overlaid(image: ResolvedImage) -> bool:
    """Whether the recipe puts files into a folder that a build makes: mkosi has copied them by then, and does again."""
    folders = tuple(f"{_destination(image, artifact)}/" for build in image.builds for artifact in build.artifacts)
    nodes: tuple[File | Symlink, ...] = (*image.files, *image.symlinks)
    return any(image_path(node.path, node.span, image.base).startswith(folders) for node in nodes)


def build_trees(compiled: CompiledImage) -> FileTree:
    """The folders of all builds of an image and its profiles.

    Raises E_EMIT when a profile changes one, E_CONFLICT for one whose files the image's own name would replace.
    """
    known: dict[str, ResolvedBuild] = {}
    tree = FileTree()
    for image in (compiled.image, *compiled.variants):
        for build in image.builds:
            if image.name in {subimage(build.name), f"{subimage(build.name)}.tar"}:
                raise _same_files(image, build)
            before = known.setdefault(build.name, build)
            if before is build:
                tree = tree.merge(FileTree(dict(_files(image, build))).under(f"{IMAGES}/{subimage(build.name)}"))
            elif before != build:
                raise _changed(build, before, image.profiles)
    return tree


def owner_rules(image: ResolvedImage) -> tuple[Rule, ...]:
    """Whose the artifacts are, where one is not root's: they become so in the image, as only there the users are known.

    Those of root are named as well, since the closest rule counts.
    """
    if not gives_artifacts(image):
        return ()
    return tuple(
        Rule(
            list="artifacts",
            line=f"{artifact.owner} {artifact.group} /{_destination(image, artifact)}",
            origin=_origin(artifact if artifact.span.line else build, f"an artifact of '{build.name}'"),
        )
        for build in image.builds
        for artifact in build.artifacts
    )


def declaration(compiled: CompiledImage, tree: FileTree, more: Mapping[str, str] | None = None) -> dict[str, object]:
    """What ``.tdxc/builds.json`` says: for each build its environment, and all that can change what it makes.

    ``more``: inputs of all builds that the image does not know of.
    """
    found: dict[str, dict[str, object]] = {}
    base = {build.name for build in compiled.image.builds}
    for image in (compiled.image, *compiled.variants):
        for build in image.builds:
            if build.name not in found:  # once, since it hashes every file of the build
                found[build.name] = {
                    "profiles": [],
                    "language": build.language.value,
                    "network": build.network,
                    "packages": [package.name for package in build.packages],
                    "inputs": {**_inputs(image, build, tree), **(more or {})},
                }
            profiles = found[build.name]["profiles"]
            if build.name not in base and isinstance(profiles, list):
                profiles.extend(image.profiles)
    return {"format": _FORMAT, "builds": found}


def _inputs(image: ResolvedImage, build: ResolvedBuild, tree: FileTree) -> dict[str, str]:
    """The build's own words, so that a change can be told by its name, and each file that mkosi reads of it."""
    found = {
        "base": image.base.reference,
        "architecture": image.base.architecture.value,
        "network": "yes" if build.network else "no",
        "source_date_epoch": str(image.reproducibility.source_date_epoch),
    }
    authored = next((authored for authored in image.authored_builds if authored.name == build.name), None)
    for node in (authored, build.source, build.toolchain):
        found |= dict(_words(node)) if node is not None else {}
    found |= {f"environment.{name}": value for name, value in build.environment}
    if build.language is BuildLanguage.KERNEL:
        found["version"] = image.kernel.version
        found |= {f"CONFIG_{o.name}": o.value for o in (*image.kernel.base_options, *image.kernel.options)}
    folder = f"{IMAGES}/{subimage(build.name)}/"
    for path, entry in tree.entries.items():
        if path.startswith(folder) and isinstance(entry, TreeFile):
            digest = f"sha256:{hashlib.sha256(entry.data).hexdigest()}"
            found[f"file.{path.removeprefix(folder)}"] = digest + (" executable" if entry.executable else "")
    return found


def _words(node: Node) -> Iterator[tuple[str, str]]:
    """The plain fields of a node: texts as they are, lists of them joined, switches as yes or no."""
    for field in records.fields_of(type(node)):
        value = getattr(node, field.name)
        if not field.eq or not value or field.name in {"name", "language"}:
            continue
        if isinstance(value, bool):
            yield field.name, "yes"
        elif isinstance(value, str):
            yield f"{field.name}" if type(node).__name__ != "Toolchain" else f"toolchain.{field.name}", value
        elif isinstance(value, tuple) and all(isinstance(item, str) for item in value):
            yield field.name, " ".join(value)


def _files(image: ResolvedImage, build: ResolvedBuild) -> Iterator[tuple[str, Entry]]:
    origin = _origin(build, "built from source")
    name = quoting.shell_comment(build.name)
    comment = f"mkosi configuration of the environment of build {name}, compiled by tdxc: change the recipe instead."
    yield "mkosi.conf", TreeFile.text(render_settings(comment, _settings(build, origin)), origin=origin)
    epoch = image.reproducibility.source_date_epoch
    # folders before what lies below them, which is to win
    placed = sorted(((artifact, f"/{_destination(image, artifact)}") for artifact in build.artifacts), key=_depth)
    scripts = {
        "fetch.sh": fetch_text(build, epoch),
        "build.sh": build_text(build, epoch, placed),
        "collect.sh": collect_text(build),
        "pack.sh": pack_text(build, subimage(build.name), epoch),
    }
    for path, text in scripts.items():
        yield path, TreeFile.text(text, executable=True, origin=origin)
    yield from _contents(build, "src", build.source.files, "source of")
    yield from _contents(build, "patches", build.patches, "patch of")


def _contents(build: ResolvedBuild, folder: str, files: Iterable[SourceFile], what: str) -> Iterator[tuple[str, Entry]]:
    for file in files:
        origin = _origin(file if file.span.file else build, f"{what} '{build.name}'")
        entry = TreeFile(data=file.content.data, executable=file.executable, origin=origin)
        yield posixpath.join(folder, file.path), entry


def _settings(build: ResolvedBuild, origin: Origin) -> Iterator[MkosiSetting]:
    def scalar(section: str, key: str, value: str) -> MkosiSetting:
        return MkosiSetting(section=section, key=key, values=(value,), origin=origin)

    yield scalar("Output", "Format", "tar")
    yield scalar("Output", "Output", quoting.mkosi_value(subimage(build.name), span=build.span, what="build name"))
    yield scalar("Output", "ManifestFormat", "")
    yield scalar("Output", "CompressOutput", "no")
    yield scalar("Content", "Bootable", "no")
    yield from _packages(build.packages, origin)
    yield scalar("Content", "WithDocs", "no")
    yield scalar("Content", "WithRecommends", "no")
    yield scalar("Content", "CleanPackageMetadata", "no")
    for key, path in (
        ("PrepareScripts", "fetch.sh"),
        ("BuildScripts", "build.sh"),
        ("FinalizeScripts", "collect.sh"),
        ("PostOutputScripts", "pack.sh"),
    ):
        yield MkosiSetting(section="Content", key=key, values=(path,), is_list=True, origin=origin)


def _packages(packages: tuple[Package, ...], origin: Origin) -> Iterator[MkosiSetting]:
    if packages:
        values = tuple(quoting.mkosi_item(package.name, ",", span=package.span, what="package") for package in packages)
        yield MkosiSetting(section="Content", key="BuildPackages", values=values, is_list=True, origin=origin)


def _depth(placed: tuple[Artifact, str]) -> int:
    return placed[1].count("/")


def _destination(image: ResolvedImage, artifact: Artifact) -> str:
    return image_path(artifact.dest, artifact.span, image.base)


def _same_files(image: ResolvedImage, build: ResolvedBuild) -> DiagnosticError:
    return DiagnosticError.of(
        Code.E_CONFLICT,
        f"the image is called '{image.name}', as are the files that mkosi makes of the build '{build.name}'",
        image.span,
        notes=(Note(message="the build is declared here", span=build.span),),
        fix="give one of them another name",
    )


def _changed(build: ResolvedBuild, before: ResolvedBuild, profiles: tuple[str, ...]) -> DiagnosticError:
    where = f"profile '{profiles[0]}'" if profiles else "the image"
    return DiagnosticError.of(
        Code.E_EMIT,
        f"{where} changes the build '{build.name}', and a tree has one build of a name",
        build.span,
        notes=(Note(message="the other one is declared here", span=before.span),),
        fix="give one of them another name"
        if build.language is not BuildLanguage.KERNEL
        else _ALONE + "".join(profiles),
    )


def _origin(node: Node, cause: str) -> Origin:
    return origin_of(node, cause)
