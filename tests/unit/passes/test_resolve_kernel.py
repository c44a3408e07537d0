from typing import Any

import pytest
from support.authored import at, resolved, run
from tdxc.diagnostics import Code
from tdxc.ir import (
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
    ResolvedImage,
    Suite,
)
from tdxc.ir.verify import verify_resolved
from tdxc.passes.kernel_cmdline import DEFAULT_ARGUMENTS
from tdxc.passes.kernel_modules import KERNEL_FEATURES, wanted_modules
from tdxc.passes.kernel_options import FRAGMENT_FOLDER
from tdxc.passes.resolve_kernel import DISTRIBUTION_KERNELS, ResolveKernel


def resolve(image: ResolvedImage) -> ResolvedImage:
    after, diagnostics = run(ResolveKernel(), image)
    assert diagnostics == ()
    assert verify_resolved(after) == ()
    return after


def kernel(**fields: Any) -> Kernel:
    return Kernel(span=at(5), **fields)


def faults(image: ResolvedImage) -> list[tuple[Code, str, str]]:
    return [(d.code, str(d.span), d.message) for d in run(ResolveKernel(), image)[1]]


def test_default_is_the_cloud_kernel_with_tdx_required() -> None:
    image = resolve(resolved())
    assert image.kernel.source is KernelSource.DISTRIBUTION
    assert image.kernel.package == "linux-image-cloud-amd64"
    assert "linux-image-cloud-amd64" in {p.name for p in image.packages}
    options = {o.name: o.value for o in image.kernel.options}
    assert options["INTEL_TDX_GUEST"] == "y"
    assert options["TSM_REPORTS"] == "m"
    assert list(options) == sorted(options)
    assert all(o.span.file and o.cause for o in image.kernel.options)


def test_bookworm_takes_its_kernel_from_backports_and_adds_the_suite_once() -> None:
    for suites in ((), (Suite(span=at(3), name="bookworm-backports", priority=200),)):
        image = resolve(resolved("debian/bookworm", suites=suites))
        assert image.kernel.package == "linux-image-cloud-amd64/bookworm-backports"
        assert [s.name for s in image.suites] == ["bookworm-backports"]
    assert image.suites[0].priority == 200


@pytest.mark.parametrize("package", ["linux-image-cloud-amd64", "linux-image-amd64"])
def test_bookworms_own_kernel_is_refused_with_the_fix(package: str) -> None:
    _, diagnostics = run(ResolveKernel(), resolved("debian/bookworm", kernel=kernel(package=package)))
    (diagnostic,) = diagnostics
    assert (diagnostic.code, str(diagnostic.span)) == (Code.E_KCONFIG, "recipe.py:5:1")
    assert "CONFIG_INTEL_TDX_GUEST" in diagnostic.message
    assert f"{package}/bookworm-backports" in diagnostic.fix


def test_a_named_package_is_taken_as_it_is() -> None:
    image = resolve(resolved(kernel=kernel(package="linux-image-amd64/sid")))
    assert image.kernel.package == "linux-image-amd64/sid"
    assert image.suites == ()


def test_alpine_is_warned_about_and_not_required_to_have_tdx() -> None:
    image, diagnostics = run(ResolveKernel(), resolved("alpine/3.20"))
    assert [d.code for d in diagnostics] == [Code.W_DEVELOPMENT]
    assert "INTEL_TDX_GUEST" not in {o.name for o in image.kernel.options}
    assert "tdx_guest" not in {d.name for d in wanted_modules(image)}


def test_every_known_base_has_a_kernel_and_every_feature_a_fragment_that_parses() -> None:
    assert set(DISTRIBUTION_KERNELS) == {"debian/bookworm", "debian/trixie", "ubuntu/noble", "alpine/3.20"}
    used = {feature.fragment for feature in KERNEL_FEATURES} - {""}
    assert used == {path.stem for path in FRAGMENT_FOLDER.glob("*.config")}


# command line


def cmdline(text: str) -> str:
    image, diagnostics = run(ResolveKernel(), resolved(kernel=kernel(cmdline=text)))
    assert [d for d in diagnostics if d.code is not Code.W_DEVELOPMENT] == []
    return image.kernel.cmdline_text


DEFAULTS = " ".join(argument.text for argument in DEFAULT_ARGUMENTS)


