from typing import Any

import pytest
from support.authored import at, authored, run
from support.builds import authored_build
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import (
    Artifact,
    AuthoredImage,
    Blob,
    BootStep,
    Build,
    Directory,
    EnvironmentVariable,
    File,
    Firmware,
    Group,
    Layer,
    OutputTarget,
    Package,
    RawUnit,
    Service,
    Setting,
    Suite,
    Symlink,
    Template,
    User,
)
from tdxc.passes.expand_modules import ExpandModules
from tdxc.passes.lower_image import merged_layer
from tdxc.passes.validate import Validate, check_merged


def diagnostics(image: AuthoredImage) -> tuple[Diagnostic, ...]:
    after, found = run(Validate(), image)
    assert after is image
    return found


def faults(**declarations: Any) -> list[tuple[Code, str]]:
    return [(d.code, str(d.span)) for d in diagnostics(authored(**declarations))]


def file(path: str, line: int = 5, text: str = "x", **fields: Any) -> File:
    return File(span=at(line), path=path, content=Blob.of_text(text), **fields)


def service(name: str, line: int = 5, **fields: Any) -> Service:
    return Service(span=at(line), name=name, exec=("/bin/true",), **fields)


def test_a_sound_image_passes() -> None:
    assert (
        faults(
            files=(file("/etc/a"), file("/etc/a.d/b", owner="www-data", group="app")),
            directories=(Directory(span=at(5), path="/etc/a.d"), Directory(span=at(6), path="/etc/a.d")),
            users=(
                User(span=at(7), name="app", groups=("tdx", "sudo")),
                User(span=at(8), name="app", groups=("tdx", "sudo")),
            ),
            groups=(Group(span=at(9), name="tdx"),),
            services=(service("app", user="app", supplementary_groups=("systemd-journal",)), service("b@", user="%i")),
            boot_steps=(
                BootStep(span=at(10), name="a", script="true"),
                BootStep(span=at(11), name="b", script="true", after=("a",), priority=9999),
            ),
            firmware=Firmware(span=at(12), value="ovmf"),
            init=Setting(span=at(12), value="/sbin/my-init"),
            output_targets=(OutputTarget(span=at(13), name="gcp"),),
        )
        == []
    )


@pytest.mark.parametrize(
    "second",
    [
        {"files": (file("/etc/a", 4, "one"), file("/etc/a", 6, "two"))},
        {"files": (file("/etc/a", 4, "same"), file("/etc/a", 6, "same"))},
        {"files": (file("/etc/a", 4),), "templates": (Template(span=at(6), path="/etc/a", text=""),)},
        {"files": (file("/etc/a", 4),), "directories": (Directory(span=at(6), path="/etc/a"),)},
        {"files": (file("/etc/a", 4),), "symlinks": (Symlink(span=at(6), path="/etc/a", target="b"),)},
        {"directories": (Directory(span=at(4), path="/etc/a"), Directory(span=at(6), path="/etc/a", mode=0o700))},
        {"symlinks": (Symlink(span=at(4), path="/etc/a", target="b"), Symlink(span=at(6), path="/etc/a", target="c"))},
        {"files": (file("/etc/a", 4), file("/etc/a/b", 6))},
        {"symlinks": (Symlink(span=at(4), path="/etc/a", target="b"),), "files": (file("/etc/a/x/y", 6),)},
        {
            "files": (file("/opt/x", 4),),
            "builds": (authored_build(span=at(6), artifacts=(Artifact(source="x", dest="/opt/x"),)),),
        },
    ],
)
def test_same_destination_twice_shows_both_lines(second: dict[str, Any]) -> None:
    (found,) = diagnostics(authored(**second))
    assert (found.code, str(found.span), str(found.notes[0].span)) == (
        Code.E_CONFLICT,
        "recipe.py:6:1",
        "recipe.py:4:1",
    )
    assert "/etc/a" in found.message or "/opt/x" in found.message


@pytest.mark.parametrize(
    "path",
    [
        *("etc/a", "/etc/../a", "/etc//a", "/etc/a/", "//etc/a", "/", "/etc/./a", "", "/etc/a\nb", "/etc/\x7f", "//"),
        *("/proc/x", "/sys/x", "/dev/null", "/run/app/x", "/run"),
    ],
)
def test_paths_that_cannot_be_or_are_hidden_are_refused(path: str) -> None:
    assert faults(files=(file(path),)) == [(Code.E_PATH, "recipe.py:5:1")]


@pytest.mark.parametrize("path", ["/runtime/x", "/developer", "/etc/é", "/etc/a b", "/system", "/..a/b"])
def test_paths_that_only_look_odd_pass(path: str) -> None:
    assert faults(files=(file(path),)) == []


