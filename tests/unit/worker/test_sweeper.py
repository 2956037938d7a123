"""When the sweeper looks again."""

from math import inf

import pytest

from pianofarm_worker.sweeper import LAPSED_S, next_pause_s


@pytest.mark.parametrize(
    ("spent_s", "lapse_in_s", "pause_s"),
    [
        (0.1, inf, 0.9),  # nobody has a lease
        (0.1, 12.0, 0.9),  # all leases will be renewed before
        (0.1, 0.3, 0.3 + LAPSED_S),  # somebody died, and his render is taken away when it may be
        (0.1, -0.03, LAPSED_S),  # it lapsed between the sweep and the question when it would
        (0.1, -0.2, 0.9),  # nobody may take it away now
        (30.0, inf, 0.5),  # a Redis that is slow already is not asked all the time
    ],
)
def test_the_next_sweep_is_due_after_the_interval_or_when_a_lease_lapses(
    spent_s: float, lapse_in_s: float, pause_s: float
) -> None:
    assert next_pause_s(1.0, spent_s, lapse_in_s) == pytest.approx(pause_s)
