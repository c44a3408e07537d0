"""Files, directories and links of the image: ``mkosi.extra/`` and the rules for what git and cp cannot keep.

git keeps no owners, no empty directories and no modes but 0644 and 0755; mkosi copies ``mkosi.extra/`` with the modes
that the working copy happens to have, and gives existing directories those modes too (``/root`` would become 0755). So
one script sets modes after the copying, by rules, and another sets owners once all users exist.
"""

from __future__ import annotations

from collections.abc import Iterator

from tdxc import quoting
from tdxc.diagnostics import Code, DiagnosticError, Note, SourceSpan
from tdxc.ir import Directory, File, ResolvedImage, Symlink
from tdxc.tree import FileTree, Origin, TreeBuilder, TreeFile, TreeLink

from tdxc_emitters.mkosi.paths import image_path
from tdxc_emitters.mkosi.project import EXTRA, Phase, PhaseScript, Rule, origin_of
from tdxc_emitters.mkosi.templates import read_template

_ROOT_TMPFILES = """\
# The kernel makes the root of an initramfs writable for everybody, like /tmp.
z / 0755 root root -
"""

_PLAIN_MODES = (0o644, 0o755)


def rootfs_tree(image: ResolvedImage) -> FileTree:
    """Files and links as entries below ``mkosi.extra/``; raises E_EMIT for a path below a file or link of the image."""
    builder = TreeBuilder()
    kinds: dict[str, tuple[str, SourceSpan]] = {}
    for file in image.files:
        path = image_path(file.path, file.span, image.base)
        _refuse_twice(kinds, path, file)
        kinds[path] = (file.path, file.span)
        entry = TreeFile(data=file.content.data, executable=bool(file.mode & 0o100), origin=origin_of(file))
        builder.add(f"{EXTRA}/{path}", entry)
    for link in image.symlinks:
        path = image_path(link.path, link.span, image.base)
        _refuse_twice(kinds, path, link)
        kinds[path] = (link.path, link.span)
        builder.add(f"{EXTRA}/{path}", TreeLink(target=link.target, origin=origin_of(link)))
    for directory in image.directories:
        kinds.setdefault(image_path(directory.path, directory.span, image.base) + "/", ("", directory.span))
    _refuse_nesting(kinds)
    _add_init(builder, image)
    return builder.build()


def rootfs_rules(image: ResolvedImage) -> tuple[Rule, ...]:
    """Lines of ``rules/directories``, ``rules/modes`` and ``rules/owners``."""
    return (*_directories(image), *_modes(image), *_owners(image))


def rootfs_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """The scripts that apply the rules; those for owners only where something is not root's."""
    origin = Origin(span=image.span, cause="git keeps no owners, few modes and no empty directories")
    found = [
        PhaseScript(
            phase=Phase.POSTINST,
            rank=10,
            what="rootfs",
            purpose="Make the image's empty directories and give its files and directories their modes.",
            body=read_template("rootfs_modes.sh"),
            origin=origin,
        )
    ]
    if gives_artifacts(image):
        purpose = "Give artifacts of builds, and nothing that lies beside them, to the users that the recipe names."
        found.append(_owner_script(9, "artifacts", purpose, origin))
    if any(True for _ in _owners(image)):
        purpose = "Give files and directories to the users that the recipe names."
        found.append(_owner_script(10, "owners", purpose, origin))
    return tuple(found)


def gives_artifacts(image: ResolvedImage) -> bool:
    """Whether an artifact belongs to somebody else than root."""
    return any((a.owner, a.group) != ("root", "root") for build in image.builds for a in build.artifacts)


def _owner_script(rank: int, what: str, purpose: str, origin: Origin) -> PhaseScript:
    body = f"{read_template('rootfs_layers.sh')}\n{read_template(f'rootfs_{what}.sh')}"
    return PhaseScript(phase=Phase.FINALIZE, rank=rank, what=what, purpose=purpose, body=body, origin=origin)


def _add_init(builder: TreeBuilder, image: ResolvedImage) -> None:
    """What differs between an image in memory and one on a disk for the init system."""
    if image.partitions and image.init != "systemd":
        raise DiagnosticError.of(
            Code.E_UNSUPPORTED,
            f"an image with partitions is started by systemd, not by '{image.init}'",
            image.partitions[0].span,
            fix="leave out the partitions, or the init system",
        )
    if image.init == "systemd" and not image.partitions:
        cause = Origin(span=image.span, cause="nobody but root may create files in /")
        builder.add(f"{EXTRA}/usr/lib/tmpfiles.d/00-root.conf", TreeFile.text(_ROOT_TMPFILES, origin=cause))


def _refuse_twice(kinds: dict[str, tuple[str, SourceSpan]], path: str, node: File | Symlink) -> None:
    if path in kinds:
        other, span = kinds[path]
        raise DiagnosticError.of(
            Code.E_CONFLICT,
            f"'{node.path}' and '{other}' are one place in the image, /{path}",
            node.span,
            notes=(Note(message="the other one is here", span=span),),
            fix="leave one of the two out",
        )


def _refuse_nesting(kinds: dict[str, tuple[str, SourceSpan]]) -> None:
    for path, (_, span) in kinds.items():
        parts = path.rstrip("/").split("/")
        folders = range(1, len(parts) + (1 if path.endswith("/") else 0))
        for end in folders:
            above = kinds.get("/".join(parts[:end]))
            if above is not None:
                raise DiagnosticError.of(
                    Code.E_EMIT,
                    f"'/{path}' lies below '{above[0]}', which is a file or a link",
                    span,
                    fix="give one of the two another path",
                )


def _directories(image: ResolvedImage) -> Iterator[Rule]:
    for directory in image.directories:
        line = f"{directory.mode:04o} {_line_path(image, directory)}"
        yield Rule(list="directories", line=line, origin=origin_of(directory))
    declared = {directory.path for directory in image.directories}
    for partition in image.partitions:
        if partition.mount_point not in {"/", *declared}:
            path = image_path(partition.mount_point, partition.span, image.base)
            yield Rule(list="directories", line=f"0755 /{path}", origin=origin_of(partition, "a mount point"))


def _modes(image: ResolvedImage) -> Iterator[Rule]:
    for file in image.files:
        if file.mode not in _PLAIN_MODES:
            yield Rule(list="modes", line=f"{file.mode:04o} {_line_path(image, file)}", origin=origin_of(file))


def _owners(image: ResolvedImage) -> Iterator[Rule]:
    nodes: tuple[File | Directory, ...] = (*image.files, *image.directories)
    for node in nodes:
        if (node.owner, node.group) != ("root", "root"):
            for name in (node.owner, node.group):
                _check_account(name, node)
            line = f"{node.owner} {node.group} {_line_path(image, node)}"
            yield Rule(list="owners", line=line, origin=origin_of(node))


def _check_account(name: str, node: File | Directory) -> None:
    quoting.sysusers_field(name, span=node.span)
    if any(ch.isspace() for ch in name):
        raise DiagnosticError.of(Code.E_VALUE, f"{name!r} cannot be the name of a user or group", node.span)


def _line_path(image: ResolvedImage, node: File | Directory) -> str:
    return "/" + image_path(node.path, node.span, image.base)