def test_default_command_line_is_fixed() -> None:
    assert cmdline("") == DEFAULTS
    assert DEFAULTS.startswith("console=tty0 console=ttyS0,115200n8 random.trust_cpu=on")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quiet", f"{DEFAULTS} quiet"),
        ("  quiet\t\nloglevel=3 ", f"{DEFAULTS} quiet loglevel=3"),
        ("console=ttyS0,115200n8 quiet", f"{DEFAULTS} quiet"),
        ("console=hvc0", f"{DEFAULTS} console=hvc0"),
        ("quiet quiet", f"{DEFAULTS} quiet"),
        ('dyndbg="file a.c +p"', f'{DEFAULTS} dyndbg="file a.c +p"'),
        ("oops=panic", DEFAULTS),
    ],
)
def test_the_recipes_words_stand_behind_the_defaults(text: str, expected: str) -> None:
    assert cmdline(text) == expected


@pytest.mark.parametrize(
    "word", ["init_on_alloc=0", "init-on-alloc=0", "vsyscall=emulate", "slab_nomerge=0", "panic=0"]
)
def test_a_word_with_a_defaults_key_replaces_it(word: str) -> None:
    words = cmdline(word).split()
    assert words[-1] == word
    assert len(words) == len(DEFAULT_ARGUMENTS)


def test_contradictory_words_are_an_error() -> None:
    ((code, place, message),) = faults(resolved(kernel=kernel(cmdline="panic=5 quiet panic=6")))
    assert (code, place) == (Code.E_CONFLICT, "recipe.py:5:1")
    assert "'panic=5'" in message
    assert "'panic=6'" in message


@pytest.mark.parametrize("text", ['a="b', "a='b'", "x\\y", "naïve=1", "a#b", "bell\x07"])
def test_words_that_do_not_survive_are_refused(text: str) -> None:
    assert faults(resolved(kernel=kernel(cmdline=text)))


def test_too_long_a_command_line_is_refused() -> None:
    assert [code for code, _, _ in faults(resolved(kernel=kernel(cmdline="x" * 2048)))] == [Code.E_LIMIT]


@pytest.mark.parametrize(
    "word", ["systemd.debug_shell", "systemd.debug-shell=1", "mitigations=off", "debugfs=on", "nokaslr"]
)
def test_words_for_debugging_are_warned_about(word: str) -> None:
    assert [code for code, _, _ in faults(resolved(kernel=kernel(cmdline=word)))] == [Code.W_DEVELOPMENT]


@pytest.mark.parametrize("word", ["systemd.debug_shell=0", "mitigations=auto", "debugfs=off", "init=/sbin/init"])
def test_harmless_words_are_not_warned_about(word: str) -> None:
    assert faults(resolved(kernel=kernel(cmdline=word))) == []


# options


def option(name: str, value: str, line: int) -> KconfigOption:
    return KconfigOption(span=at(line), name=name, value=value)


def fragment(text: str, name: str = "mine", source: str = "kernel/mine.config") -> KconfigFragment:
    return KconfigFragment(span=at(6), name=name, text=text, source=source)


def test_recipe_options_and_fragments_are_merged_in() -> None:
    image = resolve(
        resolved(
            kernel=kernel(
                config=(option("B", "y", 7), option("A", '"x"', 8)),
                fragments=(fragment("CONFIG_C=m\n# CONFIG_D is not set\nCONFIG_TSM_REPORTS=y\n"),),
            )
        )
    )
    options = {o.name: o for o in image.kernel.options}
    assert {n: options[n].value for n in ("A", "B", "C", "D", "TSM_REPORTS")} == {
        "A": '"x"',
        "B": "y",
        "C": "m",
        "D": "n",
        "TSM_REPORTS": "y",
    }
    assert str(options["D"].span) == "kernel/mine.config:2:1"
    names = [f.name for f in image.kernel.fragments]
    assert names[:2] == ["10-boot", "11-tdx"]
    assert names[-2:] == ["60-mine", "99-recipe"]
    assert image.kernel.fragments[-1].text == 'CONFIG_A="x"\nCONFIG_B=y\n'


def test_a_feature_more_renames_no_fragment() -> None:
    mine = kernel(fragments=(fragment("CONFIG_C=m\n"),), config=(option("A", "y", 7),))
    plain = {f.name: f.text for f in resolve(resolved(kernel=mine)).kernel.fragments}
    azure = resolve(resolved(kernel=mine, output_targets=(OutputTarget(span=at(13), name="azure"),)))
    more = {f.name: f.text for f in azure.kernel.fragments}
    assert more.items() > plain.items()
    assert sorted(more) == [f.name for f in azure.kernel.fragments]