def test_a_place_behind_a_link_of_the_distribution_is_that_place() -> None:
    build = authored_build(span=at(6), artifacts=(Artifact(source="x", dest="/usr/bin/p"),))
    assert faults(files=(file("/bin/p", 5),), builds=(build,)) == [(Code.E_CONFLICT, "recipe.py:6:1")]
    (found,) = diagnostics(authored(files=(file("/bin/p", 5),), builds=(build,)))
    assert found.message == "artifact of 'tool': '/usr/bin/p' is already the destination of the file"
    assert found.notes[0].message == "the file is declared here, as '/bin/p'"
    artifacts = tuple(Artifact(span=at(li), source="x", dest=dest) for li, dest in ((7, "/lib64/x"), (8, "/lib/x")))
    assert faults(files=(file("/usr/lib/x/y", 5),), builds=(authored_build(artifacts=artifacts),)) == []
    assert faults(files=(file("/usr/sbin/x/y", 6),), symlinks=(Symlink(span=at(5), path="/sbin/x", target="y"),)) == [
        (Code.E_CONFLICT, "recipe.py:6:1")
    ]


def owned(dest: str, line: int, owner: str = "root", group: str = "root") -> Artifact:
    return Artifact(span=at(line), source="x", dest=dest, owner=owner, group=group)


@pytest.mark.parametrize(
    ("dest", "is_shared"),
    [
        ("/usr/bin", True),
        ("/sbin/", True),
        ("/bin", True),
        ("/lib/systemd/system", True),
        ("/etc", True),
        ("/etc/udev", True),
        ("/var/lib", True),
        ("/usr/bin/tool", False),
        ("/opt/tool", False),
        ("/etc/tool", False),
        ("/var/lib/bin", False),
    ],
)
def test_no_folder_of_the_distribution_is_given_away(dest: str, is_shared: bool) -> None:
    expected = [(Code.E_PATH, "recipe.py:6:1")] if is_shared else []
    for owner, group in (("daemon", "root"), ("root", "daemon")):
        assert faults(builds=(authored_build(artifacts=(owned(dest, 6, owner, group),)),)) == expected
    assert faults(builds=(authored_build(artifacts=(owned(dest, 6),)),)) == []


def test_no_build_of_a_profile_is_copied_over_what_belongs_to_somebody() -> None:
    below, above = owned("/opt/app/data", 6, "daemon"), owned("/opt/app", 7)
    one, other = authored_build(name="one", artifacts=(below,)), authored_build(name="other", artifacts=(above,))
    assert faults(builds=(one, other)) == faults(builds=(other, one)) == []
    assert faults(builds=(authored_build(name="one", artifacts=(below, above)),)) == []
    same = authored_build(name="other", artifacts=(owned("/opt/app", 7, "daemon"),))
    assert faults(builds=(one, same)) == []
    assert profiled({"builds": (one,)}, dev=Layer(span=at(20), builds=(other,))) == [(Code.E_CONFLICT, "recipe.py:7:1")]


def test_alpine_has_folders_of_their_own_beside_usr() -> None:
    image = authored("alpine/3.20", files=(file("/bin/p", 5), file("/usr/bin/p", 6)))
    assert diagnostics(image) == ()


def test_artifacts_may_be_folders() -> None:
    build = authored_build(span=at(6), artifacts=(Artifact(source="x/", dest="/opt/x/"),))
    assert faults(builds=(build,)) == []


@pytest.mark.parametrize(
    ("declarations", "message", "fix"),
    [
        ({"services": (service("a", user="ap"),), "users": (User(span=at(4), name="app"),)}, "user 'ap'", "'app'"),
        ({"services": (service("a", user="ghost"),)}, "service 'a' names the unknown user 'ghost'", "user('ghost')"),
        ({"services": (service("a", group="ghost"),)}, "unknown group 'ghost'", "group('ghost')"),
        ({"services": (service("a", supplementary_groups=("tdxx",)),)}, "unknown group 'tdxx'", "group('tdxx')"),
        ({"files": (file("/a", owner="nobodyy"),)}, "'/a' names the unknown user 'nobodyy'", "'nobody'"),
        ({"files": (file("/a", group="nogroups"),)}, "unknown group 'nogroups'", "'nogroup'"),
        ({"directories": (Directory(span=at(5), path="/a", owner="x1"),)}, "unknown user 'x1'", "user('x1')"),
        ({"users": (User(span=at(5), name="a", group="zzz"),)}, "user 'a' names the unknown group 'zzz'", "zzz"),
        ({"users": (User(span=at(5), name="a", groups=("zzz",)),)}, "unknown group 'zzz'", "zzz"),
        (
            {"boot_steps": (BootStep(span=at(5), name="a", script="x", after=("keys",)),)},
            "boot step 'a' names the unknown boot step 'keys'",
            "declare a boot step 'keys'",
        ),
    ],
)
def test_unknown_names_are_errors_with_a_suggestion(declarations: dict[str, Any], message: str, fix: str) -> None:
    (found,) = diagnostics(authored(**declarations))
    assert (found.code, str(found.span)) == (Code.E_REFERENCE, "recipe.py:5:1")
    assert message in found.message
    assert fix in found.fix


