"""A kernel from source: where it comes from, what it is configured with, and its build."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import attrs
import pytest
from support.authored import at, resolved, run
from support.builds import resolved_build
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import (
    Blob,
    BuildLanguage,
    BuildSource,
    DebloatKind,
    FirewallRuleText,
    KconfigFragment,
    KconfigOption,
    Kernel,
    KernelSource,
    Network,
    OutputTarget,
    Package,
    Partition,
    ResolvedBuild,
    ResolvedImage,
    SourceFile,
)
from tdxc.ir.verify import verify_resolved
from tdxc.passes.debloat import DebloatImage
from tdxc.passes.kernel_fragments import MODULES, SOURCE_FOLDER, source_options
from tdxc.passes.kernel_modules import KERNEL_FEATURES
from tdxc.passes.kernel_source import config_text
from tdxc.passes.resolve_kernel import ResolveKernel

SHA = hashlib.sha256(b"linux").hexdigest()
TARBALL = BuildSource(span=at(5), tarball="https://example.org/linux-6.13.12.tar.xz", sha256=SHA)


def kernel(**fields: Any) -> Kernel:
    return Kernel(span=at(5), **fields)


def source_kernel(base: str = "debian/trixie", *, given: dict[str, Any] | None = None, **declarations: Any) -> Any:
    image = resolve(resolved(base, kernel=kernel(**(given or {"version": "6.12"})), **declarations))
    return image.kernel


def resolve(image: ResolvedImage) -> ResolvedImage:
    after, diagnostics = run(ResolveKernel(), image)
    assert diagnostics == ()
    assert verify_resolved(after) == ()
    return after


def build_of(**given: Any) -> ResolvedBuild:
    (build,) = resolve(resolved(kernel=kernel(**given))).builds
    return build


def fault(base: str = "debian/trixie", **given: Any) -> Diagnostic:
    (diagnostic,) = run(ResolveKernel(), resolved(base, kernel=kernel(**given)))[1]
    assert diagnostic.fix
    return diagnostic


def options_of(image_kernel: Any) -> dict[str, str]:
    return {option.name: option.value for option in (*image_kernel.base_options, *image_kernel.options)}


# where the source comes from


@pytest.mark.parametrize(
    "given",
    [
        {"version": "6.12"},
        {"config_file": Blob.of_text("CONFIG_X=y\n")},
        {"patches": (SourceFile(span=at(5), path="a.patch", content=Blob.of_text("")),)},
        {"package": "linux-source-6.12"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_the_package_of_the_bases_own_source_is_built(given: dict[str, Any]) -> None:
    image = resolve(resolved(kernel=kernel(**given)))
    assert image.kernel.source is KernelSource.SOURCE
    assert (image.kernel.package, image.kernel.version) == ("linux-source-6.12", "6.12")
    (build,) = image.builds
    assert (build.name, build.language) == ("kernel", BuildLanguage.KERNEL)
    assert "linux-source-6.12" in {package.name for package in build.packages}
    assert not any(package.name.startswith("linux-") for package in image.packages)
    assert build.fetch == ""
    assert not build.network


def test_ubuntus_source_package_is_unpacked_with_its_own_packer() -> None:
    image = resolve(resolved("ubuntu/noble", kernel=kernel(version="6.8")))
    assert {"bzip2", "linux-source-6.8.0"} <= {package.name for package in image.builds[0].packages}


def test_bookworms_source_package_comes_with_its_suite() -> None:
    image = resolve(resolved("debian/bookworm", kernel=kernel(version="6.12")))
    assert [suite.name for suite in image.suites] == ["bookworm-backports"]
    assert "linux-source-6.12/bookworm-backports" in {package.name for package in image.builds[0].packages}


def test_a_version_that_the_base_has_not_is_refused_with_those_to_be_had_and_the_tarball() -> None:
    diagnostic = fault("debian/bookworm", version="6.8")
    assert (diagnostic.code, str(diagnostic.span)) == (Code.E_UNSUPPORTED, "recipe.py:5:1")
    assert diagnostic.message == "debian/bookworm has no source package of Linux 6.8"
    assert "6.12 (linux-source-6.12/bookworm-backports)" in diagnostic.notes[0].message
    assert 'version="6.12"' in diagnostic.fix
    assert 'source=tarball("https://…/linux-6.8.tar.xz", sha256="…")' in diagnostic.fix


def test_a_tarball_is_fetched_and_verified_before_anything_is_built() -> None:
    build = build_of(version="6.13.12", source=TARBALL)
    assert {"curl", "ca-certificates"} <= {package.name for package in build.packages}
    assert not any(package.name.startswith("linux-source") for package in build.packages)
    assert build.fetch == f"download {TARBALL.tarball} {SHA} linux.tarball\n"
    assert "version=6.13.12" in build.compile
    assert "linux.tarball" in build.compile


def test_a_source_package_of_another_suite_can_be_named() -> None:
    image = resolve(resolved(kernel=kernel(package="linux-source-7.3/trixie-backports")))
    assert (image.kernel.package, image.kernel.version) == ("linux-source-7.3/trixie-backports", "7.3")


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"version": "six"}, Code.E_VALUE, "not the version of a kernel"),
        ({"version": "6.12", "package": "linux-image-amd64"}, Code.E_CONFLICT, "a finished kernel"),
        ({"version": "6.13", "package": "linux-source-6.12"}, Code.E_CONFLICT, "not what the package"),
        ({"package": "linux-source-stable"}, Code.E_VALUE, "does not say which version"),
        ({"source": TARBALL}, Code.E_VALUE, "needs its version"),
        ({"source": TARBALL, "version": "6.13.12", "package": "linux-source-6.12"}, Code.E_CONFLICT, "both say"),
        ({"source": TARBALL, "version": "6.1.5"}, Code.E_KCONFIG, "cannot make TDX quotes"),
        ({"source": BuildSource(git="https://x.org/l", rev="v6.12"), "version": "6.12"}, Code.E_UNSUPPORTED, "tarball"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], code: Code, words: str) -> None:
    diagnostic = fault(**given)
    assert diagnostic.code is code
    assert words in diagnostic.message


def test_alpine_has_nothing_to_build_a_kernel_in() -> None:
    assert fault("alpine/3.20", version="6.12").code is Code.E_UNSUPPORTED


# the configuration


def test_the_kernel_is_monolithic_and_every_requirement_built_in() -> None:
    made = source_kernel()
    assert made.monolithic
    values = options_of(made)
    assert values["TDX_GUEST_DRIVER"] == values["TSM_REPORTS"] == values["VIRTIO_NET"] == "y"
    assert values["MODULES"] == "n"
    assert "m" not in values.values()
    assert "STRICT_MODULE_RWX" not in values
    assert all(option.cause and option.span.file for option in (*made.options, *made.base_options))


def test_demands_and_defaults_never_speak_of_one_option_twice() -> None:
    made = source_kernel(network=Network(span=at(3), firewall_rules=(FirewallRuleText(span=at(3), text="DROP all"),)))
    names = [option.name for option in (*made.options, *made.base_options)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("declarations", "options"),
    [
        ({"output_targets": (OutputTarget(span=at(3), name="azure"),)}, ("HYPERV", "HYPERV_NET", "UDF_FS", "VFAT_FS")),
        ({"output_targets": (OutputTarget(span=at(3), name="gcp"),)}, ("GVE", "BLK_DEV_NVME")),
        ({"packages": (Package(span=at(3), name="cryptsetup-bin"),)}, ("DM_CRYPT", "CRYPTO_AES_NI_INTEL")),
        ({"packages": (Package(span=at(3), name="podman"),)}, ("OVERLAY_FS", "FUSE_FS")),
        ({"network": Network(span=at(3), vsock=True)}, ("VSOCKETS", "VIRTIO_VSOCKETS")),
        ({"partitions": (Partition(span=at(3), mount_point="/data", fs="btrfs", size_bytes=1),)}, ("BTRFS_FS",)),
    ],
)
def test_options_follow_from_what_the_image_uses(declarations: dict[str, Any], options: tuple[str, ...]) -> None:
    plain, used = options_of(source_kernel()), options_of(source_kernel(**declarations))
    for option in options:
        assert used[option] == "y"
        assert plain.get(option, "n") == "n"


def test_the_recipe_overrides_a_default_but_not_a_requirement() -> None:
    io_uring = KconfigOption(span=at(6), name="IO_URING", value="y")
    made = source_kernel(given={"version": "6.12", "config": (io_uring,)})
    assert options_of(made)["IO_URING"] == "y"
    assert io_uring in made.options
    diagnostic = fault(version="6.12", config=(KconfigOption(span=at(6), name="EFI_STUB", value="n"),))
    assert diagnostic.code is Code.E_KCONFIG
    assert "contradicts what the image needs" in diagnostic.message


def test_a_module_is_refused_unless_the_recipe_turns_modules_on() -> None:
    sound = KconfigOption(span=at(6), name="SND", value="m")
    assert "asks for a module" in fault(version="6.12", config=(sound,)).message
    modules = KconfigOption(span=at(6), name="MODULES", value="y")
    made = source_kernel(given={"version": "6.12", "config": (modules, sound)})
    assert not made.monolithic
    assert options_of(made)["SND"] == "m"
    assert options_of(made)["STRICT_MODULE_RWX"] == "y"


def test_fragments_of_the_recipe_count_like_its_options() -> None:
    fragment = KconfigFragment(span=at(6), name="mine", text="CONFIG_TLS=y\n", source="mine.config")
    made = source_kernel(given={"version": "6.12", "fragments": (fragment,)})
    (option,) = [option for option in made.options if option.name == "TLS"]
    assert str(option.span) == "mine.config:1:1"
    assert [f.name for f in made.fragments if f.source] == ["60-mine"]


def test_a_configuration_file_stands_in_place_of_our_defaults() -> None:
    text = "CONFIG_64BIT=y\nCONFIG_MODULES=y\nCONFIG_EFI=y\nCONFIG_VIRTIO_NET=y\n# CONFIG_SOUND is not set\n"
    made = source_kernel(given={"config_file": Blob.of_text(text), "config_name": "my.config"})
    values = options_of(made)
    assert values["SOUND"] == "n"
    assert values["VIRTIO_NET"] == "y"
    assert values["VIRTIO_BLK"] == "m"
    assert "IO_URING" not in values
    assert not made.monolithic
    assert {str(o.span) for o in made.base_options if o.name == "SOUND"} == {"my.config:5:1"}


def test_a_configuration_file_that_lacks_what_the_image_needs_is_refused_at_its_line() -> None:
    blob = Blob.of_text("CONFIG_64BIT=y\n# CONFIG_EFI_STUB is not set\n")
    diagnostic = fault(config_file=blob, config_name="my.config")
    assert (diagnostic.code, str(diagnostic.span)) == (Code.E_KCONFIG, "my.config:2:1")


# the build


def test_the_build_gets_its_configuration_and_what_must_survive() -> None:
    image = resolve(resolved(kernel=kernel(version="6.12", config=(KconfigOption(name="TLS", value="y", span=at(6)),))))
    (build,) = image.builds
    files = {file.path: file.content.data.decode() for file in build.source.files}
    assert files["config"] == config_text(image.kernel)
    assert "\nCONFIG_TLS=y\n" in files["config"]
    rows = [line.split("\t") for line in files["requirements"].splitlines()]
    assert ["asked", "TLS", "y", "the recipe asks for it"] in rows
    assert {row[0] for row in rows} == {"asked", "default"}
    assert [row[1] for row in rows] == sorted(options_of(image.kernel))
    assert all(len(row) == 4 and row[3] for row in rows)
    assert (build.artifacts[0].source, build.artifacts[0].dest) == ("out/modules", "/usr/lib/modules")


def test_patches_keep_their_order_and_are_part_of_the_build() -> None:
    patches = tuple(SourceFile(span=at(6), path=name, content=Blob.of_text(name)) for name in ("z.patch", "a.patch"))
    paths = [file.path for file in build_of(version="6.12", patches=patches).source.files]
    assert [path for path in paths if path.startswith("patches/")] == ["patches/01-z.patch", "patches/02-a.patch"]


def test_nothing_of_the_build_host_enters_the_kernel() -> None:
    environment = dict(build_of(version="6.12").environment)
    assert {"KBUILD_BUILD_USER", "KBUILD_BUILD_HOST", "KBUILD_BUILD_VERSION", "LOCALVERSION"} <= set(environment)
    values = options_of(source_kernel())
    assert values["DEBUG_INFO_NONE"] == "y"
    assert values["LOCALVERSION_AUTO"] == "n"


def test_another_build_cannot_have_the_kernels_name() -> None:
    image = resolved(kernel=kernel(version="6.12"))
    image = attrs.evolve(image, builds=(resolved_build(name="kernel"),))
    (diagnostic,) = run(ResolveKernel(), image)[1]
    assert diagnostic.code is Code.E_CONFLICT


def test_the_kernel_goes_into_the_uki_alone() -> None:
    image = resolve(resolved(kernel=kernel(version="6.12")))
    after, diagnostics = run(DebloatImage(), image)
    assert diagnostics == ()
    kept = {decision.name for decision in after.debloat.keep if decision.kind is DebloatKind.PATH}
    assert not any(path.startswith("/usr/lib/modules") for path in kept)


# our own fragments


def test_the_modules_that_the_recipe_asks_for_stay_in_the_image() -> None:
    def kept(**given: Any) -> set[str]:
        keep = run(DebloatImage(), resolve(resolved(kernel=kernel(**given))))[0].debloat.keep
        return {decision.name for decision in keep if decision.kind is DebloatKind.MODULE}

    options = (KconfigOption(span=at(5), name="MODULES", value="y"), KconfigOption(span=at(5), name="DUMMY", value="m"))
    assert kept(version="6.12", config=options) == {"*"}
    assert kept(version="6.12") == set()
    file = Blob.of_text("CONFIG_64BIT=y\nCONFIG_MODULES=y\nCONFIG_EFI=y\n")
    assert "virtio_blk" in kept(version="6.12", config_file=file, config_name="my.config")
    assert "*" not in kept(version="6.12", config_file=file, config_name="my.config")


def test_every_fragment_belongs_to_a_feature_and_gives_a_reason_for_each_option() -> None:
    features = {feature.name for feature in KERNEL_FEATURES}
    assert {path.stem for path in SOURCE_FOLDER.glob("*.config")} <= features | {MODULES}
    for path in SOURCE_FOLDER.glob("*.config"):
        options = source_options(path.stem)
        assert options
        for option in options:
            assert option.cause, f"{path.name}: {option.name} has no comment above it"
            assert not re.search(r"reason|comment above", option.cause), f"{path.name}: {option.name}"
        assert len({option.name for option in options}) == len(options)


def options(**given: str) -> tuple[KconfigOption, ...]:
    return tuple(KconfigOption(span=at(6), name=name, value=value) for name, value in given.items())


class TestModules:
    """A kernel with modules: nothing signs them, as the key would be another in each build."""

    def test_none_are_signed_and_the_kernel_takes_them(self) -> None:
        made = source_kernel(given={"version": "6.12", "config": options(MODULES="y")})
        text = config_text(made)
        assert 'CONFIG_MODULE_SIG_KEY=""\n' in text
        assert "# CONFIG_MODULE_SIG_ALL is not set\n" in text
        assert "# CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY is not set\n" in text
        assert "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY=y" not in text
        assert any(fragment.name == "59-modules-source" for fragment in made.fragments)

    def test_what_our_defaults_need_is_built_in_unless_the_recipe_says_otherwise(self) -> None:
        """Defaults such as HYPERV_UTILS=y need HYPERV=y, and a feature is content with a module of it."""
        targets = (OutputTarget(span=at(3), name="azure"),)
        one = source_kernel(given={"version": "6.12", "config": options(MODULES="y")}, output_targets=targets)
        assert "CONFIG_HYPERV=y\n" in config_text(one)
        given = {"version": "6.12", "config": options(MODULES="y", HYPERV="m")}
        assert "CONFIG_HYPERV=m\n" in config_text(source_kernel(given=given, output_targets=targets))

    def test_without_modules_nothing_of_it_is_there(self) -> None:
        made = source_kernel()
        assert "MODULE_SIG" not in config_text(made)
        assert not any("modules" in fragment.name for fragment in made.fragments)

    @pytest.mark.parametrize(
        "more",
        [
            {"MODULE_SIG_ALL": "y"},
            {"MODULE_SIG_FORCE": "y"},
            {"MODULE_SIG": "y", "MODULE_SIG_KEY": '"certs/signing_key.pem"'},
        ],
    )
    def test_what_signs_them_is_refused(self, more: dict[str, str]) -> None:
        found = fault(version="6.12", config=options(MODULES="y", **more))
        assert found.code is Code.E_KCONFIG
        assert "signs modules by a key that each build makes anew" in found.message

    def test_a_configuration_that_signs_is_refused_until_the_recipe_says_otherwise(self) -> None:
        file = Blob.of_text("CONFIG_MODULES=y\nCONFIG_MODULE_SIG=y\n")
        assert "'CONFIG_MODULE_SIG=y' signs modules" in fault(config_file=file, config_name="my.config").message
        mended = {"config_file": file, "config_name": "my.config", "config": options(MODULE_SIG_KEY='""')}
        assert 'CONFIG_MODULE_SIG_KEY=""\n' in config_text(source_kernel(given=mended))


@pytest.mark.parametrize(("version", "has_jit"), [("6.8", False), ("6.9.3", False), ("6.10", True), ("6.12", True)])
def test_the_compiler_of_bpf_is_asked_for_where_it_needs_no_modules(version: str, has_jit: bool) -> None:
    """Before Linux 6.10 it depends on MODULES, and a default that cannot be would end each build."""
    given = {"version": version, "source": TARBALL}
    assert ("CONFIG_BPF_JIT=y" in config_text(source_kernel(given=given))) is has_jit
    assert "CONFIG_BPF_JIT=y" in config_text(source_kernel(given={**given, "config": options(MODULES="y")}))


def test_config_counts_more_than_a_line_of_the_file() -> None:
    file = Blob.of_text("# CONFIG_TCG_TPM is not set\n")
    found = fault(config_file=file, config_name="my.config")
    assert found.code is Code.E_KCONFIG
    assert found.fix == 'write config={"TCG_TPM": "y"}, which counts more'
    given = {"config_file": file, "config_name": "my.config", "config": options(TCG_TPM="y")}
    assert "CONFIG_TCG_TPM=y" in config_text(source_kernel(given=given))


def test_the_files_name_is_no_part_of_the_build() -> None:
    file = Blob.of_text("CONFIG_A=y\n")
    one, other = (build_of(config_file=file, config_name=name) for name in ("my.config", "other.config"))
    assert one.source == other.source


@pytest.mark.parametrize(
    ("version", "told"), [("6.14-rc1", "6.14.0-rc1"), ("6.14.0-rc1", "6.14.0-rc1"), ("6.13.2", "6.13.2")]
)
def test_a_candidate_is_held_against_the_name_that_its_sources_give(version: str, told: str) -> None:
    assert f"version={told}\n" in build_of(version=version, source=TARBALL).compile


@pytest.mark.parametrize("suffix", ["-a b", "/../x", "-$(id)", "-" + "x" * 40])
def test_a_release_that_cannot_name_a_folder_is_refused(suffix: str) -> None:
    option = KconfigOption(span=at(6), name="LOCALVERSION", value=f'"{suffix}"')
    found = fault(version="6.12", config=(option,))
    assert (found.code, str(found.span)) == (Code.E_KCONFIG, "recipe.py:6:1")
    file = Blob.of_text(f'CONFIG_64BIT=y\nCONFIG_EFI=y\nCONFIG_LOCALVERSION="{suffix}"\n')
    assert str(fault(config_file=file, config_name="my.config").span) == "my.config:3:1"
