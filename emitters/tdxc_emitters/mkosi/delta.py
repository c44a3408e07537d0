"""What a profile adds to the base: the difference of two projects as a project.

mkosi lays a profile over the base in a fixed way: scalars are replaced, lists grow, scripts run after the base's, files
are copied over the base's. Rules add up in our own scripts. What a variant lacks is expressed where mkosi can express
it (``RemoveFiles=``, a list that starts anew); what it cannot is E_EMIT.
"""

from __future__ import annotations

from collections.abc import Iterator

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.tree import Entry, FileTree, Origin, TreeDirectory, TreeFile

from tdxc_emitters.mkosi.project import EXTRA, SANDBOX, MkosiProject, MkosiSetting, PhaseScript, Rule

_GLOB = set("*?[]")


def delta(base: MkosiProject, variant: MkosiProject, *, profile: str) -> MkosiProject:
    """The layer that makes ``variant`` of ``base``. Raises E_EMIT for what mkosi cannot compose."""
    settings = tuple(_settings(base, variant))
    removed = tuple(_removed_files(base, variant, profile))
    if removed:
        cause = Origin(span=SourceSpan(), cause=f"the profile '{profile}' has no use for these")
        settings += (MkosiSetting(section="Content", key="RemoveFiles", values=removed, is_list=True, origin=cause),)
    return MkosiProject(
        name=variant.name,
        settings=settings,
        scripts=tuple(_scripts(base, variant, profile)),
        rules=tuple(_rules(base, variant, profile)),
        files=FileTree(dict(_files(base, variant))),
    )


def _settings(base: MkosiProject, variant: MkosiProject) -> Iterator[MkosiSetting]:
    for setting in variant.settings:
        below = base.setting(setting.key)
        if below is None:
            yield setting
        elif not setting.is_list:
            if setting.values != below.values:
                yield setting
        elif (added := _added(below, setting)) is not None:
            if added:
                yield records.evolve(setting, values=added)
        else:
            yield records.evolve(setting, reset=True)
    for setting in base.settings:
        if variant.setting(setting.key) is None:
            yield records.evolve(setting, values=() if setting.is_list else ("",), reset=setting.is_list)


def _added(below: MkosiSetting, above: MkosiSetting) -> tuple[str, ...] | None:
    """The items to append, or None where the list has to start anew."""
    if above.keeps_order:
        count = len(below.values)
        return above.values[count:] if above.values[:count] == below.values else None
    if set(below.values) - set(above.values):
        return None
    return tuple(value for value in above.values if value not in below.values)


def _scripts(base: MkosiProject, variant: MkosiProject, profile: str) -> Iterator[PhaseScript]:
    known = {(script.phase, script.rank, script.what): script for script in base.scripts}
    for script in variant.scripts:
        below = known.pop((script.phase, script.rank, script.what), None)
        if below is None or (script.adds_up and below != script):
            yield script
        elif below != script:
            raise DiagnosticError.of(
                Code.E_EMIT,
                f"profile '{profile}' changes the {script.phase.value} script '{script.what}' of the image,"
                " and mkosi runs both",
                script.origin.span if script.origin else SourceSpan(),
                fix="give the profile's script another name, or compile this variant alone: --profile " + profile,
            )
    for script in known.values():
        if script.turned_off_by:
            continue
        raise DiagnosticError.of(
            Code.E_EMIT,
            f"profile '{profile}' leaves out the {script.phase.value} script '{script.what}' of the image,"
            " which mkosi cannot express",
            script.origin.span if script.origin else SourceSpan(),
            fix=f"compile this variant alone: --profile {profile}",
        )


def _rules(base: MkosiProject, variant: MkosiProject, profile: str) -> Iterator[Rule]:
    """What the profile adds to the lists; a rule that the variant lacks is undone where that can be said."""
    known, wanted = {_words(rule) for rule in base.rules}, {_words(rule) for rule in variant.rules}
    yield from (rule for rule in variant.rules if _words(rule) not in known)
    switches = {script.turned_off_by for script in base.scripts} - {script.turned_off_by for script in variant.scripts}
    yield from (Rule(list=switch, line="off") for switch in sorted(switches))
    spoken_of = {(rule.list, _path_of(rule)) for rule in variant.rules}
    for rule in base.rules:
        if _words(rule) in wanted or rule.list.startswith("keep-") or (rule.list, _path_of(rule)) in spoken_of:
            continue
        if switches and rule.list.startswith("remove-"):
            continue
        entry = variant.files.entries.get(f"{EXTRA}{_path_of(rule)}")
        if rule.list == "modes" and isinstance(entry, TreeFile):
            yield records.evolve(rule, line=f"{'0755' if entry.executable else '0644'} {_path_of(rule)}")
        elif rule.list == "owners" and isinstance(entry, TreeFile):
            yield records.evolve(rule, line=f"root root {_path_of(rule)}")
        elif rule.list != "modes":
            raise DiagnosticError.of(
                Code.E_EMIT,
                f"profile '{profile}' takes '{rule.line}' out of rules/{rule.list}, which cannot be composed",
                rule.origin.span if rule.origin else SourceSpan(),
                fix=f"compile this variant alone: --profile {profile}",
            )


def _words(rule: Rule) -> tuple[str, str]:
    """The rule itself, wherever it stems from."""
    return rule.list, rule.line


def _path_of(rule: Rule) -> str:
    """The path that a rule of modes, owners or directories speaks of; other rules speak of their whole line."""
    found = rule.line.find(" /")
    return rule.line[found + 1 :] if rule.list in {"modes", "owners", "artifacts", "directories"} else rule.line


def _files(base: MkosiProject, variant: MkosiProject) -> Iterator[tuple[str, Entry]]:
    for path, entry in variant.files.entries.items():
        if base.files.entries.get(path) != entry:
            yield path, entry


def _removed_files(base: MkosiProject, variant: MkosiProject, profile: str) -> Iterator[str]:
    """Files of the base's extra tree that the variant lacks, as mkosi's ``RemoveFiles=`` names them."""
    for path, entry in base.files.entries.items():
        if path in variant.files or isinstance(entry, TreeDirectory):
            continue
        span = entry.origin.span if entry.origin else SourceSpan()
        if path.startswith(f"{EXTRA}/") and not _GLOB & set(path):
            yield quoting.mkosi_item(path.removeprefix(EXTRA), ",", span=span, what="path")
        elif path.startswith((f"{EXTRA}/", f"{SANDBOX}/")):
            raise DiagnosticError.of(
                Code.E_EMIT,
                f"profile '{profile}' leaves out '{path}' of the image, which mkosi cannot express",
                span,
                fix=f"compile this variant alone: --profile {profile}",
            )
