"""The workshop: claimed renders become stored objects. Fetches MIDI, renders, checks, encodes, stores; no retries here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import ValidationError

from pianofarm_common.errors import BadMidi, Cancelled, LeaseLost, NotFound
from pianofarm_common.logs import get_logger
from pianofarm_common.midi import Performance
from pianofarm_common.precision import precision_of
from pianofarm_common.renders import RenderOptions, RenderResult, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_common.storage import BlobStore, audio_object, dry_object, midi_object, sidecar_object
from pianofarm_worker import quality
from pianofarm_worker.ahead import Ahead
from pianofarm_worker.audio import Encoded, encode, trimmed, with_room
from pianofarm_worker.containers import MEDIA_TYPES
from pianofarm_worker.midi_reader import MidiReader, ReaderLimits
from pianofarm_worker.pulse import Hold
from pianofarm_worker.shelf import Shelf
from pianofarm_worker.stopping import Stopping
from pianofarm_worker.synth.piano import BatchRequest, Piano, Rendering

log = get_logger(__name__)


@dataclass(frozen=True)
class Made:
    """A render that passed its gates, as bytes. Nothing of it is stored yet."""

    wet: Encoded
    dry: Encoded | None
    notes: int
    dropped_notes: int
    render_s: float  #: its own; of a batch its share


#: What became of a render: the bytes; the result of an earlier attempt that stored everything; why there is nothing.
Outcome: TypeAlias = Made | RenderResult | Exception


@dataclass(frozen=True)
class _Ready:
    """A render that can begin."""

    hold: Hold
    performance: Performance
    piano: Piano

    @property
    def spec(self) -> RenderSpec:
        return self.hold.claim.spec


class Workshop:
    """Makes renders for one worker process."""

    def __init__(
        self, settings: Settings, store: BlobStore, shelf: Shelf, worker: str, reader: MidiReader | None = None
    ) -> None:
        """Args: reader: of MIDI; None: one with the limits of the settings."""
        self._max_bytes = settings.midi_max_bytes
        self.reader = reader or MidiReader(ReaderLimits.from_settings(settings))
        self._store = store
        self._shelf = shelf
        self._worker = worker
        self._ahead = Ahead(self._midi)

    def expect(self, now: Sequence[RenderSpec], soon: Sequence[RenderSpec]) -> None:
        """Have the MIDI of the renders after these fetched while these are under way."""
        self._ahead.expect(
            {spec.key: midi_object(spec.performance_sha256) for spec in soon}, [spec.key for spec in now]
        )

    def places(self, spec: RenderSpec | None = None) -> int:
        """How many such renders are made at once; None: the most of any. 1 for a model that is not loaded yet.

        Nothing is loaded for the answer: a model that kills its worker must do so under a claim, where it is counted.
        """
        if spec is None:
            return self._shelf.most_places
        return self._shelf.places(spec.model_digest, precision_of(spec.engine))

    def make(self, hold: Hold) -> RenderResult:
        """Everything between claim and commit of one render; the objects are in the store when it returns.

        Raises:
            BadMidi, BadOption, UnknownModel, BadModel, QualityGateFailed: no other try will help.
            ServiceUnavailable: the store does not answer.
            Cancelled, LeaseLost, Stopping: from `hold`.
        """
        ((_, outcome),) = self.render([hold])
        if isinstance(outcome, Exception):
            raise outcome
        return self.store(hold, outcome)

    def render(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, Outcome]]:
        """Fetch, render, check and encode claimed renders; each has its own outcome, and none can spoil another's.

        Several are rendered as one batch: they must want the same model with the same options. Where that fails as a whole they are
        rendered one by one.
        """
        ready: list[_Ready] = []
        for hold in holds:
            try:
                known = self._made_before(hold)
                if known is None:
                    ready.append(self._prepared(hold))
            except Exception as error:
                yield hold, error
            else:
                if known is not None:
                    yield hold, known
        if len(ready) > 1:
            yield from self._together(ready)
        else:
            yield from self._one_by_one(ready)

    def store(self, hold: Hold, made: Made | RenderResult) -> RenderResult:
        """Put what was made into the store: audio first, the sidecar last.

        Raises:
            ServiceUnavailable, DiskFull: the store does not take it.
            Cancelled, LeaseLost, Stopping: from `hold`.
        """
        if isinstance(made, RenderResult):
            return made
        hold.check()
        hold.uploading = True
        return self._store_all(hold, made)

    def _prepared(self, hold: Hold) -> _Ready:
        spec = hold.claim.spec
        performance = self._performance(spec)
        piano = self._shelf.piano(spec.model_digest, precision_of(spec.engine))
        hold.check()
        return _Ready(hold, performance, piano)

    def _one_by_one(self, ready: Sequence[_Ready]) -> Iterator[tuple[Hold, Outcome]]:
        for each in ready:
            began, spec = time.perf_counter(), each.spec
            try:
                rendering = each.piano.render(each.performance, spec.options, seed=spec.seed, progress=each.hold.report)
                outcome: Outcome = _finished(each, rendering, began)
                del rendering
            except Exception as error:
                outcome = error
            yield each.hold, outcome

    def _together(self, ready: Sequence[_Ready]) -> Iterator[tuple[Hold, Outcome]]:
        began, given_up = time.perf_counter(), {}

        def report(fraction: float) -> None:
            # Who is cancelled leaves; the others stay. Nobody left: an end.
            for each in ready:
                if each.hold not in given_up:
                    try:
                        each.hold.report(fraction)
                    except (Cancelled, LeaseLost) as error:
                        given_up[each.hold] = error
            if len(given_up) == len(ready):
                raise next(iter(given_up.values()))

        requests = [BatchRequest(each.performance, each.spec.options, each.spec.seed) for each in ready]
        try:
            renderings: list[Rendering | None] = [*ready[0].piano.render_batch(requests, progress=report)]
        except (Cancelled, LeaseLost, Stopping) as error:
            yield from ((each.hold, given_up.get(each.hold, error)) for each in ready)
            return
        except Exception as error:
            log.warning("batch failed", renders=len(ready), error_type=type(error).__name__, error=str(error))
            yield from given_up.items()
            yield from self._one_by_one([each for each in ready if each.hold not in given_up])
            return
        share_s = (time.perf_counter() - began) / len(ready)
        for number, each in enumerate(ready):
            rendering, renderings[number] = renderings[number], None
            assert rendering is not None  # noqa: S101
            try:
                each.hold.check()
                outcome: Outcome = _finished(each, rendering, time.perf_counter() - share_s)
            except Exception as error:
                outcome = error
            yield each.hold, outcome

    def _made_before(self, hold: Hold) -> RenderResult | None:
        """What a worker stored that died before its commit. The sidecar goes last: where it is, the audio is."""
        spec = hold.claim.spec
        if hold.claim.attempt == 1 and not hold.claim.alone:
            return None
        try:
            result = RenderResult.model_validate_json(self._store.get(sidecar_object(spec.key)))
        except (NotFound, ValidationError):
            return None
        if result.key != spec.key or not self._store.exists(result.audio_key):
            return None
        log.info("result of an earlier attempt found")
        return result

    def _performance(self, spec: RenderSpec) -> Performance:
        key = midi_object(spec.performance_sha256)
        data = self._ahead.take(spec.key)
        if data is None:
            try:
                data = self._midi(key)
            except NotFound:
                raise BadMidi(f"the MIDI file {key} is gone from the store: submit it again") from None
        performance = self.reader.read(data)
        if performance.sha256 != spec.performance_sha256:
            raise BadMidi(f"{key} holds another performance ({performance.sha256[:12]}): submit it again")
        return performance

    def _midi(self, key: str) -> bytes:
        return self._store.get(key, self._max_bytes)

    def _store_all(self, hold: Hold, made: Made) -> RenderResult:
        spec, extension, wet = hold.claim.spec, hold.claim.spec.options.format, made.wet
        began = time.perf_counter()
        audio_key, dry_key = audio_object(spec.key, extension), None
        self._store.put(audio_key, bytes(wet.data), MEDIA_TYPES[extension])
        # Who was cut off in the middle of this must not write over what another worker has stored meanwhile.
        if made.dry is not None:
            hold.check_held()
            dry_key = dry_object(spec.key, extension)
            self._store.put(dry_key, bytes(made.dry.data), MEDIA_TYPES[extension])
        result = RenderResult(
            key=spec.key,
            spec=spec,
            audio_key=audio_key,
            dry_key=dry_key,
            audio_sha256=wet.sha256,
            audio_bytes=len(wet.data),
            audio_s=wet.audio_s,
            sample_rate_hz=wet.sample_rate_hz,
            channels=wet.channels,
            loudness_lufs=wet.loudness_lufs,
            peak_dbfs=wet.peak_dbfs,
            notes=made.notes,
            dropped_notes=made.dropped_notes,
            queue_s=hold.claim.queue_s,
            render_s=made.render_s,
            upload_s=time.perf_counter() - began,
            worker=self._worker,
            finished_at=time.time(),
        )
        hold.check_held()
        self._store.put(sidecar_object(spec.key), result.model_dump_json(indent=1).encode(), "application/json")
        return result


def _finished(ready: _Ready, rendering: Rendering, began: float) -> Made:
    """What the gates let through, as bytes. Raises QualityGateFailed, and what `hold` raises."""
    performance, options = ready.performance, ready.spec.options
    rendering = with_room(rendering, options.room)
    quality.check(performance, rendering, options)
    rendering = _without_silent_end(performance, rendering, options)
    wet = encode(rendering.wet, rendering.sample_rate_hz, options)
    dry = encode(rendering.dry, rendering.sample_rate_hz, options) if options.dry else None
    ready.hold.check()
    return Made(wet, dry, rendering.notes, rendering.dropped_notes, time.perf_counter() - began)


def _without_silent_end(performance: Performance, rendering: Rendering, options: RenderOptions) -> Rendering:
    """Cut the silence after the tail; without a tail the length asked for is kept to the sample."""
    if not options.tail:
        return rendering
    return trimmed(rendering, keep_s=min(performance.duration_s, options.duration_s or performance.duration_s))
