"""Policy evaluation: a pure function from an image and the way it is about to be baked to diagnostics."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import MutableRefPolicy, NetworkMode, Node, Policy, ResolvedImage
from tdxc.ir.marks import development_reasons

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A full commit of git: a branch, a tag or the beginning of a commit can come to mean something else."""


@records.frozen
class Invocation:
    """How a bake was asked for: ``frozen`` with a lockfile that fits, ``cached_only`` without any network."""

    frozen: bool
    cached_only: bool = False


def evaluate_compile(image: ResolvedImage) -> tuple[Diagnostic, ...]:
    """What the policy says about the image itself: mutable references and missing integrity."""
    return (*_mutable(image), *_unverified(image), *_networked(image))


def evaluate_bake(image: ResolvedImage, invocation: Invocation) -> tuple[Diagnostic, ...]:
    """What the policy says about this bake, on top of :func:`evaluate_compile`."""
    found = list(evaluate_compile(image))
    policy = image.policy
    if policy.require_frozen_lock and not invocation.frozen:
        found.append(
            _violation(
                policy, "require_frozen_lock", "the bake is not frozen", policy, "bake with frozen=True (--frozen)"
            )
        )
    if policy.network_mode is NetworkMode.OFFLINE and not invocation.cached_only:
        found.append(
            _violation(
                policy,
                "network_mode='offline'",
                "the bake may use the network",
                policy,
                "bake with --offline, which uses only packages already in the cache",
            )
        )
    return (*found, *_development(image))


def _development(image: ResolvedImage) -> Iterator[Diagnostic]:
    """What has no place in production."""
    if not image.policy.production:
        return
    node = image.development or image.ssh or image.quote_service or image
    for reason in development_reasons(image):
        what = f"the image is for development: {reason}"
        yield _violation(image.policy, "production", what, node, "bake without that profile, or without the policy")


def _mutable(image: ResolvedImage) -> Iterator[Diagnostic]:
    """References whose content can change under the same name."""
    rule = image.policy.mutable_ref_policy
    said = image.policy.span != image.span
    if rule is MutableRefPolicy.ALLOW and said:
        return
    # Without a policy, a changing mirror is what everybody has; a branch is what somebody wrote down.
    packages = _mutable_packages(image) if said else ()
    for node, what, fix in (*packages, *_mutable_builds(image)):
        if rule is MutableRefPolicy.ERROR:
            yield _violation(image.policy, "mutable_ref_policy='error'", what, node, fix)
        else:
            yield Diagnostic(code=Code.W_MUTABLE_REF, message=what, span=node.span, fix=fix)


def _mutable_packages(image: ResolvedImage) -> Iterator[tuple[Node, str, str]]:
    if not image.snapshot:
        where = f"mirror '{image.mirror}'" if image.mirror else "the distribution's mirror"
        yield image, f"packages come from {where}, which changes from day to day", "set snapshot= to a point in time"
    for repository in image.repositories:
        yield (
            repository,
            f"repository '{repository.name}' has no snapshot: its packages can change under the same name",
            "point it at a snapshot of the repository, or accept it with mutable_ref_policy='allow'",
        )


def _networked(image: ResolvedImage) -> Iterator[Diagnostic]:
    """Builds that no bake without the network can run; others only need it where they are not in the cache."""
    if image.policy.network_mode is not NetworkMode.OFFLINE:
        return
    for build in image.builds:
        if build.network:
            what = f"build '{build.name}' has the network while it compiles"
            yield _violation(image.policy, "network_mode='offline'", what, build, "leave network=True out")


def _mutable_builds(image: ResolvedImage) -> Iterator[tuple[Node, str, str]]:
    for build in image.builds:
        if build.source.git and not _COMMIT.fullmatch(build.source.rev):
            what = f"build '{build.name}' is made of '{build.source.rev}' of {build.source.git}, which can change"
            yield build, what, f"write the full commit that `git ls-remote {build.source.git}` shows: rev=…"
        if build.network:
            what = f"build '{build.name}' has the network while it compiles, and what it fetches can change"
            yield build, what, "leave network=True out, and fetch by a lock file"


def _unverified(image: ResolvedImage) -> Iterator[Diagnostic]:
    """Inputs that nothing verifies."""
    if not image.policy.require_integrity:
        return
    rule = "require_integrity"
    for build in image.builds:
        if build.source.git and not _COMMIT.fullmatch(build.source.rev):
            what = f"nothing verifies what build '{build.name}' gets by the name '{build.source.rev}'"
            yield _violation(image.policy, rule, what, build, "write the full commit: rev=…")
        if build.network:
            what = f"nothing verifies what build '{build.name}' fetches while it compiles"
            yield _violation(image.policy, rule, what, build, "leave network=True out")
    for repository in image.repositories:
        if repository.key is None:
            what = f"repository '{repository.name}' has no key, so nothing verifies its packages"
            yield _violation(image.policy, rule, what, repository, "give key= the repository's public key file")
    if image.efi_stub is not None and not image.efi_stub.sha256:
        what = f"EFI stub {image.efi_stub.version} has no SHA-256"
        yield _violation(image.policy, rule, what, image.efi_stub, "give efi_stub(sha256=…)")


def _violation(policy: Policy, rule: str, what: str, node: Node, fix: str) -> Diagnostic:
    place = policy.span_of(rule.partition("=")[0])
    span = place if node is policy else node.span
    return Diagnostic(
        code=Code.E_POLICY,
        message=f"policy {rule}: {what}",
        span=span,
        notes=(Note(message="the rule is set here", span=place),) if place != span else (),
        fix=fix,
    )