def test_two_lines_that_contradict_are_shown_both() -> None:
    _, diagnostics = run(
        ResolveKernel(),
        resolved(kernel=kernel(config=(option("X", "n", 7),), fragments=(fragment("\nCONFIG_X=y\n"),))),
    )
    (diagnostic,) = diagnostics
    assert diagnostic.code is Code.E_KCONFIG
    assert {str(diagnostic.span), str(diagnostic.notes[0].span)} == {"recipe.py:7:1", "kernel/mine.config:2:1"}
    assert "'# CONFIG_X is not set'" in diagnostic.message
    assert "'CONFIG_X=y'" in diagnostic.message


def test_equal_lines_in_other_spellings_do_not_contradict() -> None:
    resolve(
        resolved(
            kernel=kernel(config=(option("X", "0xA", 7), option("Y", "n", 8)), fragments=(fragment("CONFIG_X=0xa\n"),))
        )
    )


@pytest.mark.parametrize("value", ["n", "m", '"y"'])
def test_a_line_against_what_tdx_needs_is_an_error_with_the_reason(value: str) -> None:
    _, diagnostics = run(ResolveKernel(), resolved(kernel=kernel(config=(option("INTEL_TDX_GUEST", value, 7),))))
    (diagnostic,) = diagnostics
    assert (diagnostic.code, str(diagnostic.span)) == (Code.E_KCONFIG, "recipe.py:7:1")
    assert "TDX quotes" in diagnostic.notes[0].message


def test_every_fault_is_reported_at_once() -> None:
    found = faults(
        resolved(
            kernel=kernel(
                cmdline="a='b'",
                config=(option("X", "yes", 7), option("BAD-NAME", "y", 8)),
                fragments=(fragment("nonsense\nCONFIG_Y=Y\n"),),
            )
        )
    )
    places = [place for _, place, _ in found]
    assert places == [
        "kernel/mine.config:1:1",
        "kernel/mine.config:2:10",
        "recipe.py:5:1",
        "recipe.py:7:1",
        "recipe.py:8:1",
    ]


def test_fragments_of_one_name_stay_apart() -> None:
    image = resolve(resolved(kernel=kernel(fragments=(fragment("CONFIG_A=y\n"), fragment("CONFIG_B=y\n")))))
    assert [f.name for f in image.kernel.fragments][-2:] == ["60-mine", "61-mine"]


# modules


def modules(image: ResolvedImage) -> dict[str, str]:
    return {decision.name: str(decision.span) for decision in wanted_modules(image)}


def test_modules_follow_what_the_recipe_asks_for_and_name_its_line() -> None:
    plain = modules(resolved())
    assert {"tdx_guest", "tsm", "virtio_net", "virtio_blk", "tpm_crb"} <= set(plain)
    assert not {"vsock", "nf_tables", "dm_crypt", "dm_verity", "gve", "hv_netvsc", "xfs"} & set(plain)
    rich = modules(
        resolved(
            network=Network(span=at(10), vsock=True, firewall_rules=(FirewallRuleText(span=at(11), text="DROP all"),)),
            partitions=(Partition(span=at(12), mount_point="/data", fs="xfs", size_bytes=1, verity=True),),
            output_targets=(OutputTarget(span=at(13), name="azure"), OutputTarget(span=at(14), name="gcp")),
            packages=(Package(span=at(15), name="cryptsetup/sid"), Package(span=at(16), name="iptables=1.8.11-2")),
        )
    )
    assert rich["vmw_vsock_virtio_transport"] == "recipe.py:10:1"
    assert rich["nft_ct"] == "recipe.py:11:1"
    assert rich["xfs"] == rich["dm_verity"] == "recipe.py:12:1"
    assert rich["hv_netvsc"] == "recipe.py:13:1"
    assert rich["hv_sock"] == "recipe.py:10:1"
    assert rich["gve"] == "recipe.py:14:1"
    assert rich["dm_crypt"] == "recipe.py:15:1"
    assert rich["nft_compat"] == "recipe.py:16:1"


def test_decisions_are_sorted_unique_and_reasoned() -> None:
    decisions = wanted_modules(resolved())
    names = [decision.name for decision in decisions]
    assert names == sorted(set(names))
    assert all(d.kind is DebloatKind.MODULE and d.reason and d.cause and "-" not in d.name for d in decisions)
