from typing import Any

import pytest
from support.authored import at, authored, run
from tdxc.diagnostics import Code
from tdxc.ir import AuthoredImage, Group, Layer, User
from tdxc.passes.assign_ids import NORMAL_IDS, SYSTEM_IDS, AssignIds
from tdxc.passes.known_accounts import STATIC_GROUPS, STATIC_USERS


def user(name: str, line: int = 5, **fields: Any) -> User:
    return User(span=at(line), name=name, **fields)


def group(name: str, gid: int | None = None, line: int = 6) -> Group:
    return Group(span=at(line), name=name, gid=gid)


def assigned(image: AuthoredImage) -> AuthoredImage:
    after, found = run(AssignIds(), image)
    assert found == ()
    return after


def ids(layer: Layer) -> tuple[dict[str, int | None], dict[str, int | None]]:
    return {u.name: u.uid for u in layer.users}, {g.name: g.gid for g in layer.groups}


def test_ids_are_fixed_by_name() -> None:
    """These numbers own files on volumes that outlive an image: they must never change."""
    image = assigned(authored(users=(user("app"), user("admin", system=False)), groups=(group("tdx"),)))
    assert ids(image.layer) == ({"app": 747, "admin": 5253}, {"tdx": 755, "admin": 5253, "app": 747})


def test_a_user_gets_a_group_of_its_own_with_its_number() -> None:
    layer = assigned(authored(users=(user("app"),))).layer
    (own,) = layer.groups
    assert layer.users[0].group == own.name == "app"
    assert own.gid == layer.users[0].uid
    assert own.span == at(5)
    assert "own group" in own.cause


def test_no_own_group_where_the_recipe_or_debian_has_one() -> None:
    layer = assigned(
        authored(
            users=(user("a", group="tdx"), user("b"), user("backup2", group="backup")),
            groups=(group("b", 7777), group("tdx")),
        )
    ).layer
    assert {g.name for g in layer.groups} == {"b", "tdx"}
    assert ids(layer)[1]["b"] == 7777


def test_explicit_ids_are_kept_and_avoided() -> None:
    taken = assigned(authored(users=(user("app"),))).layer.users[0].uid
    layer = assigned(authored(users=(user("zoo", uid=taken), user("app")))).layer
    uids, gids = ids(layer)
    assert uids["zoo"] == taken
    assert uids["app"] not in {taken, None}
    assert gids == uids


def test_users_in_other_ranges() -> None:
    uids, _ = ids(assigned(authored(users=(user("a"), user("b", system=False)))).layer)
    assert uids["a"] in SYSTEM_IDS
    assert uids["b"] in NORMAL_IDS
    statics = set(STATIC_USERS.values()) | set(STATIC_GROUPS.values())
    assert statics.isdisjoint(SYSTEM_IDS)
    assert statics.isdisjoint(NORMAL_IDS)


@pytest.mark.parametrize(
    ("declarations", "message", "place"),
    [
        ({"users": (user("a", 4, uid=700), user("b", 5, uid=700))}, "user 'b': id 700 belongs to 'a'", "recipe.py:5:1"),
        ({"users": (user("a", 4, uid=33),)}, "id 33 belongs to 'www-data'", "recipe.py:4:1"),
        ({"users": (user("www-data", 4, uid=34),)}, "id 34 belongs to 'backup'", "recipe.py:4:1"),
        ({"users": (user("www-data", 4, uid=650),)}, "differs from 33", "recipe.py:4:1"),
        ({"groups": (group("a", 4, 4),)}, "group 'a': id 4 belongs to 'adm'", "recipe.py:4:1"),
        ({"groups": (group("a", 700, 4), group("b", 700, 5))}, "group 'b': id 700 belongs to 'a'", "recipe.py:5:1"),
    ],
)
def test_clashes_are_errors(declarations: dict[str, Any], message: str, place: str) -> None:
    _, (found,) = run(AssignIds(), authored(**declarations))
    assert found.code is Code.E_CONFLICT
    assert message in found.message
    assert str(found.span) == place


def test_a_profiles_explicit_id_clashing_with_a_derived_one_is_an_error_with_both_lines() -> None:
    taken = assigned(authored(users=(user("app"),))).layer.users[0].uid
    dev = Layer(span=at(20), users=(user("dev", 21, uid=taken),))
    _, (found,) = run(AssignIds(), authored(users=(user("app", 4),), profiles={"dev": dev}))
    assert (str(found.span), str(found.notes[0].span)) == ("recipe.py:21:1", "recipe.py:4:1")


def test_profiles_share_ids_by_name_and_never_share_a_number() -> None:
    layers = {p: Layer(span=at(20), users=(user("common"), user(f"only-{p}"))) for p in ("a", "b")}
    image = assigned(authored(users=(user("app"),), profiles=layers))
    first, second = (ids(p.layer)[0] for p in image.profiles)
    assert first["common"] == second["common"]
    numbers = [first["common"], first["only-a"], second["only-b"], ids(image.layer)[0]["app"]]
    assert len(set(numbers)) == 4


def test_a_full_range_is_an_error() -> None:
    many = tuple(user(f"u{i}", i + 1) for i in range(len(SYSTEM_IDS) + 1))
    after, found = run(AssignIds(), authored(users=many))
    assert {d.code for d in found} == {Code.E_LIMIT}
    assert len({u.uid for u in after.layer.users}) == len(SYSTEM_IDS) + 1


def test_an_image_without_accounts_is_unchanged() -> None:
    image = authored()
    assert assigned(image) == image
