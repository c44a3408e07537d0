"""validate: facts between nodes of the recipe, over the image itself and over the image with each of its profiles.

Frontends check each argument as it is given; here stands what only the whole recipe shows. Modules are expanded
before, so that what they declare is held to the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import KNOWN_BASES, POLICY_RULES, AuthoredImage, Base, Layer, Policy, Profile, is_looser
from tdxc.passes.base import PassContext
from tdxc.passes.check_destinations import check_clashes, check_paths, destinations
from tdxc.passes.check_names import check_references, check_repeated, check_suites
from tdxc.passes.check_values import check_values
from tdxc.passes.lower_image import merged_layer


class Validate:
    """Report every contradiction and every dangling reference; changes nothing."""

    name: ClassVar[str] = "validate"
    description: ClassVar[str] = "check names, references, destinations and values over the image and each profile"
    requires: ClassVar[frozenset[str]] = frozenset({"expand-modules"})
    establishes: ClassVar[frozenset[str]] = frozenset({"validate"})

    def run(self, image: AuthoredImage, ctx: PassContext) -> AuthoredImage:
        """The image as it is."""
        ctx.sink.extend(_check_base(image))
        ctx.sink.extend(_check_profile_names(image))
        ctx.sink.extend(_check_layer(image.layer, image.base))
        ctx.sink.extend(check_merged(image.base, merged_layer(image, ())))
        for profile in image.profiles:
            ctx.sink.extend(_check_layer(profile.layer, image.base))
            ctx.sink.extend(_check_policy(image.layer.policy, profile))
            ctx.sink.extend(check_merged(image.base, merged_layer(image, (profile.name,)), profile.layer))
        return image


def check_merged(base: Base, layer: Layer, added: Layer | None = None) -> Iterator[Diagnostic]:
    """What must hold of one variant: the image's layer, alone or with the layers of chosen profiles over it.

    ``added`` is what has not been checked yet, where the rest has.
    """
    yield from check_repeated(layer)
    yield from check_references(added or layer, layer)
    yield from check_suites(base, added or layer, layer)
    if added is None or any(True for _ in destinations(added)):
        yield from check_clashes(destinations(layer), base)
    yield from _check_firmware(layer)
    if layer.builds:
        from tdxc.passes.check_artifacts import check_artifact_owners

        yield from check_artifact_owners(layer, base)


def _check_layer(layer: Layer, base: Base) -> Iterator[Diagnostic]:
    yield from check_paths(layer)
    yield from check_values(layer)
    if layer.services or layer.units or layer.drop_ins:
        from tdxc.passes.check_units import check_units

        yield from check_units(layer)
    if layer.builds:
        from tdxc.passes.nested_builds import check_nested_order

        yield from check_nested_order(layer, base)


def _check_firmware(layer: Layer) -> Iterator[Diagnostic]:
    """A cloud has firmware of its own."""
    targets = [target.name for target in layer.output_targets]
    if layer.firmware is not None and layer.firmware.content is not None and targets and "qemu" not in targets:
        yield Diagnostic(
            code=Code.E_UNSUPPORTED,
            message=f"firmware '{layer.firmware.value}' is for QEMU, and the image is made for {', '.join(targets)}",
            span=layer.firmware.span,
            fix="leave it out, or add output_targets('qemu')",
        )


def _check_policy(base: Policy | None, profile: Profile) -> Iterator[Diagnostic]:
    """A profile tightens the image's policy, or leaves it: otherwise any profile would be a way around it."""
    own = profile.layer.policy
    for rule in POLICY_RULES if base and own else ():
        if base and own and is_looser(rule, base, own):
            yield Diagnostic(
                code=Code.E_POLICY,
                message=f"policy {rule}: profile '{profile.name}' sets {_shown(own, rule)}, which is looser than the"
                f" image's {_shown(base, rule)}",
                span=own.span_of(rule),
                notes=(Note(message="the image's rule is set here", span=base.span_of(rule)),),
                fix=f"leave {rule} out there, or move the stricter rule into the profiles that need it",
            )


def _shown(policy: Policy, rule: str) -> str:
    value = getattr(policy, rule)
    return str(value) if isinstance(value, bool) else f"'{value.value}'"


def _check_base(image: AuthoredImage) -> Iterator[Diagnostic]:
    known = [base.reference for base in KNOWN_BASES]
    if image.base.reference not in known:
        yield Diagnostic(
            code=Code.E_REFERENCE,
            message=f"the base '{image.base.reference}' is not known",
            span=image.base.span,
            fix=f"write one of {', '.join(known)}",
        )


def _check_profile_names(image: AuthoredImage) -> Iterator[Diagnostic]:
    first: set[str] = set()
    for profile in image.profiles:
        if profile.name in first:
            yield Diagnostic(
                code=Code.E_CONFLICT,
                message=f"profile '{profile.name}' is declared twice",
                span=profile.span,
                notes=(Note(message="a profile's declarations stand in one place of the image"),),
            )
        first.add(profile.name)
