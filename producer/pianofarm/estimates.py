"""What a submission will take, asked of the farm before anything is sent: its queue, its workers, its measured speed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pianofarm.client import Farm
from pianofarm.cost import Estimate, estimate
from pianofarm.models import check_options
from pianofarm.submission import MidiSource, Options, Rejected, Submission, parse_options, parse_priority
from pianofarm_common.errors import NotFound, Permanent
from pianofarm_common.ledger import Depth
from pianofarm_common.ledger.census import CensusTaker
from pianofarm_common.models import find_model
from pianofarm_common.precision import engine_for
from pianofarm_common.queue import CLASSES
from pianofarm_common.renders import PriorityClass, RenderKey, RenderOptions, RenderSpec, State
from pianofarm_common.speedometer import Speedometer


def ahead_s(depths: Mapping[PriorityClass, Depth], priority: PriorityClass) -> float:
    """Audio served before a render submitted now: what waits in its class and in more urgent ones, what runs in all."""
    more_urgent = CLASSES[: CLASSES.index(priority) + 1]
    return sum(
        (depth.queued_audio_s if name in more_urgent else 0.0) + depth.running_audio_s for name, depth in depths.items()
    )


def estimate_submission(
    farm: Farm,
    sources: Iterable[MidiSource | Submission],
    *,
    model: str | None = None,
    options: Options = None,
    priority: PriorityClass | str = PriorityClass.BULK,
) -> tuple[Estimate, list[Rejected]]:
    """Estimate what `Farm.submit_many` of the same arguments will take; sends and stores nothing.

    Before the farm has made anything the setting `assumed_speed` counts as its speed; the price is that of `worker_price_per_h`.

    Raises:
        BadOption, UnknownModel, BadModel: of the arguments of this call.
        ServiceUnavailable, BadSettings: Redis does not answer or refuses us.
    """
    settings, ledger = farm.settings, farm.services.ledger
    asked, common = parse_priority(priority), parse_options(options)
    check_options(find_model(model or settings.model, settings.state_dir), common)
    specs: dict[RenderKey, RenderSpec] = {}
    rejected: list[Rejected] = []
    for source in sources:
        item = source if isinstance(source, Submission) else Submission(source)
        try:
            spec = _spec(farm, item, model or settings.model, common)
        except Permanent as error:
            rejected.append(Rejected.of(item, error))
            continue
        specs[spec.key] = spec
    missing = [spec.audio_s for key, spec in specs.items() if not _is_done(farm, key)]

    taker = CensusTaker.from_settings(settings)
    try:
        speedometer = Speedometer(settings.assumed_speed)
        speedometer.remember(ledger, taker)
        depths = {name: counted.depth for name, counted in taker.take().classes.items()}
    finally:
        taker.close()
    expected = estimate(
        missing,
        cached=len(specs) - len(missing),
        ahead_s=ahead_s(depths, asked),
        workers=len(ledger.workers()),
        speed=speedometer.speed(),
        price_per_worker_h=settings.worker_price_per_h,
    )
    return expected, rejected


def _spec(farm: Farm, item: Submission, model: str, common: RenderOptions) -> RenderSpec:
    _, performance = farm.read(item.source)
    options = common if item.options is None else parse_options(item.options)
    info = find_model(item.model or model, farm.settings.state_dir)
    check_options(info, options)
    return RenderSpec(
        performance_sha256=performance.sha256,
        model_digest=info.digest,
        model_name=info.name,
        options=options,
        engine=engine_for(info.architecture, farm.settings.precision),
        audio_s=min(performance.duration_s, options.duration_s or performance.duration_s),
    )


def _is_done(farm: Farm, key: RenderKey) -> bool:
    try:
        return farm.services.ledger.render(key).state is State.DONE
    except NotFound:
        return False
