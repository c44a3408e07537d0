"""Secrets over vsock, from a disk and from credentials, and the ways into a development image, all in machines."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import re
import subprocess
from pathlib import Path

import attrs
import pytest
from support.commands import PROGRAM, QUICKLY, Outcome, process
from support.consoles import BOOT_TIMEOUT_S
from support.guest_disk import said
from support.guest_methods import (
    BRIDGE_PORT,
    PORT,
    TOKEN,
    WRONG,
    Variants,
    console_of,
    credentials,
    recipe_text,
    source_disk,
)
from support.guest_secrets import ANSWER_TIMEOUT_S, free_port
from tdxc_runtime.secrets import connect
from tdxc_runtime.vm import ConsoleLine, Forward, Machine, VirtualMachine, boot

pytestmark = pytest.mark.integration

SESAME = "open sesame"
SECRETS = {"api_token": TOKEN, "port": PORT}
AT_ONCE = 2
"""Machines that boot at one time: the processors of the smallest machine that runs these tests."""


def key_pair(path: Path) -> str:
    """Make a key for SSH; its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the key ``known``, which the image lets in, and ``strange``."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("known", "strange"):
        key_pair(folder / name)
    return folder


@attrs.frozen(kw_only=True)
class Baked:
    """The bake for vsock: what it printed, with root's password, and where it wrote to."""

    printed: str
    password: str
    key: str
    folder: Path


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Baked:
    """Bake once."""
    folder = tmp_path_factory.mktemp("guest-methods")
    key = (keys / "known.pub").read_text().strip()
    (folder / "recipe.py").write_text(recipe_text(key=key, arguments="'vsock'"))
    command = [*PROGRAM, "build", "recipe.py", *QUICKLY]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    printed = finished.stdout + finished.stderr
    print(printed)
    assert finished.returncode == 0
    passwords = re.findall(r"^root's password in this image, shown this once: (\S+)$", finished.stderr, re.MULTILINE)
    assert len(passwords) == 1
    return Baked(printed=printed, password=passwords[0], key=key, folder=folder)


@pytest.fixture(scope="module")
def variants(baked: Baked) -> Variants:
    uki = baked.folder / "build" / "output" / "guest-methods.efi"
    return Variants.of(uki, key=baked.key, folder=baked.folder)


# vsock, and the ways in


@attrs.frozen(kw_only=True)
class Visited:
    """What the visits to a development image gave."""

    console: str
    marks: str
    refusal: str
    sent: Outcome
    by_ssh: subprocess.CompletedProcess[str]
    by_strange_key: subprocess.CompletedProcess[str]


def log_in(machine: VirtualMachine, password: str) -> None:
    """Answer the two questions of the login on the console."""
    for question, answer in ((r"login: ", "root"), (r"Password: ", password)):
        machine.console.wait_for(question, BOOT_TIMEOUT_S)
        machine.send(f"{answer}\r")


