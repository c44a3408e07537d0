"""The same kernel, initrd and command line under another systemd-stub, without a new bake."""

from __future__ import annotations

from pathlib import Path

from tdxc_runtime.measure.sources import FileSource
from tdxc_runtime.measure.stub.uki import open_uki
from tdxc_runtime.process import Bind
from tdxc_runtime.toolsroot import ToolsRoot
from tdxc_runtime.toolsroot.apt_options import sources_text
from tdxc_runtime.toolsroot.apt_sources import find_mirror

_INSIDE = Path("/tdxvm/relink")
_STUB = Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")
_PACKAGE = "systemd-boot-efi"


def stub_of_suite(root: ToolsRoot, suite: str, folder: Path) -> Path:
    """systemd-stub as another release of Debian has it, out of its package, which is not installed."""
    mirror = find_mirror(root.manifest.mirror)
    assert mirror is not None, "the tools root does not know its mirror, and apt of the host has none"
    for part in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / part).mkdir(parents=True)
    (folder / "debian.sources").write_text(sources_text(mirror, suite, has_suite=lambda *_: False))
    settings = {
        "Dir::Etc::sourcelist": _INSIDE / "debian.sources",
        "Dir::Etc::sourceparts": _INSIDE / "parts",
        "Dir::State::lists": _INSIDE / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": _INSIDE / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",
    }
    apt = ["apt-get", "--quiet", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    binds = (Bind(source=folder, target=_INSIDE, writable=True),)
    root.run([*apt, "update"], binds=binds)
    root.run([*apt, "download", _PACKAGE], binds=binds, cwd=_INSIDE)
    (package,) = folder.glob(f"{_PACKAGE}_*.deb")
    root.run(["dpkg-deb", "-x", package.name, "unpacked"], binds=binds, cwd=_INSIDE)
    return folder / "unpacked" / _STUB


def relink(root: ToolsRoot, uki: Path, target: Path, stub: Path) -> None:
    """Write ``target``: the sections of ``uki`` under ``stub``."""
    ukify(root, sections(uki), target, stub)


def sections(uki: Path) -> dict[str, bytes]:
    """What a UKI is made of, by the names of its sections without their dots."""
    found: dict[str, bytes] = {}
    with FileSource(uki) as source:
        image = open_uki(source, artifact=str(uki))
        for section in (".linux", ".initrd", ".cmdline", ".osrel", ".uname"):
            window = image.window(section)
            assert window is not None, section
            found[section[1:]] = window.read(0, window.size)
    return found


def ukify(root: ToolsRoot, parts: dict[str, bytes], target: Path, stub: Path) -> None:
    """Write ``target``: a UKI of these sections under ``stub``."""
    work = target.with_suffix(".work")
    work.mkdir()
    for name, data in parts.items():
        (work / name).write_bytes(data)
    (work / "stub").write_bytes(stub.read_bytes())
    binds = (Bind(source=work, target=_INSIDE, writable=True),)
    words = [
        *("ukify", "build", "--stub=stub", "--linux=linux", "--initrd=initrd", "--os-release=@osrel"),
        f"--cmdline={parts['cmdline'].rstrip(bytes(1)).decode()}",
        f"--uname={parts['uname'].rstrip(bytes(1)).decode()}",
    ]
    root.run([*words, "--output=out"], binds=binds, cwd=_INSIDE)
    (work / "out").replace(target)
