"""Modes and owners of artifacts: builds run by bash, laid over a root file system as mkosi does, and given away.

``chown`` is played: it notes what it is asked for, and clears bits as the kernel does.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.builds import resolved_build, run_scripts
from support.resolved_images import SPAN, resolved_image
from tdxc.ir import Artifact, Blob, CompiledImage, Directory, File, ResolvedBuild, ResolvedImage, Symlink
from tdxc.writer import write_tree
from tdxc_emitters import emit_image

CHOWN = """\
#!/bin/bash
[[ $1 == --no-dereference ]] || exit 1
for path in "${@:3}"; do
    printf '%s %s\\n' "$2" "${path#"$BUILDROOT"}" >> "$CHOWN_LOG"
    [[ -L $path ]] || chmod u-s,g-s "$path"
done
"""


def made(name: str, script: str, *artifacts: Artifact) -> ResolvedBuild:
    return resolved_build(name=name, compile=script, artifacts=artifacts, environment=(("PATH", "/usr/bin:/bin"),))


def artifact(source: str, dest: str, owner: str = "root", **changes: Any) -> Artifact:
    return Artifact(span=SPAN, source=f"source/{source}", dest=dest, owner=owner, **changes)


def file(path: str, **changes: Any) -> File:
    return File(span=SPAN, path=path, content=Blob.of(b"of the recipe\n"), **changes)


@attrs.frozen
class Baked:
    """A root file system, and who got what in it."""

    root: Path
    owners: dict[str, str]
    told: str

    def modes(self, *paths: str) -> list[int]:
        return [(self.root / path[1:]).stat().st_mode & 0o7777 for path in paths]


def bake(tmp_path: Path, *builds: ResolvedBuild, packaged: tuple[str, ...] = (), **declared: Any) -> Baked:
    image = resolved_image(builds=builds, **declared)
    return bake_variant(tmp_path, image, CompiledImage(span=SPAN, image=image), packaged)


def bake_variant(
    tmp_path: Path, image: ResolvedImage, whole: CompiledImage, packaged: tuple[str, ...] = (), profiles: str = ""
) -> Baked:
    tree, root, programs = tmp_path / "tree", tmp_path / "root", tmp_path / "bin"
    files = emit_image(whole)
    write_tree(files, tree)
    for path, text in {
        "/etc/passwd": "root:x:0:0::/:/bin/sh\nnode:x:990:980::/:/bin/sh\nweb:x:991:981::/:/bin/sh\n",
        "/etc/group": "root:x:0:\nnode:x:980:\nweb:x:981:\n",
        **dict.fromkeys(packaged, "of a package"),
    }.items():
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_text(text)
    for build in image.builds:
        dest = run_scripts(files, build.name, tmp_path / f"run-{build.name}")
        archive = tmp_path / f"{build.name}.tar"
        subprocess.run(["tar", "-cf", archive, "--sort=name", "-C", dest, "."], check=True)
        # mkosi's archive.py of 25.3 and 27.1
        options = ["--keep-directory-symlink", "--no-overwrite-dir", "--same-permissions", "--same-order"]
        subprocess.run(["tar", "-xf", archive, "-C", root, *options], check=True)
    layers = [tree, *(tree / "mkosi.profiles" / name for name in profiles.split())]
    for layer in layers:
        if (layer / "mkosi.extra").exists():
            copy = ["cp", "--recursive", "--no-dereference", "--preserve=mode,links", "--remove-destination"]
            subprocess.run([*copy, f"{layer}/mkosi.extra/.", root], check=True)
    programs.mkdir()
    (programs / "chown").write_text(CHOWN)
    (programs / "chown").chmod(0o755)
    log = tmp_path / "chown.log"
    log.touch()
    env = {"BUILDROOT": str(root), "SRCDIR": str(tree), "PROFILES": profiles, "CHOWN_LOG": str(log)}
    told = ""
    for name in ("10-postinst-rootfs.sh", "09-finalize-artifacts.sh", "10-finalize-owners.sh"):
        for layer in layers:
            script = layer / "scripts" / name
            if script.exists():
                command = ["bash", str(script)]
                env["PATH"] = f"{programs}:/usr/bin:/bin"
                told += subprocess.run(command, check=True, env=env, capture_output=True, text=True).stdout
    assert not (root / ".tdxc-artifacts").exists()
    pairs = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert len({path for _, path in pairs}) == len(pairs)
    return Baked(root, {path: who for who, path in pairs}, told)


def test_a_folder_gets_its_modes_and_leaves_alone_what_other_artifacts_put_there(tmp_path: Path) -> None:
    script = "mkdir -p etc; touch secret su etc/a; install -m 755 /dev/null etc/run; ln -s /etc/shadow etc/link"
    artifacts = (
        artifact("secret", "/etc/app/secret", mode=0o600),
        artifact("su", "/etc/app/su", mode=0o4755),
        artifact("etc", "/etc/app"),
    )
    found = bake(tmp_path, made("a", script, *artifacts))
    assert found.modes("/etc/app/secret", "/etc/app/su", "/etc/app/a", "/etc/app/run", "/etc/app") == [
        0o600, 0o4755, 0o644, 0o755, 0o755,
    ]  # fmt: skip
    assert found.owners == {}
    assert (found.root / "etc/app/link").is_symlink()


@pytest.mark.parametrize("first", ["folder", "file"])
def test_of_a_folder_and_a_file_below_it_the_file_wins(tmp_path: Path, first: str) -> None:
    artifacts = [artifact("data", "/opt/app"), artifact("own", "/opt/app/name", mode=0o640)]
    script = "mkdir data; echo of the folder > data/name; echo own > own"
    found = bake(tmp_path, made("a", script, *(artifacts if first == "folder" else reversed(artifacts))))
    assert (found.root / "opt/app/name").read_text() == "own\n"
    assert found.modes("/opt/app/name") == [0o640]


def test_an_owner_gets_what_the_artifact_holds(tmp_path: Path) -> None:
    script = 'mkdir -p data/sub; touch data/x "data/sub/a b\'\\"\\$x] " one; ln -s x data/link'
    found = bake(
        tmp_path,
        made("a", script, artifact("data", "/opt/app", "node", group="web"), artifact("one", "/usr/bin/one", "web")),
    )
    weird = "/opt/app/sub/a b'\"$x] "
    folder = dict.fromkeys(("/opt/app", "/opt/app/sub", weird, "/opt/app/x", "/opt/app/link"), "990:981")
    assert found.owners == {**folder, "/usr/bin/one": "991:0"}


def test_an_owner_gets_nothing_that_is_of_others(tmp_path: Path) -> None:
    """Neither of the distribution, nor of another build, nor of the recipe: setuid programs would run as the owner."""
    one = made(
        "one",
        "mkdir -p data/lib data/d; touch data/prog data/root.conf data/helper data/lib/x data/d/y",
        artifact("data", "/opt/app", "node"),
    )
    two = made(
        "two",
        "mkdir lib; touch helper lib/x lib/z",
        artifact("helper", "/opt/app/helper", mode=0o4755),
        artifact("lib", "/opt/app/lib"),
    )
    found = bake(
        tmp_path,
        one,
        two,
        packaged=("/usr/bin/su",),
        files=(file("/opt/app/root.conf", mode=0o600), file("/opt/app/more.conf")),
        directories=(Directory(span=SPAN, path="/opt/app/d", mode=0o700),),
        symlinks=(Symlink(span=SPAN, path="/opt/app/link", target="/etc"),),
    )
    assert found.owners == dict.fromkeys(("/opt/app", "/opt/app/prog", "/opt/app/d/y"), "990:0")
    assert found.modes("/opt/app/helper", "/opt/app/root.conf", "/opt/app/d") == [0o4755, 0o600, 0o700]
    assert found.told == ""


def test_a_folder_that_holds_what_is_of_others_stays_roots(tmp_path: Path) -> None:
    build = made("a", "mkdir -p data/sub; touch data/mine data/sub/x", artifact("data", "/etc/nginx", "node"))
    found = bake(tmp_path, build, packaged=("/etc/nginx/nginx.conf", "/etc/nginx/.hidden"))
    assert found.owners == dict.fromkeys(("/etc/nginx/mine", "/etc/nginx/sub", "/etc/nginx/sub/x"), "990:0")
    assert found.told.startswith("/etc/nginx stays root's, as it also holds ")


def test_a_path_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """A later archive puts a link where the artifact had a folder."""
    one = made("one", "mkdir -p data/sub; touch data/x data/sub/shadow", artifact("data", "/opt/app", "node"))
    found = bake(tmp_path, one, packaged=("/etc/shadow",))
    assert found.owners["/opt/app/sub/shadow"] == "990:0"
    shutil.rmtree(found.root / "opt/app/sub")
    (found.root / "opt/app/sub").symlink_to("../../etc")
    again = tmp_path / "again"
    again.mkdir()
    lists = again / "root/.tdxc-artifacts"
    lists.mkdir(parents=True)
    shutil.copytree(found.root, again / "root", symlinks=True, dirs_exist_ok=True)
    (lists / "one").write_bytes(b"/opt/app\0/opt/app/x\0/opt/app/sub\0/opt/app/sub/shadow\0/etc/shadow\0/opt/gone\0")
    env = {
        "BUILDROOT": str(again / "root"),
        "SRCDIR": str(tmp_path / "tree"),
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "CHOWN_LOG": str(again / "log"),
    }
    subprocess.run(["bash", str(tmp_path / "tree/scripts/09-finalize-artifacts.sh")], check=True, env=env)
    assert sorted((again / "log").read_text().splitlines()) == [
        "990:0 /opt/app",
        "990:0 /opt/app/sub",
        "990:0 /opt/app/x",
    ]


def test_an_own_setuid_program_keeps_its_bits(tmp_path: Path) -> None:
    found = bake(tmp_path, made("a", "touch prog", artifact("prog", "/usr/bin/prog", "node", mode=0o6755)))
    assert found.owners == {"/usr/bin/prog": "990:0"}
    assert found.modes("/usr/bin/prog") == [0o6755]


def test_an_owner_without_an_account_fails_the_bake(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        bake(tmp_path, made("a", "touch prog", artifact("prog", "/usr/bin/prog", "ghost")))
    assert "no entry 'ghost' in /etc/passwd" in caught.value.stderr


def test_a_profile_protects_what_it_adds_and_gives_what_is_its_own(tmp_path: Path) -> None:
    base = made("base", "mkdir data; touch data/x data/tool", artifact("data", "/opt/app", "node"))
    more = made(
        "more",
        "mkdir web; touch tool web/y",
        artifact("tool", "/opt/app/tool", mode=0o4755),
        artifact("web", "/srv/web", "web"),
    )
    image = resolved_image(builds=(base,))
    variant = attrs.evolve(image, builds=(base, more), profiles=("dev",))
    whole = CompiledImage(span=SPAN, image=image, variants=(variant,))
    found = bake_variant(tmp_path, variant, whole, profiles="dev")
    given = {"/opt/app": "990:0", "/opt/app/x": "990:0", "/srv/web": "991:0", "/srv/web/y": "991:0"}
    assert found.owners == given
    assert found.modes("/opt/app/tool") == [0o4755]


def test_an_image_whose_artifacts_are_all_roots_has_no_lists(tmp_path: Path) -> None:
    files = emit_image(CompiledImage(span=SPAN, image=resolved_image(builds=(made("a", "x", artifact("x", "/x")),))))
    assert "rules/artifacts" not in files
    assert "scripts/09-finalize-artifacts.sh" not in files
    assert "list_artifact" not in files.text("mkosi.images/build-a/build.sh")
