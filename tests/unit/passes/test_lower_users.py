import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.authored import at, authored, run
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import Directory, Group, Layer, ResolvedImage, User
from tdxc.ir.verify import verify_resolved
from tdxc.passes.assign_ids import AssignIds
from tdxc.passes.expand_modules import ExpandModules
from tdxc.passes.lower_image import lower_image
from tdxc.passes.lower_users import LowerUsers


def user(name: str, line: int = 5, **fields: Any) -> User:
    return User(span=at(line), name=name, **fields)


def lower(
    chosen: tuple[str, ...] = (), profiles: dict[str, Layer] | None = None, **declarations: Any
) -> tuple[ResolvedImage, tuple[Diagnostic, ...]]:
    image, _ = run(ExpandModules(), authored(profiles=profiles, **declarations))
    image, found = run(AssignIds(), image)
    assert found == ()
    return run(LowerUsers(), lower_image(image, chosen))


def texts(image: ResolvedImage) -> dict[str, str]:
    assert verify_resolved(image) == ()
    return {file.path: file.content.data.decode() for file in image.files}


def test_each_account_has_a_fragment_with_fixed_ids() -> None:
    image, found = lower(
        users=(
            user(  # noqa: S604 - a login shell
                "app",
                groups=("tdx", "adm", "app"),
                home="/var/lib/app",
                shell="/bin/sh",
                description="An app",
            ),
            user("bare", group="backup"),
        ),
        groups=(Group(span=at(4), name="tdx"),),
    )
    assert found == ()
    numbers = {u.name: u.uid for u in image.users}
    assert texts(image) == {
        "/usr/lib/sysusers.d/10-group-app.conf": f"g app {numbers['app']}\n",
        "/usr/lib/sysusers.d/10-group-tdx.conf": "g tdx 755\n",
        "/usr/lib/sysusers.d/20-user-app.conf": (
            f'u app {numbers["app"]}:app "An app" /var/lib/app /bin/sh\nm app adm\nm app tdx\n'
        ),
        "/usr/lib/sysusers.d/20-user-bare.conf": f"u bare {numbers['bare']}:backup - - /usr/sbin/nologin\n",
        "/usr/lib/tmpfiles.d/20-home-app.conf": "d /var/lib/app 0700 app app -\n",
    }


def test_real_sysusers_makes_just_these_accounts(tmp_path: Path) -> None:
    image, found = lower(
        users=(
            user(  # noqa: S604 - a login shell
                "app",
                groups=("tdx", "systemd-journal"),
                home="/srv/a b%c",
                shell="/bin/sh",
                description='Say "hi" \\ %u',
            ),
            user("worker", group="tdx", uid=4711),
            user("late", system=False, group="input"),
        ),
        groups=(Group(span=at(4), name="tdx", gid=5150),),
    )
    assert found == ()
    for path, text in texts(image).items():
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "etc").mkdir()
    done = subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    passwd = {f[0]: f for line in (tmp_path / "etc/passwd").read_text().splitlines() if (f := line.split(":"))}
    groups = {f[0]: f for line in (tmp_path / "etc/group").read_text().splitlines() if (f := line.split(":"))}
    assert passwd["app"][2:] == ["747", "747", 'Say "hi" \\ %u', "/srv/a b%c", "/bin/sh"]
    assert passwd["worker"][2:4] == ["4711", "5150"]
    assert passwd["late"][3] == groups["input"][2]
    assert groups["tdx"][2:] == ["5150", "app"]
    assert groups["systemd-journal"][3] == "app"


@pytest.mark.parametrize(
    "fields",
    [{"description": "a:b"}, {"home": "/a:b"}, {"description": "two\nlines"}, {"shell": "-"}, {"home": "/a\n"}],
)
def test_values_that_a_fragment_cannot_hold_are_told_at_the_user(fields: dict[str, Any]) -> None:
    _, found = lower(users=(user("app", 7, **fields), user("fine", 8)))
    assert [str(d.span) for d in found] == ["recipe.py:7:1"]
    assert found[0].code in {Code.E_EMIT, Code.E_VALUE, Code.E_PATH}


def test_a_home_that_the_recipe_makes_itself_is_left_to_it() -> None:
    home = Directory(span=at(3), path="/home/app", mode=0o750)
    image, _ = lower(users=(user("app", home="/home/app"),), directories=(home,))
    assert not [path for path in texts(image) if "tmpfiles" in path]


def test_accounts_of_debian_keep_their_ids_and_only_gain_groups() -> None:
    image, found = lower(users=(user("www-data", groups=("tdx",)),), groups=(Group(span=at(4), name="tdx"),))
    assert found == ()
    assert texts(image)["/usr/lib/sysusers.d/20-user-www-data.conf"] == "m www-data tdx\n"
    assert image.users[0].uid == 33


def test_a_profile_adds_fragments_and_changes_none() -> None:
    base: dict[str, Any] = {"users": (user("app"),), "groups": (Group(span=at(4), name="tdx"),)}
    dev = {"dev": Layer(span=at(20), users=(user("dev", 21, groups=("tdx",)), user("app", 22)))}
    before, after = texts(lower(**base)[0]), texts(lower(("dev",), dev, **base)[0])
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {
        "/usr/lib/sysusers.d/10-group-dev.conf",
        "/usr/lib/sysusers.d/20-user-dev.conf",
    }


def test_accounts_are_sorted_and_unique() -> None:
    image, _ = lower(users=(user("b"), user("a"), user("b")))
    assert [u.name for u in image.users] == ["a", "b"]
    assert [g.name for g in image.groups] == ["a", "b"]
