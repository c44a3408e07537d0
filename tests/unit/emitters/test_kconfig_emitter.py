import os
import subprocess
from pathlib import Path

import attrs
import pytest
from support.authored import at, resolved, run
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.grammar import parse_kconfig
from tdxc.ir import KconfigFragment, KconfigOption, Kernel, ResolvedImage
from tdxc.passes.kernel_options import merge_options
from tdxc.passes.resolve_kernel import ResolveKernel
from tdxc_emitters.kconfig import KconfigEmitter, check_script

STRING = '"it\'s $HOME `id` \\"q\\" \\\\ %s \\t\t  é"'


def image(*options: KconfigOption, fragments: tuple[KconfigFragment, ...] = ()) -> ResolvedImage:
    kernel = Kernel(span=at(2), config=options, fragments=fragments)
    after, diagnostics = run(ResolveKernel(), resolved(kernel=kernel))
    assert diagnostics == ()
    return after


def option(name: str, value: str) -> KconfigOption:
    return KconfigOption(span=at(3), name=name, value=value)


def test_config_is_sorted_and_reads_back_as_the_merged_options() -> None:
    source = image(option("ZZ", STRING), option("AA", "n"))
    text = KconfigEmitter().emit(source).text("kernel/config")
    assert parse_kconfig(text) == source.kernel.options
    assert text.endswith("\n")


def test_fragments_are_numbered_in_merge_order_and_merge_to_the_config() -> None:
    mine = KconfigFragment(span=at(4), name="mine", text="CONFIG_MINE=y")
    source = image(option("AA", "12"), fragments=(mine,))
    tree = KconfigEmitter().emit(source)
    paths = [path for path in tree if path.startswith("kernel/fragments/")]
    assert paths[0] == "kernel/fragments/10-boot.config"
    assert paths[-2].endswith("-mine.config")
    assert paths[-1].endswith("-recipe.config")
    assert tree.text(paths[-2]) == "CONFIG_MINE=y\n"
    assert merge_options(*(parse_kconfig(tree.text(path)) for path in paths)) == source.kernel.options


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-x", "ä"])
def test_a_fragment_name_that_cannot_be_a_file_is_an_error_with_its_place(name: str) -> None:
    source = image()
    bad = KconfigFragment(span=at(9), name=name, text="")
    source = attrs.evolve(source, kernel=attrs.evolve(source.kernel, fragments=(bad,)))
    with pytest.raises(DiagnosticError) as raised:
        KconfigEmitter().emit(source)
    assert raised.value.diagnostics[0].code is Code.E_EMIT
    assert raised.value.diagnostics[0].span == at(9)


def write_config(root: Path, options: dict[str, str], name: str = "config-6.12-test") -> None:
    (root / "boot").mkdir(exist_ok=True)
    lines = [f"CONFIG_{n}={v}\n" if v != "n" else f"# CONFIG_{n} is not set\n" for n, v in options.items()]
    (root / "boot" / name).write_text("#\n# Linux/x86 6.12 Kernel Configuration\n#\n" + "".join(lines))


def check(source: ResolvedImage, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", check_script(source)],
        env={"BUILDROOT": str(root), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )


def packaged(source: ResolvedImage, **changes: str) -> dict[str, str]:
    return {o.name: o.value for o in source.kernel.options} | changes


def test_script_passes_where_everything_holds(tmp_path: Path) -> None:
    source = image(option("AA", STRING), option("OFF", "n"), option("GONE", "n"), option("HEX", "0xFF"))
    options = packaged(source, TSM_REPORTS="y")
    del options["GONE"]
    write_config(tmp_path, options)
    done = check(source, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("INTEL_TDX_GUEST", "n", "CONFIG_INTEL_TDX_GUEST=n, but y is required: kernel feature 'tdx'"),
        ("INTEL_TDX_GUEST", "m", "CONFIG_INTEL_TDX_GUEST=m, but y is required"),
        ("TSM_REPORTS", "n", "CONFIG_TSM_REPORTS=n, but m is required"),
        ("OFF", "m", "CONFIG_OFF=m, but n is required: the recipe asks for it"),
        ("AA", '"other"', 'CONFIG_AA="other", but "x" is required'),
    ],
)
def test_script_names_what_does_not_hold(tmp_path: Path, name: str, value: str, message: str) -> None:
    source = image(option("AA", '"x"'), option("OFF", "n"))
    write_config(tmp_path, packaged(source, **{name: value}))
    done = check(source, tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_script_checks_every_kernel_and_names_each_fault(tmp_path: Path) -> None:
    source = image()
    write_config(tmp_path, packaged(source))
    write_config(tmp_path, packaged(source, EFI="n", TMPFS="n"), name="config-6.1-old")
    done = check(source, tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert all("/boot/config-6.1-old has" in line for line in done.stderr.splitlines())


def test_script_fails_where_there_is_no_kernel(tmp_path: Path) -> None:
    done = check(image(), tmp_path)
    assert done.returncode == 1
    assert "is a kernel package installed" in done.stderr


def test_script_passes_shellcheck(tmp_path: Path) -> None:
    script = tmp_path / "check.sh"
    script.write_text(check_script(image(option("AA", STRING))))
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
