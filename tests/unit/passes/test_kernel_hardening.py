"""The recommendations: each is met, or left out for a reason."""

from support.authored import at, resolved, run
from tdxc.ir import KconfigOption, Kernel, ResolvedKernel
from tdxc.passes.kernel_hardening import hardening_verdicts, recommendations, summary
from tdxc.passes.resolve_kernel import ResolveKernel


def kernel(*config: KconfigOption) -> ResolvedKernel:
    image = resolved(kernel=Kernel(span=at(5), version="6.12", config=config))
    return run(ResolveKernel(), image)[0].kernel


def test_every_recommendation_is_met_or_left_out_for_a_reason() -> None:
    for recommendation, state, reason in hardening_verdicts(kernel()):
        assert state in {"met", "left out"}, recommendation
        assert reason
        assert (state == "left out") == bool(recommendation.left_out), recommendation


def test_each_option_is_recommended_once() -> None:
    options = [recommendation.option for recommendation in recommendations()]
    assert len(options) == len(set(options)) > 100


def test_what_the_recipe_gives_up_is_told() -> None:
    verdicts = hardening_verdicts(kernel(KconfigOption(span=at(6), name="IO_URING", value="y")))
    (given_up,) = [verdict for verdict in verdicts if verdict.state == "given up"]
    assert given_up.recommendation.option == "IO_URING"
    assert "the recipe sets it to y" in given_up.reason
    assert "1 given up" in summary(verdicts)


def test_what_the_recipe_adds_is_met() -> None:
    verdicts = hardening_verdicts(kernel(KconfigOption(span=at(6), name="INIT_ON_FREE_DEFAULT_ON", value="y")))
    assert [v.state for v in verdicts if v.recommendation.option == "INIT_ON_FREE_DEFAULT_ON"] == ["met"]
