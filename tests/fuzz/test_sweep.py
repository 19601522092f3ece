"""The sweep ends what is stuck and nothing else, whatever its input."""

from typing import Any

from hypothesis import strategies as st

from end_conversation import sweep
from fuzz.conftest import AGE, World, fuzz
from fuzz.inputs import CANARY, anything, damaged, flow_sids, harmless
from fuzz.model import REJECTED

_inputs = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "flow_sids": st.lists(flow_sids, max_size=3),
            "older_than_minutes": st.sampled_from([0, 30, 90, 1440]) | st.integers(),
            "limit": st.integers(-1, 3) | harmless,
            "dry_run": st.booleans(),
        },
    ),
    damaged(st.fixed_dictionaries({"flow_sids": st.lists(flow_sids, max_size=3), "dry_run": anything})),
    st.fixed_dictionaries({"dry_run": st.booleans(), CANARY: anything}),
    anything,
)


@fuzz(_inputs)
def test_inputs(world: World, given: Any) -> None:
    """What it ended is what it says, in the result and in metrics; a dry run ends nothing."""
    world.renew()
    world.handler = sweep.handler
    result = world.invoke(given)
    if result.code is not None:
        assert result.code in REJECTED | {"execution_not_found"}
        assert not world.ended
        return
    flows, ended = result.answer["flows"], len(world.ended)
    stuck = sum(flow["stuck"] for flow in flows)
    assert sum(flow["ended"] for flow in flows) == ended <= (given.get("limit") or ended)
    assert not (ended and given.get("dry_run"))
    minutes = given.get("older_than_minutes")
    assert not ended or (minutes is not None and minutes * 60 <= AGE.total_seconds())
    all_listed = not any("error" in flow for flow in flows)
    assert result.answer["complete"] == (all_listed and (bool(given.get("dry_run")) or ended == stuck))
    metrics = world.function.metrics
    assert metrics.get("ExecutionsEnded", 0) == ended
    assert metrics.get("StuckExecutions", 0) == (0 if given.get("dry_run") else stuck)