def test_accounts_that_packages_make_are_known() -> None:
    packages = (Package(span=at(1), name="prometheus-node-exporter=1.9"), Package(span=at(1), name="rclone/sid"))
    services, suites = (service("a", user="prometheus", group="rclone"),), (Suite(span=at(1), name="sid"),)
    assert faults(packages=packages, services=services, suites=suites) == []
    assert faults(services=(service("a", user="prometheus"),)) == [(Code.E_REFERENCE, "recipe.py:5:1")]


@pytest.mark.parametrize(
    ("declarations", "name"),
    [
        ({"services": (service("a", 4), service("a", 6))}, "unit 'a.service'"),
        ({"services": (service("a", 4), service("a.service", 6))}, "unit 'a.service'"),
        ({"services": (service("a", 4),), "units": (RawUnit(span=at(6), name="a.service", sections=()),)}, "a.service"),
        ({"users": (User(span=at(4), name="a"), User(span=at(6), name="a", home="/x"))}, "user 'a'"),
        ({"groups": (Group(span=at(4), name="a", gid=7), Group(span=at(6), name="a", gid=8))}, "group 'a'"),
        (
            {"boot_steps": tuple(BootStep(span=at(line), name="a", script="same") for line in (4, 6))},
            "boot step 'a'",
        ),
        (
            {"builds": tuple(authored_build(span=at(li), name="a", artifacts=()) for li in (4, 6))},
            "build 'a'",
        ),
    ],
)
def test_two_things_of_one_name_are_conflicts(declarations: dict[str, Any], name: str) -> None:
    (found,) = diagnostics(authored(**declarations))
    assert (found.code, str(found.span), str(found.notes[0].span)) == (
        Code.E_CONFLICT,
        "recipe.py:6:1",
        "recipe.py:4:1",
    )
    assert name in found.message


@pytest.mark.parametrize(
    "declarations",
    [
        {"init": Setting(span=at(5), value="systemdd")},
        {"init": Setting(span=at(5), value="")},
        {"firmware": Firmware(span=at(5), value="seabios")},
        {"docs": Setting(span=at(5), value="true")},
        {"cloud": Setting(span=at(5), value="aws")},
        {"default_target": Setting(span=at(5), value="minimal")},
        {"default_target": Setting(span=at(5), value="a b.target")},
        {"output_targets": (OutputTarget(span=at(5), name="vmware"),)},
        {"boot_steps": (BootStep(span=at(5), name="a", script="x", priority=10_000),)},
        {"boot_steps": (BootStep(span=at(5), name="a", script="x", priority=-1),)},
        {"boot_steps": (BootStep(span=at(5), name="../a", script="x"),)},
        {"users": (User(span=at(5), name="Root User"),)},
        {"users": (User(span=at(5), name="a" * 32),)},
        {"groups": (Group(span=at(5), name="1st"),)},
        {"packages": (Package(span=at(5), name="a b"),)},
        {"packages": (Package(span=at(5), name="--force"),)},
        {"services": (Service(span=at(5), name="a/b", exec=("/x",)),)},
        {"services": (Service(span=at(5), name="a", exec=()),)},
        {"services": (Service(span=at(5), name="a", exec=("/x\n[Install]",)),)},
        {"services": (service("a", environment=(EnvironmentVariable(span=at(5), name="A B", value=""),)),)},
        {"services": (service("a", environment=(EnvironmentVariable(span=at(5), name="A", value="\0"),)),)},
    ],
)
def test_values_without_meaning_are_refused_at_their_line(declarations: dict[str, Any]) -> None:
    (found,) = diagnostics(authored(**declarations))
    assert (found.code, str(found.span)) == (Code.E_VALUE, "recipe.py:5:1")


def test_near_miss_of_a_choice_is_suggested() -> None:
    (found,) = diagnostics(authored(output_targets=(OutputTarget(span=at(5), name="qmeu"),)))
    assert found.fix == "did you mean 'qemu'?"


def test_unknown_base_is_refused() -> None:
    assert [d.code for d in diagnostics(authored("debian/sid"))] == [Code.E_REFERENCE]


# profiles


