"""What music costs: prices of machines and measured speeds become prices of audio, and a queue becomes a time. Asks no service.

Throughput is always audio seconds per second of a worker. (Price per hour divided by requests per second, as one sometimes
reads, is wrong by a factor of 3,600 and says nothing of how long a request is.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pianofarm.prices import HOURS_PER_YEAR, Machine, PriceTable


@dataclass(frozen=True)
class Offer:
    """One way to have audio made. Money in the table's currency, per hour of audio unless said otherwise."""

    machine: Machine
    kind: str  #: "on demand", "spot" or "own"
    speed: float  #: audio seconds per second, whole machine, repeated work already taken off
    per_audio_h: float
    per_1000_pieces: float

    @property
    def audio_h_per_year(self) -> float:
        """What it makes if it never rests."""
        return self.speed * HOURS_PER_YEAR


def offers(
    table: PriceTable,
    speeds: Mapping[str, float],
    *,
    piece_s: float,
    utilization: float,
    audio_bytes_per_s: float = 0.0,
) -> list[Offer]:
    """Every machine whose speed is known, cheapest first.

    Args:
        table: prices.
        speeds: device -> audio seconds that one worker makes in a second, as measured on it.
        piece_s: length of a piece, for the price of 1,000 pieces.
        utilization: part of the paid time with work in hand, 0..1; what is left is start-up, waiting and night.
        audio_bytes_per_s: of the stored files; 1,000 pieces are charged with their first month of storage.
    """
    found: list[Offer] = []
    storage = 1000 * piece_s * audio_bytes_per_s / 1e9 * table.storage_per_gb_month
    for machine in table.machine:
        if machine.device not in speeds:
            continue
        full = speeds[machine.device] * machine.workers
        for kind, per_h, speed in (
            ("on demand", machine.on_demand_per_h, full),
            ("spot", machine.spot_per_h, full / (1.0 + table.spot_overhead)),
            ("own", _owned_per_h(machine, utilization), full),
        ):
            if per_h is not None:
                per_audio_h = per_h / (speed * utilization)
                found.append(Offer(machine, kind, speed, per_audio_h, per_audio_h * 1000 * piece_s / 3600 + storage))
    return sorted(found, key=lambda offer: offer.per_audio_h)


def _owned_per_h(machine: Machine, utilization: float) -> float | None:
    """Price of an hour of owning, busy for a part of it; None if rented."""
    return machine.fixed_per_year / HOURS_PER_YEAR + machine.busy_per_h * utilization if machine.owned else None


@dataclass(frozen=True)
class BreakEven:
    """From how much music on owning is cheaper than renting."""

    owned: Machine
    rented: Offer
    audio_h_per_year: float
    utilization: float  #: of the owned machine at that point; above 1 it cannot be reached


def break_even(table: PriceTable, speeds: Mapping[str, float], rented: Offer) -> list[BreakEven]:
    """For each machine that can be owned and whose speed is known, where it meets a rented offer.

    Owning costs `fixed + a * busy` for `a` hours of audio a year, renting `a * rent`. Where an hour of audio takes more power on
    the own machine than rent, the two never meet and there is no entry.
    """
    found = []
    for machine in table.machine:
        if not machine.owned or machine.device not in speeds:
            continue
        speed = speeds[machine.device] * machine.workers
        saved_per_audio_h = rented.per_audio_h - machine.busy_per_h / speed
        if saved_per_audio_h > 0:
            audio_h = machine.fixed_per_year / saved_per_audio_h
            found.append(BreakEven(machine, rented, audio_h, audio_h / (speed * HOURS_PER_YEAR)))
    return found


@dataclass(frozen=True)
class Estimate:
    """What a submission will take, before anything runs."""

    renders: int  #: to be made; cached ones cost nothing
    cached: int
    audio_s: float
    ahead_s: float  #: audio that will be served before
    workers: int
    speed: float  #: of one worker, audio seconds per second
    likely_s: float | None  #: the work spread evenly over the workers; None without workers
    latest_s: (
        float | None
    )  #: workers that are never idle end no later, if nothing more urgent arrives and nothing fails
    worker_s: float  #: time of workers it takes, whoever waits
    price: float | None  #: None where nobody said what a worker costs


def estimate(
    pieces_s: Sequence[float], *, cached: int, ahead_s: float, workers: int, speed: float, price_per_worker_h: float
) -> Estimate:
    """When renders of these lengths will be done, and what they cost.

    The latest end is Graham's bound (Bounds on multiprocessing timing anomalies, 1969) for workers that are never idle while
    something waits.

    Args:
        pieces_s: lengths of the renders that must be made, seconds of audio.
        cached: how many more are finished already.
        ahead_s: audio that waits or runs in the same or a more urgent class.
        workers: workers alive.
        speed: audio seconds that one of them makes in a second.
        price_per_worker_h: what one of them costs; 0: nobody said.
    """
    audio_s, longest_s = sum(pieces_s), max(pieces_s, default=0.0)
    likely = latest = None
    if not pieces_s:
        likely = latest = 0.0
    elif workers > 0:
        whole_s = (ahead_s + audio_s) / (workers * speed)
        likely = max(whole_s, longest_s / speed)
        latest = whole_s + (1.0 - 1.0 / workers) * longest_s / speed
    worker_s = audio_s / speed
    price = worker_s / 3600.0 * price_per_worker_h if price_per_worker_h > 0 else None
    return Estimate(len(pieces_s), cached, audio_s, ahead_s, workers, speed, likely, latest, worker_s, price)
