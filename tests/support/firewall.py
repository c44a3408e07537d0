"""Loads generated rulesets with the real nft in a network namespace, and sends real packets at them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
from tdxc.ir import ResolvedImage

UNSHARE = ["unshare", *(() if os.geteuid() == 0 else ("-r",)), "-n", "-m"]


@attrs.frozen
class Probe:
    """One attempt of a client at 192.0.2.2 (or 192.0.2.3, or 2001:db8::2) to reach the guest."""

    source: str
    protocol: str
    port: int

    @property
    def destination(self) -> str:
        """The guest's address of the same family."""
        return "2001:db8::1" if ":" in self.source else "192.0.2.1"


def write_etc(image: ResolvedImage, folder: Path) -> Path:
    """The image's files below /etc, in ``folder``/etc."""
    for file in image.files:
        path = folder / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content.data)
    return folder / "etc"


def nft(etc: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run nft in a network namespace of its own, with ``etc`` in the place of /etc."""
    script = 'mount --bind "$1" /etc && shift && exec nft "$@"'
    command = [*UNSHARE, "sh", "-c", script, "sh", str(etc), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def check(etc: Path) -> subprocess.CompletedProcess[str]:
    """``nft -c -f`` on the image's main file."""
    return nft(etc, "-c", "-f", "/etc/nftables.conf")


def reach(etc: Path, probes: list[Probe]) -> list[str]:
    """Load the ruleset in a namespace that stands for the guest, and report what became of each probe.

    ``open``: answered; ``refused``: reset or unreachable; ``silent``: nothing came back within four seconds. All are
    made at the same time.
    """
    listed = [[p.source, p.protocol, p.port, p.destination] for p in probes]
    command = [*UNSHARE, sys.executable, "-c", _GUEST, str(etc), json.dumps(listed), _CLIENT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results: list[str] = json.loads(done.stdout)
    return results


_GUEST = """
import json, os, socket, subprocess, sys, threading, time
etc, probes, client = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]

def sh(text):
    subprocess.run(["sh", "-ec", text], check=True, stdout=subprocess.DEVNULL)

peer = subprocess.Popen(["unshare", "-n", "sleep", "100"])
try:
    while True:
        if os.readlink(f"/proc/{peer.pid}/ns/net") != os.readlink("/proc/self/ns/net"):
            break
        assert peer.poll() is None
        time.sleep(0.01)
    inside = f"nsenter -t {peer.pid} -n"
    sh(f'''
        ip link set lo up
        ip link add eth0 type veth peer name peer0
        ip link set peer0 netns {peer.pid}
        ip address add 192.0.2.1/24 dev eth0
        ip address add 2001:db8::1/64 dev eth0 nodad
        ip link set eth0 up
        {inside} ip address add 192.0.2.2/24 dev peer0
        {inside} ip address add 192.0.2.3/24 dev peer0
        {inside} ip address add 2001:db8::2/64 dev peer0 nodad
        {inside} ip link set peer0 up
        {inside} ip link set lo up
        mount --bind {etc} /etc
        nft -f /etc/nftables.conf
        nft -f /etc/nftables.conf
    ''')
    def serve(family, kind, port):
        sock = socket.socket(family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        def loop():
            while True:
                if kind == socket.SOCK_STREAM:
                    sock.accept()[0].close()
                else:
                    data, who = sock.recvfrom(100)
                    sock.sendto(data, who)
        threading.Thread(target=loop, daemon=True).start()
    for source, protocol, port, _ in probes:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}.get(protocol)
        if kind is not None:
            try:
                serve(family, kind, port)
            except OSError:
                pass
    done = subprocess.run([*inside.split(), sys.executable, "-c", client, json.dumps(probes)], stdout=subprocess.PIPE)
    loop = socket.create_connection(("127.0.0.1", next(p[2] for p in probes if p[1] == "tcp")), timeout=60)
    sys.stdout.buffer.write(done.stdout)
    sys.exit(done.returncode)
finally:
    peer.kill()
    peer.wait()
"""

_CLIENT = """
import json, socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

def attempt(source, protocol, port, destination):
    if protocol == "icmp":
        done = subprocess.run(["ping", "-c1", "-W4", "-I", source, destination], stdout=subprocess.PIPE)
        return "open" if done.returncode == 0 else "silent"
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    sock.settimeout(4)
    sock.bind((source, 0))
    try:
        sock.connect((destination, port))
        if protocol == "udp":
            sock.send(b"x")
            sock.recv(100)
        return "open"
    except TimeoutError:
        return "silent"
    except OSError:
        return "refused"

probes = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(probes)) as pool:
    print(json.dumps(list(pool.map(lambda probe: attempt(*probe), probes))))
"""
