"""A .NET program built from source, with the SDK of Ubuntu 24.04.

tdxc build examples/builds_dotnet.py
"""

from tdx import Build, Image
from tdx.backends import LocalLinuxBackend

img = Image("builds-dotnet", base="ubuntu/noble", backend=LocalLinuxBackend())
img.output_targets("qemu")

img.build(
    Build.dotnet(
        name="hello-dotnet",
        src="./builds/hello-dotnet/",
        sdk_version="8.0",
        project="hello-dotnet.csproj",
        self_contained=False,
        output="/opt/hello-dotnet",
    )
)

img.install("dotnet-runtime-8.0")

img.service(
    "hello-dotnet",
    exec="/opt/hello-dotnet/hello-dotnet",
    type="oneshot",
    overrides={"MemoryDenyWriteExecute": "no"},  # the runtime compiles as it runs
    extra_unit={
        "Service": {
            "StandardOutput": "journal+console",
            "SystemCallFilter": "sched_setaffinity",  # each of its threads asks for all processors
        }
    },
)
