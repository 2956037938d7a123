"""A farm client that counts what it submits, for producers that are watched by Prometheus themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pianofarm.client import Farm
from pianofarm.handles import Batch
from pianofarm.submission import MidiSource, Options, Submission
from pianofarm_common.metrics import CLASSES, ERRORS, ClientMetrics, one_of
from pianofarm_common.renders import PriorityClass
from pianofarm_common.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class MeteredFarm(Farm):
    """A `Farm` with metrics: `MeteredFarm(Settings.load(), prometheus_client.REGISTRY)`."""

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        """Args: registry: the producer's own; one metered farm a registry."""
        super().__init__(settings)
        self._metrics = ClientMetrics(registry)

    def submit_many(
        self,
        sources: Iterable[MidiSource | Submission],
        *,
        model: str | None = None,
        options: Options = None,
        priority: PriorityClass | str = PriorityClass.BULK,
        owner: str = "",
        batch: str | None = None,
    ) -> Batch:
        """As `Farm.submit_many`; `Farm.submit` comes through here as well."""
        metrics = self._metrics
        try:
            with metrics.submit_s.time():
                made = super().submit_many(
                    sources, model=model, options=options, priority=priority, owner=owner, batch=batch
                )
        except Exception as error:
            metrics.failed.labels(one_of(type(error).__name__, ERRORS)).inc()
            raise
        # Of the call, not of each item: a submission with a class of its own is rare and counts with the others.
        name = one_of(str(priority), CLASSES)
        n_cached = sum(job.cached for job in made.jobs)
        metrics.submitted.labels(name, "yes").inc(n_cached)
        metrics.submitted.labels(name, "no").inc(len(made.jobs) - n_cached)
        for item in made.rejected:
            metrics.rejected.labels(one_of(type(item.error).__name__, ERRORS)).inc()
        return made
