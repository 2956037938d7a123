"""The pieces that are asked for, and how they arrive: all at once, at random, or from people who wait for each answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import simpy

from bench.simulate.farm import Farm, Render, Steps

#: Shortest and longest piece of the benchmark: "100 diverse pieces, 10 s to 5 min".
SHORTEST_S, LONGEST_S = 10.0, 300.0


def lengths_s(n_pieces: int, seed: int) -> list[float]:
    """Lengths of audio between 10 s and 5 min, each length as likely on a logarithmic scale; mean 85 s."""
    rng = np.random.default_rng(seed)
    drawn = np.exp(rng.uniform(np.log(SHORTEST_S), np.log(LONGEST_S), n_pieces))
    return [float(length) for length in drawn]


def submit_all(farm: Farm, audio_s: Sequence[float], priority: str = "bulk") -> simpy.Event:
    """Submit everything now; the event comes when all of it is finished."""
    return simpy.AllOf(farm.env, [farm.submit(length, priority).done for length in audio_s])


def poisson(
    farm: Farm,
    audio_s: Sequence[float],
    per_s: float,
    seed: int,
    priority: str = "interactive",
    into: list[Render] | None = None,
) -> Steps:
    """Submit at random moments, `per_s` of them a second on average."""
    rng = np.random.default_rng(seed)
    for length in audio_s:
        yield farm.env.timeout(rng.exponential(1.0 / per_s))
        render = farm.submit(length, priority)
        if into is not None:
            into.append(render)


def closed_loop(
    farm: Farm, n_clients: int, until_s: float, length_s: Callable[[], float], priority: str = "interactive"
) -> list[Render]:
    """Clients with one request each, the next as soon as it is answered: the concurrency of load testers.

    They begin within the first moments, not at once. Returns the list their renders are put in.
    """
    sent: list[Render] = []

    def client(begin_s: float) -> Steps:
        yield farm.env.timeout(begin_s)
        while farm.env.now < until_s:
            render = farm.submit(length_s(), priority)
            sent.append(render)
            yield render.done

    for number in range(n_clients):
        farm.env.process(client(begin_s=1e-3 * number / max(1, n_clients)))
    return sent
