"""``--mkosi-override DIR``: a user's own mkosi.conf and trees, layered on top of the compiled tree where all can see.

The folder is copied to ``mkosi.override/`` in the tree and included at the end of its mkosi.conf, so that mkosi itself
composes the two (mkosi(1), "Include="): a scalar of the override wins, a list is appended to, an empty list resets it,
and ``mkosi.extra`` and its siblings inside the folder are used as well.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, SourceSpan
from tdxc.grammar.ini import Ini, IniDialect, parse_ini
from tdxc.tree import Entry, FileTree, TreeFile, TreeLink

FOLDER = "mkosi.override"

_GUARANTEES: dict[tuple[str, str], str] = {
    ("Distribution", "Mirror"): "where packages come from is no longer what the recipe says",
    ("Distribution", "Snapshot"): "packages are no longer those of the recipe's point in time",
    ("Distribution", "Release"): "the base is no longer the recipe's",
    ("Output", "Format"): "the registers of the boot chain are predicted for another kind of image",
    ("Output", "Seed"): "partition identifiers, and with them PCR 5, are no longer those of the recipe",
    ("Content", "KernelCommandLine"): "the command line, and with it RTMR2 and PCR 11 or 12, is no longer the recipe's",
    ("Content", "SourceDateEpoch"): "time stamps, and with them every digest of content, are no longer fixed",
    ("Content", "FinalizeScripts"): "scripts outside of the recipe change the root file system after debloat",
    ("Content", "PostInstallationScripts"): "scripts outside of the recipe change the root file system",
    ("Content", "MakeInitrd"): "systemd will take the image for an initrd",
    ("Build", "WithNetwork"): "build scripts may use the network, so that a build can differ from the next",
}
"""Settings (mkosi.conf section and key) on which something rests that tdxc promises, and what that is."""


@records.frozen(kw_only=True)
class OverriddenSetting:
    """One line of the override; ``before`` is the compiled tree's value, empty where it has none."""

    section: str
    key: str
    before: str
    after: str
    line: int
    lost: str = ""

    def __str__(self) -> str:
        change = f"{self.before!r} -> {self.after!r}" if self.before else f"{self.after!r}"
        return f"[{self.section}] {self.key}: {change}" + (f"\n    {self.lost}" if self.lost else "")


def apply_override(tree: FileTree, folder: Path) -> tuple[FileTree, tuple[Diagnostic, ...]]:
    """The tree with the override in it, and a W_OVERRIDE for each setting that takes a guarantee away."""
    override = read_override(folder).under(FOLDER)
    conf = tree["mkosi.conf"]
    if not isinstance(conf, TreeFile):
        raise DiagnosticError.of(Code.E_INTERNAL, "the compiled tree has no mkosi.conf")
    included = records.evolve(conf, data=conf.data + f"\n[Include]\nInclude={FOLDER}\n".encode())
    layered = FileTree({**tree.entries, "mkosi.conf": included}).merge(override)
    warnings = tuple(
        Diagnostic(
            code=Code.W_OVERRIDE,
            message=f"the override sets {setting.key}=: {setting.lost}",
            span=SourceSpan(file=f"{folder.name}/mkosi.conf", line=setting.line, column=1),
        )
        for setting in overridden_settings(tree, folder)
        if setting.lost
    )
    return layered, warnings


def override_inputs(tree: FileTree) -> dict[str, str]:
    """What builds from source are made of beside their own: mkosi takes settings such as ``WithNetwork=`` for them too.

    Files for the image alone, and settings that are local to it, are no part of it.
    """
    digest, found = hashlib.sha256(), False
    for path, entry in sorted(tree.entries.items()):
        if not path.startswith(f"{FOLDER}/") or path.startswith(f"{FOLDER}/mkosi.extra/"):
            continue
        is_local = path == f"{FOLDER}/mkosi.conf" and isinstance(entry, TreeFile) and _is_local(entry.data)
        text = entry.target if isinstance(entry, TreeLink) else ""
        data = entry.data if isinstance(entry, TreeFile) else text.encode()
        if not is_local:
            digest.update(hashlib.sha256(path.encode()).digest() + hashlib.sha256(data).digest())
            found = True
    return {"override": f"sha256:{digest.hexdigest()}"} if found else {}


_LOCAL: dict[str, frozenset[str]] = {
    "Output": frozenset(("CompressLevel", "CompressOutput", "ManifestFormat", "SplitArtifacts")),
    "Content": frozenset(("KernelCommandLine", "Packages", "RemoveFiles", "RemovePackages", "WithDocs")),
}
"""Settings that mkosi takes for one image, and not for those that it depends on (mkosi(1), the scopes of settings; in
27.1 CompressLevel is inherited, by images that compress)."""


def _is_local(conf: bytes) -> bool:
    """Whether all settings of a mkosi.conf are local to the image."""
    sections = parse_ini(conf.decode(), IniDialect.MKOSI).sections
    return all(entry.key in _LOCAL.get(section.name, ()) for section in sections for entry in section.entries)


def overridden_settings(tree: FileTree, folder: Path) -> tuple[OverriddenSetting, ...]:
    """Every setting of the override's mkosi.conf beside the compiled tree's value."""
    compiled = parse_ini(tree.text("mkosi.conf"), IniDialect.MKOSI, file="mkosi.conf")
    return tuple(
        OverriddenSetting(
            section=section.name,
            key=entry.key,
            before=_joined(compiled, section.name, entry.key),
            after=" ".join(entry.value.split()),
            line=entry.line,
            lost=_GUARANTEES.get((section.name, entry.key), ""),
        )
        for section in _override_conf(folder).sections
        for entry in section.entries
    )


def explain_override(tree: FileTree, folder: Path) -> str:
    """The text of ``tdxc explain overrides``: settings first, then files."""
    settings = [str(setting) for setting in overridden_settings(tree, folder)]
    files = [f"+ {path}" for path in read_override(folder) if path != "mkosi.conf"]
    return "\n".join((*settings, *files)) or f"{folder}: changes nothing"


def read_override(folder: Path) -> FileTree:
    """All files of the override folder; raises E_PATH when it is none, and for what a tree cannot hold."""
    if not folder.is_dir():
        raise DiagnosticError.of(Code.E_PATH, f"'{folder}' is not a folder", fix="--mkosi-override takes a folder")
    entries: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            entries[name] = TreeLink(target=str(path.readlink()))
        elif path.is_file():
            entries[name] = TreeFile(data=path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
        elif not path.is_dir():
            raise DiagnosticError.of(Code.E_PATH, f"'{path}' is neither a file, a folder nor a link")
    return FileTree(entries)


def _override_conf(folder: Path) -> Ini:
    path = folder / "mkosi.conf"
    if not path.is_file():
        return Ini()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DiagnosticError.of(Code.E_ENCODING, f"'{path}' is not UTF-8: {error.reason}") from error
    return parse_ini(text, IniDialect.MKOSI, file=f"{folder.name}/mkosi.conf")


def _joined(ini: Ini, section: str, key: str) -> str:
    return " ".join(" ".join(value.split()) for value in ini.values(section, key))
