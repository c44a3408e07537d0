import base64
from typing import Any

import pytest
from support.authored import at, resolved, run
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import Blob, Directory, File, FirewallRuleText, Network, ResolvedImage, Setting, Ssh
from tdxc.ir.verify import verify_resolved
from tdxc.passes.lower_network import LowerNetwork
from tdxc.passes.lower_ssh import LowerSsh


def public_key(kind: str = "ssh-ed25519", body: bytes = b"\0\0\0\x20" + bytes(32)) -> str:
    blob = len(kind).to_bytes(4, "big") + kind.encode() + body
    return f"{kind} {base64.b64encode(blob).decode()}"


KEY = public_key()


def lower(
    ssh: Ssh | None, rules: tuple[str, ...] = (), **declarations: Any
) -> tuple[ResolvedImage, tuple[Diagnostic, ...]]:
    texts = tuple(FirewallRuleText(span=at(3), text=text) for text in rules)
    image = resolved(ssh=ssh, network=Network(span=at(3), firewall_rules=texts), **declarations)
    image, found = run(LowerSsh(), run(LowerNetwork(), image)[0])
    assert verify_resolved(image) == ()
    return image, found


def ssh(*keys: str, **fields: Any) -> Ssh:
    return Ssh(span=at(6), enabled=True, authorized_keys=keys, **fields)


def test_the_server_runs_without_passwords_and_without_a_host_key_in_the_image() -> None:
    image, (found,) = lower(ssh(KEY, f"  {public_key('ssh-rsa')} me@host  ", port=2222))
    assert found.code is Code.W_DEVELOPMENT
    files = {file.path: file for file in image.files}
    keys = files["/root/.ssh/authorized_keys"]
    assert keys.content.data.decode() == f"{KEY}\n{public_key('ssh-rsa')} me@host\n"
    assert keys.mode == 0o600
    assert {d.path: d.mode for d in image.directories} == {"/etc/dropbear": 0o700, "/root/.ssh": 0o700}
    (unit,) = (u for u in image.units if u.name == "dropbear.service")
    assert unit.values("Service", "ExecStart") == ("/usr/sbin/dropbear -E -R -s -p 2222 -F",)
    assert unit.wanted_by == ("minimal.target",)
    assert "dropbear-bin" in {p.name for p in image.packages}


@pytest.mark.parametrize("declared", [None, Ssh(span=at(6), enabled=False, key_delivery="http")])
def test_no_server_unless_enabled(declared: Ssh | None) -> None:
    image, found = lower(declared)
    assert found == ()
    assert not [u for u in image.units if "dropbear" in u.name]


def test_keys_by_http_are_refused_with_the_reason() -> None:
    _, found = lower(ssh(key_delivery="http"))
    assert [d.code for d in found] == [Code.E_UNSUPPORTED, Code.W_DEVELOPMENT]
    assert "who" in found[0].message


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----", "is a private key"),
        (f"{KEY}\n{KEY}", "holds a line break"),
        ("", "is not"),
        ("ssh-ed25519", "is not"),
        ("ssh-ed25519 AAAA", "is not"),
        ("ssh-ed25519 not-base64!", "is not"),
        ("ssh-dss " + KEY.split()[1], "is not"),
        ("ssh-rsa " + KEY.split()[1], "is not"),
        (f'command="/bin/x" {KEY}', "is not"),
        ("https://example.org/key.pub", "is not"),
    ],
)
def test_what_is_no_public_key_is_refused_without_repeating_it(key: str, message: str) -> None:
    _, found = lower(ssh(KEY, key))
    fault = next(d for d in found if d.code is Code.E_VALUE)
    assert "authorized key 2" in fault.message
    assert message in fault.message
    assert "b3BlbnNzaC1rZXk" not in repr(found)


def test_the_warning_says_when_nobody_could_log_in() -> None:
    def notes(*keys: str, rules: tuple[str, ...] = (), port: int = 22) -> str:
        return " ".join(n.message for n in lower(ssh(*keys, port=port), rules)[1][0].notes)

    assert "no authorized_keys" in notes()
    assert "no authorized_keys" not in notes(KEY)
    assert "no firewall rule accepts tcp 22" in notes(KEY, rules=("ACCEPT tcp 8545", "DROP all"))
    assert "no firewall rule" not in notes(KEY, rules=("ACCEPT tcp 20-23", "DROP all"))
    assert "no firewall rule" not in notes(KEY, rules=("ACCEPT all from 10.0.0.0/8",))
    assert "no firewall rule accepts tcp 2222" in notes(KEY, rules=("ACCEPT tcp 22",), port=2222)


def test_what_the_recipe_brings_itself_stands() -> None:
    keys = File(span=at(9), path="/root/.ssh/authorized_keys", content=Blob.of_text("mine"))
    folder = Directory(span=at(9), path="/etc/dropbear", mode=0o755)
    image, _ = lower(ssh(KEY), files=(keys,), directories=(folder,))
    assert next(f for f in image.files if f.path == keys.path).content.data == b"mine"
    assert next(d for d in image.directories if d.path == folder.path).mode == 0o755


def test_busybox_starts_it_as_its_last_boot_step() -> None:
    image, _ = lower(ssh(KEY), init=Setting(span=at(2), value="busybox"))
    assert image.boot_steps[-1].script == "/usr/sbin/dropbear -E -R -s -p 22"
    assert image.boot_steps[-1].priority == 9000


def test_alpine_calls_the_package_otherwise() -> None:
    image, _ = run(LowerSsh(), resolved("alpine/3.20", ssh=ssh(KEY), init=Setting(span=at(2), value="busybox")))
    assert "dropbear" in {p.name for p in image.packages}