def ssh(port: int, key: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the machine as root, with this key alone."""
    options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
    words = ["ssh", "-F", "none", "-i", str(key), "-p", str(port), *(word for each in options for word in ("-o", each))]
    return subprocess.run([*words, "root@127.0.0.1", command], capture_output=True, text=True, timeout=300, check=False)


def send(port: int, folder: Path) -> Outcome:
    """Send with the client of the command line, as a user does."""
    secrets = folder / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text(json.dumps(SECRETS))  # JSON is YAML
    host = f"127.0.0.1:{port}"
    return process("secrets", "send", host, "--from", secrets, "--no-tls", "--without-quote", cwd=folder)


@pytest.fixture(scope="module")
def visited(baked: Baked, variants: Variants, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Visited:
    """Log in on the console and by SSH, and post over vsock to the server that waits there."""
    port, ssh_port = free_port(), free_port()
    forwards = (Forward(host_port=port, guest_port=BRIDGE_PORT), Forward(host_port=ssh_port, guest_port=22))
    lines: list[ConsoleLine] = []
    machine = Machine(boot=variants.base, uefi=False, tpm=False, vcpus=1, forwards=forwards)
    with boot(machine, on_line=lines.append) as running:
        console = running.console
        console.wait_for(r"waiting for secrets address=vsock:any:8080", BOOT_TIMEOUT_S)
        running.send("\r")  # the first question may have come before that line
        log_in(running, SESAME)
        console.wait_for(r"Login incorrect", BOOT_TIMEOUT_S)
        log_in(running, baked.password)
        console.wait_for(r"root@.*# ", BOOT_TIMEOUT_S)
        running.send("modprobe vsock_loopback && echo loaded-$((6 * 7))\r")
        console.wait_for(r"loaded-42", BOOT_TIMEOUT_S)
        refused = connect("127.0.0.1", port, tls=False, timeout_s=ANSWER_TIMEOUT_S).post({"api_token": WRONG})
        sent = send(port, tmp_path_factory.mktemp("sent"))
        console.wait_for(r"reader: done", BOOT_TIMEOUT_S)
        by_strange_key = ssh(ssh_port, keys / "strange", "true")
        by_ssh = ssh(ssh_port, keys / "known", "systemctl is-system-running --wait; ls /proc/1/root/etc/shadow")
        marks = ssh(ssh_port, keys / "known", "cat /proc/cmdline /etc/os-release").stdout
    return Visited(
        console=said(lines),
        marks=marks,
        refusal=f"{refused.status} {json.dumps(refused.data)}",
        sent=sent,
        by_ssh=by_ssh,
        by_strange_key=by_strange_key,
    )


def test_the_console_takes_the_password_of_the_bake_and_no_other(visited: Visited, baked: Baked) -> None:
    assert re.search(r"Login incorrect[\s\S]+root@[^\n]*# [\s\S]*loaded-42", visited.console)
    assert baked.password not in visited.console


def test_the_password_is_shown_once_and_kept_nowhere(baked: Baked) -> None:
    assert baked.printed.count(baked.password) == 1
    (log,) = re.findall(r"^log: (\S+)$", baked.printed, re.MULTILINE)
    written = [path for path in baked.folder.rglob("*") if path.is_file()]
    assert len(written) > 50
    for path in (Path(log), *written):
        assert baked.password.encode() not in path.read_bytes(), path


def test_ssh_takes_the_given_key_and_no_other(visited: Visited) -> None:
    assert visited.by_ssh.stdout.splitlines() == ["running", "/proc/1/root/etc/shadow"], visited.by_ssh
    assert visited.by_strange_key.returncode == 255
    assert "Permission denied (publickey)" in visited.by_strange_key.stderr


def test_the_machine_says_that_it_is_for_development(visited: Visited) -> None:
    words, *release = visited.marks.splitlines()
    assert "tdxvm.development=1" in words.split()
    assert "TDXVM_DEVELOPMENT=1" in release


def test_vsock_delivers_as_a_post_does(visited: Visited) -> None:
    assert visited.refusal.startswith("422 ")
    assert "does not match ^tok_" in visited.refusal
    assert visited.sent.status == 0, visited.sent.err
    assert "accepted: api_token, port" in visited.sent.out
    assert re.search(r"request refused from=\S*vsock:1\b", visited.console)
    check_delivered(visited.console)


# a disk, and credentials


@pytest.fixture(scope="module")
def consoles(variants: Variants, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The consoles of machines with the other methods, by names."""
    place = tmp_path_factory.mktemp("machines")
    wrong = {**SECRETS, "api_token": WRONG}
    disk = variants.with_method("file", "'file', source='/dev/vdb'")
    imported = variants.with_method("env", "'env'", f"systemd.set_credential=tdx.secret.port:{PORT}")
    confidential = variants.with_method("own", "'env'", "systemd.import_credentials=no")
    machines: dict[str, Machine] = {
        "disk": Machine(boot=disk, disks=source_disk(place / "right", SECRETS)),
        "wrong disk": Machine(boot=disk, disks=source_disk(place / "wrong", wrong)),
        "credentials": Machine(boot=imported, credentials=credentials(place / "given", {"api_token": TOKEN})),
        "credentials without systemd": Machine(boot=confidential, credentials=credentials(place / "own", SECRETS)),
    }
    plain = {name: attrs.evolve(each, uefi=False, tpm=False, network=False, vcpus=1) for name, each in machines.items()}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(plain, pool.map(console_of, plain.values()), strict=True))


def check_delivered(console: str) -> None:
    """The service has the secrets, nothing failed, and no value is on the console."""
    assert f"reader: credential {hashlib.sha256(TOKEN.encode()).hexdigest()}" in console
    assert f"reader: port {PORT}" in console
    assert not re.search(r"Failed to start|FAILED|Dependency failed", console)
    assert TOKEN not in console
    assert WRONG not in console


@pytest.mark.parametrize("name", ["disk", "credentials"])
def test_secrets_come_without_a_network(consoles: dict[str, str], name: str) -> None:
    check_delivered(consoles[name])


def test_credentials_come_where_systemd_imports_none_as_in_a_confidential_machine(consoles: dict[str, str]) -> None:
    check_delivered(consoles["credentials without systemd"])


def test_a_wrong_value_on_the_disk_holds_the_service_back(consoles: dict[str, str]) -> None:
    console = consoles["wrong disk"]
    assert "secrets of /dev/vdb do not fit the recipe: api_token does not match ^tok_" in console
    assert "correct them there, and start the machine again" in console
    assert re.search(r"Dependency failed for reader", console)
    assert "reader: " not in console
    assert WRONG not in console
