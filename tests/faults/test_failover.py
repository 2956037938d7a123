"""What is not promised: a replica that takes over may not have heard of the last writes. What is lost then, and how it comes back."""

import pytest
from farm import midi
from farms import FaultyFarm
from scenario import TIMEOUT_S
from services import wait_until

from pianofarm import Farm
from pianofarm.reconcile import reconcile
from pianofarm_common.errors import NotFound


def test_what_a_replica_did_not_hear_of_is_lost_and_finished_audio_comes_back(farm: FaultyFarm) -> None:
    farm.ready()
    replica, line = farm.start_replica()
    with Farm(farm.settings) as client:
        ledger = client.services.ledger
        line.cut()
        finished = client.submit(midi(60, 61, seconds=0.13))
        made = finished.result(timeout_s=TIMEOUT_S).info
        with farm.scenario() as scenario:
            scenario.faults.arm("claimed", "wait")
            accepted = client.submit(midi(60, 62, seconds=0.13))
            scenario.taken("claimed")
            farm.promote(replica, line)
            for job in (finished, accepted):
                with pytest.raises(NotFound):
                    ledger.job(job.id)

            # The worker that still holds a render which nobody knows any more cannot commit it.
            again = client.submit(midi(60, 62, seconds=0.13))
            assert (again.key, again.cached) == (accepted.key, False)
            scenario.faults.let_go("claimed")
            again.result(timeout_s=TIMEOUT_S)
            wait_until(
                lambda: scenario.happened("committed", outcome="ok", key=accepted.key) == 1, "committed", TIMEOUT_S
            )
            # More than two claims where the machine is so busy that a lease lapses for nothing.
            first, *others = [entry["token"] for entry in scenario.history() if entry["kind"] == "claimed"]
            assert others
            assert scenario.happened("committed", outcome="ok", token=first) == 0

        assert reconcile(ledger, client.services.store).n_adopted >= 1
        repeated = client.submit(midi(60, 61, seconds=0.13))
        assert repeated.cached
        assert repeated.result().info.audio_sha256 == made.audio_sha256