def profiled(base: dict[str, Any], **profiles: Layer) -> list[tuple[Code, str]]:
    image, errors = run(ExpandModules(), authored(profiles=profiles, **base))
    assert errors == ()
    return [(d.code, str(d.span)) for d in diagnostics(image)]


def test_a_profile_may_refer_to_what_the_image_declares() -> None:
    dev = Layer(span=at(20), services=(service("dev", 21, user="app"),))
    assert profiled({"users": (User(span=at(4), name="app"),)}, dev=dev) == []


def test_the_image_may_not_refer_to_what_only_a_profile_declares() -> None:
    dev = Layer(span=at(20), users=(User(span=at(21), name="app"),))
    assert profiled({"services": (service("a", user="app"),)}, dev=dev) == [(Code.E_REFERENCE, "recipe.py:5:1")]


def test_a_profile_clashes_with_the_image_but_not_with_other_profiles() -> None:
    one = Layer(span=at(20), files=(file("/etc/one", 21),), services=(service("s", 22),))
    two = Layer(span=at(30), files=(file("/etc/one", 31), file("/etc/base", 32)), services=(service("s", 33),))
    assert profiled({"files": (file("/etc/base", 5),)}, one=one, two=two) == [(Code.E_CONFLICT, "recipe.py:32:1")]


def test_a_fault_of_the_image_is_told_once_however_many_profiles_there_are() -> None:
    found = profiled({"services": (service("a", user="ghost"),)}, a=Layer(span=at(20)), b=Layer(span=at(30)))
    assert found == [(Code.E_REFERENCE, "recipe.py:5:1")]


def test_what_the_image_declares_alike_may_stand_in_a_profile() -> None:
    same = Layer(
        span=at(20), groups=(Group(span=at(21), name="g"),), directories=(Directory(span=at(22), path="/etc/d"),)
    )
    base = {"groups": (Group(span=at(4), name="g"),), "directories": (Directory(span=at(4), path="/etc/d"),)}
    assert profiled(base, dev=same) == []


def test_chosen_profiles_can_be_checked_together() -> None:
    merged = Layer(span=at(1), files=(file("/etc/a", 3, "1"), file("/etc/a", 9, "2")))
    assert [str(d.span) for d in check_merged(authored().base, merged)] == ["recipe.py:9:1"]


def test_every_fault_is_reported_in_source_order() -> None:
    found = faults(
        files=(file("relative", 9), file("/run/x", 3, owner="ghost")),
        services=(service("a b", 7, user="ghost"),),
    )
    assert [place for _, place in found] == sorted(place for _, place in found)
    assert len(found) == 5


def staged(name: str, dest: str, line: int) -> Build:
    return authored_build(name=name, span=at(line), artifacts=(Artifact(span=at(line), source="out", dest=dest),))


def test_builds_are_unpacked_from_the_outside_to_the_inside() -> None:
    image = authored(
        builds=(staged("inner", "/usr/bin/tool", 4), staged("other", "/opt/x", 5), staged("outer", "/bin/", 6)),
        profiles={"p": Layer(builds=(staged("all", "/opt", 9),))},
    )
    assert diagnostics(image) == ()
    assert [build.name for build in merged_layer(image, ()).builds] == ["other", "outer", "inner"]
    assert [build.name for build in merged_layer(image, ("p",)).builds] == ["other", "outer", "inner", "all"]


def test_builds_in_each_others_folders_are_refused() -> None:
    one = authored_build(
        name="one",
        span=at(4),
        artifacts=(Artifact(span=at(4), source="a", dest="/opt"), Artifact(span=at(4), source="b", dest="/srv/x/y")),
    )
    two = authored_build(
        name="two",
        span=at(5),
        artifacts=(Artifact(span=at(5), source="a", dest="/srv/x"), Artifact(span=at(5), source="b", dest="/opt/x")),
    )
    (found,) = diagnostics(authored(builds=(one, two)))
    assert (found.code, found.span) == (Code.E_CONFLICT, at(5))
    assert "'two' has a folder that holds an artifact of 'one', and the other way round" in found.message
    assert found.notes[0].span == at(4)


def test_a_firmware_of_ones_own_is_for_qemu() -> None:
    own = Firmware(span=at(5), value="OVMF.fd", content=Blob.of(b"firmware"))
    azure, qemu = (OutputTarget(span=at(6), name=name) for name in ("azure", "qemu"))
    assert faults(firmware=own) == faults(firmware=own, output_targets=(azure, qemu)) == []
    assert faults(firmware=own, output_targets=(azure,)) == [(Code.E_UNSUPPORTED, "recipe.py:5:1")]
    changed = profiled({"firmware": own}, cloud=Layer(span=at(20), output_targets=(azure,)))
    assert changed == [(Code.E_UNSUPPORTED, "recipe.py:5:1")]
