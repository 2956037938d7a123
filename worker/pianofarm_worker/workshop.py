"""The workshop: a claimed render becomes stored objects. Fetches MIDI, renders, checks, encodes, stores; no retries here."""

from __future__ import annotations

import time

from pydantic import ValidationError

from pianofarm_common.errors import BadMidi, NotFound
from pianofarm_common.ledger import Claim
from pianofarm_common.logs import get_logger
from pianofarm_common.midi import Performance
from pianofarm_common.precision import precision_of
from pianofarm_common.renders import RenderOptions, RenderResult, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_common.storage import BlobStore, audio_object, dry_object, midi_object, sidecar_object
from pianofarm_worker import quality
from pianofarm_worker.audio import Encoded, encode, trimmed
from pianofarm_worker.containers import MEDIA_TYPES
from pianofarm_worker.midi_reader import MidiReader, ReaderLimits
from pianofarm_worker.pulse import Hold
from pianofarm_worker.shelf import Shelf
from pianofarm_worker.synth.piano import Rendering

log = get_logger(__name__)


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

    def make(self, claim: Claim, hold: Hold) -> RenderResult:
        """Everything between claim and commit; the objects are in the store when it returns.

        Raises:
            BadMidi, BadOption, UnknownModel, BadModel, QualityGateFailed: no other try will help.
            ServiceUnavailable: the store does not answer.
            Cancelled, LeaseLost, Stopping: from `hold`.
        """
        spec = claim.spec
        if claim.attempt > 1 and (known := self._made_before(spec)):
            log.info("result of an earlier attempt found")
            return known
        performance = self._performance(spec)
        piano = self._shelf.piano(spec.model_digest, precision_of(spec.engine))
        hold.check()
        began = time.perf_counter()
        rendering = piano.render(performance, spec.options, seed=spec.seed, progress=hold.report)
        quality.check(performance, rendering, spec.options)
        rendering = _without_silent_end(performance, rendering, spec.options)
        wet = encode(rendering.wet, rendering.sample_rate_hz, spec.options)
        dry = encode(rendering.dry, rendering.sample_rate_hz, spec.options) if spec.options.dry else None
        render_s = time.perf_counter() - began
        hold.check()
        hold.uploading = True
        return self._store_all(claim, rendering, wet, dry, render_s)

    def _made_before(self, spec: RenderSpec) -> RenderResult | None:
        """What a worker stored that died before its commit. The sidecar goes last: where it is, the audio is."""
        try:
            result = RenderResult.model_validate_json(self._store.get(sidecar_object(spec.key)))
        except (NotFound, ValidationError):
            return None
        return result if result.key == spec.key and self._store.exists(result.audio_key) else None

    def _performance(self, spec: RenderSpec) -> Performance:
        key = midi_object(spec.performance_sha256)
        try:
            data = self._store.get(key, self._max_bytes)
        except NotFound:
            raise BadMidi(f"the MIDI file {key} is gone from the store: submit it again") from None
        performance = self.reader.read(data)
        if performance.sha256 != spec.performance_sha256:
            raise BadMidi(f"{key} holds another performance ({performance.sha256[:12]}): submit it again")
        return performance

    def _store_all(
        self, claim: Claim, rendering: Rendering, wet: Encoded, dry: Encoded | None, render_s: float
    ) -> RenderResult:
        spec, extension = claim.spec, claim.spec.options.format
        began = time.perf_counter()
        audio_key, dry_key = audio_object(spec.key, extension), None
        self._store.put(audio_key, wet.data, MEDIA_TYPES[extension])
        if dry is not None:
            dry_key = dry_object(spec.key, extension)
            self._store.put(dry_key, dry.data, MEDIA_TYPES[extension])
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
            notes=rendering.notes,
            dropped_notes=rendering.dropped_notes,
            queue_s=claim.queue_s,
            render_s=render_s,
            upload_s=time.perf_counter() - began,
            worker=self._worker,
            finished_at=time.time(),
        )
        self._store.put(sidecar_object(spec.key), result.model_dump_json(indent=1).encode(), "application/json")
        return result


def _without_silent_end(performance: Performance, rendering: Rendering, options: RenderOptions) -> Rendering:
    """Cut the silence after the tail; without a tail the length asked for is kept to the sample."""
    if not options.tail:
        return rendering
    return trimmed(rendering, keep_s=min(performance.duration_s, options.duration_s or performance.duration_s))
