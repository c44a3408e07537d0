"""MkosiProject: what a mkosi tree consists of, as data, before any of it is text in a file.

Two projects can be compared (:mod:`tdxc_emitters.mkosi.delta`), which is how a profile becomes a layer over the base.

Sources: mkosi(1) of 25.3 and 27.1, "Configuration Settings" (sections), "Scripts" (phases), "Building multiple images"
and the search for ``mkosi.profiles/NAME/`` with the same names of files and folders as the top level.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from tdxc import records
from tdxc.ir import Node
from tdxc.tree import FileTree, Origin

EXTRA = "mkosi.extra"
"""Copied over the root file system after the packages are installed."""

SANDBOX = "mkosi.sandbox"
"""Copied into the sandbox in which mkosi runs apt and every other tool."""

SCRIPTS = "scripts"
RULES = "rules"
"""Lists that our scripts read at the top level and in every chosen profile, so that layers compose."""


class Phase(enum.StrEnum):
    """When mkosi runs a script, in the order in which the phases pass."""

    SYNC = "sync"
    PREPARE = "prepare"
    BUILD = "build"
    POSTINST = "postinst"
    FINALIZE = "finalize"
    POSTOUTPUT = "postoutput"

    @property
    def setting(self) -> str:
        """The list setting that names the phase's scripts."""
        return _PHASE_SETTINGS[self]


_PHASE_SETTINGS = {
    Phase.SYNC: "SyncScripts",
    Phase.PREPARE: "PrepareScripts",
    Phase.BUILD: "BuildScripts",
    Phase.POSTINST: "PostInstallationScripts",
    Phase.FINALIZE: "FinalizeScripts",
    Phase.POSTOUTPUT: "PostOutputScripts",
}


@records.frozen(kw_only=True)
class MkosiSetting:
    """One setting. ``values`` are texts as they stand in the file; a scalar has exactly one.

    In a list that ``keeps_order`` (the kernel command line), items may only be added at the end. ``reset`` empties a
    list before the values are added (an empty assignment, mkosi(1)).
    """

    section: str
    key: str
    values: tuple[str, ...]
    is_list: bool = False
    keeps_order: bool = False
    reset: bool = False
    origin: Origin | None = records.field(default=None, eq=False)


@records.frozen(kw_only=True)
class PhaseScript:
    """A script of one phase. ``rank`` orders it within the phase and begins its file name.

    ``body`` is shell text without the head that every script has; ``inside`` runs it in the image rather than beside
    it. Where the body reads ``$layer``, that is the folder of the tree or profile that the script belongs to, and
    ``attachments`` are files below it. ``shell`` is ``bash`` except where an image has only ``sh``. A script that
    ``adds_up`` may differ in a profile: both run. A rule in the list ``turned_off_by``, which the script looks for,
    lets a profile do without it.
    """

    phase: Phase
    rank: int
    what: str
    purpose: str
    body: str
    inside: bool = False
    shell: str = "bash"
    adds_up: bool = False
    turned_off_by: str = ""
    attachments: FileTree = records.field(factory=FileTree)
    origin: Origin | None = records.field(default=None, eq=False)

    @property
    def path(self) -> str:
        """Where the script stands, relative to its layer."""
        return f"{SCRIPTS}/{self.rank:02}-{self.phase.value}-{self.what}.sh"

    @property
    def uses_layer(self) -> bool:
        """Whether the body needs to know its layer."""
        return "$layer" in self.body or "${layer}" in self.body


@records.frozen
class Rule:
    """One line of ``rules/LIST``."""

    list: str
    line: str
    origin: Origin | None = None


@records.frozen(kw_only=True)
class MkosiProject:
    """Everything of one layer: settings in the order of the file, scripts, rules, and files that are copied as are."""

    name: str
    settings: tuple[MkosiSetting, ...] = ()
    scripts: tuple[PhaseScript, ...] = ()
    rules: tuple[Rule, ...] = ()
    files: FileTree = records.field(factory=FileTree)

    def setting(self, key: str) -> MkosiSetting | None:
        """The setting of that key, if the layer has it."""
        return next((setting for setting in self.settings if setting.key == key), None)

    def ordered_scripts(self) -> Iterator[PhaseScript]:
        """Scripts by phase and rank; equal ranks keep the order in which they were added."""
        for phase in Phase:
            yield from sorted((s for s in self.scripts if s.phase is phase), key=lambda script: script.rank)


def origin_of(node: Node, cause: str = "") -> Origin:
    """The origin of what a node makes: its line, and its own cause or else the one given."""
    return Origin(span=node.span, cause=node.cause or cause)
