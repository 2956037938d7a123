"""Entering jobs in the ledger, in chunks: what one client submits fast. What becomes of them is in `door`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice, repeat
from typing import Any

from pianofarm_common.errors import ServiceUnavailable
from pianofarm_common.ledger.line import Line
from pianofarm_common.ledger.reading import Reading
from pianofarm_common.ledger.values import JobRequest, JobTicket
from pianofarm_common.renders import PriorityClass, RenderKey, State

#: Jobs entered or cancelled in one step of Redis: some 10 ms, during which nobody else is served.
SUBMIT_CHUNK = 500


class Chunk:
    """Requests as Redis is given them: `SUBMIT_CHUNK` at most.

    A request becomes text when it is added: where it lived as an object until its chunk was answered, the collection of garbage
    took a third of the client's time.
    """

    __slots__ = ("names", "runs", "texts")

    def __init__(self) -> None:
        self.texts: list[Any] = []  #: of each job in turn: key, job id, name, spec, audio in ms
        self.runs: list[
            list[Any]
        ] = []  #: what jobs that follow each other share: batch, owner, class; and how many they are
        self.names: list[str] = []  #: of the jobs

    def __len__(self) -> int:
        return len(self.names)

    def add(self, request: JobRequest) -> None:
        """Add a request behind the others."""
        spec, name = request.spec, request.name[:500]
        self.names.append(name)
        # The name of a file may hold what is no Unicode.
        encoded = name.encode(errors="replace")
        self.texts += (spec.key, request.job_id, encoded, spec.model_dump_json(), round(spec.audio_s * 1000))
        shared = [request.batch, request.owner[:200], str(request.priority)]
        if not self.runs or self.runs[-1][:3] != shared:
            self.runs.append([*shared, 0])
        self.runs[-1][3] += 1

    @property
    def keys(self) -> list[RenderKey]:
        """Of the renders that are asked for, one for each job."""
        return self.texts[::5]

    @property
    def job_ids(self) -> list[str]:
        """Of the jobs."""
        return self.texts[1::5]

    @property
    def audio_s(self) -> list[float]:
        """How long the renders are, one for each job."""
        return [audio_ms / 1000 for audio_ms in self.texts[4::5]]


class Entry(Reading):
    """The part of the ledger that takes jobs in."""

    def submit_many(self, requests: Iterable[JobRequest]) -> list[JobTicket]:
        """Enter jobs, in order; any number (sent in chunks of 500).

        A job attaches to the render of the same key if there is one: a finished one is a cache hit and the job is done at once; a
        failed or cancelled one starts anew; a quarantined one stays so until somebody retries it. Publish the keys of those tickets
        that say `needs_message` (`queue.publish_tickets`); the others wait until it is their owner's turn.

        Raises:
            ServiceUnavailable: one of them goes to a class, owner or batch that is being drained; its chunk was not entered.
        """
        return [ticket for _, tickets in self.submit_chunks(_chunked(requests)) for ticket in tickets]

    def submit_chunks(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[JobTicket]]]:
        """Enter jobs as `submit_many` does, each chunk as one step of Redis; yields every chunk with its tickets.

        A chunk is sent before the one in front of it is answered: what the caller does in `chunks` is done while Redis works. When
        one is refused, the next may therefore have been entered; it is not lost, the sweeper publishes it.
        """
        line = Line(self._scripts, "submit")
        sent: deque[Chunk] = deque()
        try:
            for chunk in chunks:
                line.send(*chunk.texts, runs=chunk.runs)
                sent.append(chunk)
                if len(sent) > 1:
                    yield _answered(sent.popleft(), line)
        except Exception:
            # Whatever stopped the caller: what was sent is entered, and its messages are the caller's to publish.
            while sent:
                yield _answered(sent.popleft(), line)
            raise
        else:
            while sent:
                yield _answered(sent.popleft(), line)
        finally:
            line.close()


def _chunked(requests: Iterable[JobRequest]) -> Iterator[Chunk]:
    remaining = iter(requests)
    while some := list(islice(remaining, SUBMIT_CHUNK)):
        chunk = Chunk()
        for request in some:
            chunk.add(request)
        yield chunk


def _answered(chunk: Chunk, line: Line) -> tuple[Chunk, list[JobTicket]]:
    answers = line.answer()
    if answers[0] == "draining":
        kind, name = answers[1:]
        raise ServiceUnavailable(
            f"{kind} {name} is being drained and takes nothing new: 'pianofarm resume --{kind} {name}' opens it again"
        )
    batches = chain.from_iterable(repeat(batch, n_jobs) for batch, _, _, n_jobs in chunk.runs)
    return chunk, [
        JobTicket(job_id, batch, key, *_standing(answer))
        for job_id, batch, key, answer in zip(chunk.job_ids, batches, chunk.keys, answers, strict=True)
    ]


@lru_cache(maxsize=64)
def _standing(answer: str) -> tuple[State, PriorityClass, bool, bool]:
    state, priority, cached, needs_message = answer.split(" ")
    return State(state), PriorityClass(priority), cached == "1", needs_message == "1"
