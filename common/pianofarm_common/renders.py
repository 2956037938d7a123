"""The two nouns of the farm: a render (a thing to be made, addressed by content) and a job (somebody asking for one).

Pure values that travel as JSON; no Redis, no storage, no audio here.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Literal, NewType, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from pianofarm_common.errors import BadOption

#: Raised whenever the same MIDI, model and options would give other bytes than in the release before: part of every render key.
#: Between releases it stays: a farm that runs on commits starts with an empty store after one that changes bytes.
ENGINE_VERSION = "1"

#: Version of the JSON written by this module: messages, ledger entries and sidecars carry it.
SCHEMA_VERSION = 1

#: The one form in which values are hashed; `json.dumps` would make an encoder for every render.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

#: The most of the room that can be asked for, in parts of what the model has.
MOST_ROOM = 2.0

#: sha256 (64 hex digits) that addresses a render: same key, same bytes.
RenderKey = NewType("RenderKey", str)


class PriorityClass(StrEnum):
    """Who waits for the render; each class is a Celery queue of its own."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BULK = "bulk"


class State(StrEnum):
    """Where a render or a job stands; docs/job-states.md draws the arrows between them."""

    QUEUED = "queued"
    RUNNING = "running"
    UPLOADING = "uploading"
    DONE = "done"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True where nothing more will happen by itself."""
        return self in (State.DONE, State.FAILED, State.QUARANTINED, State.CANCELLED)


class RenderOptions(BaseModel):
    """How the audio is to be made; every field is part of the render key.

    Fields left at None mean "as the model has it".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    piano: int | None = Field(
        default=None, ge=0, le=1023, description="Which of the model's pianos; None: its default."
    )
    sample_rate_hz: Literal[8000, 16000, 22050, 24000, 32000, 44100, 48000] | None = None
    channels: Literal[1, 2] | None = None
    format: Literal["wav", "flac", "ogg"] = "wav"
    sample_format: Literal["pcm16", "pcm24", "float32"] = "pcm16"
    normalize_dbfs: Annotated[float, Field(ge=-60.0, le=0.0)] | None = Field(
        default=None, description="Peak level asked for; with normalize_lufs the highest peak allowed."
    )
    normalize_lufs: Annotated[float, Field(ge=-60.0, le=-5.0)] | None = Field(
        default=None, description="Integrated loudness asked for (ITU-R BS.1770-4), less where the peak would clip."
    )
    duration_s: Annotated[float, Field(gt=0.0, le=86_400.0)] | None = Field(
        default=None, description="Cut the performance here."
    )
    warm_up_s: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        default=0.5, description="Silent lead-in, not in the file."
    )
    tail: bool = Field(default=True, description="Let the last notes and the room ring out.")
    room: Annotated[float, Field(ge=0.0, le=MOST_ROOM)] = Field(
        default=1.0, description="How much of the room: 0 the dry sound alone, 1 as the model has it, 2 twice that."
    )
    dry: bool = Field(
        default=False,
        description="Store the sound before the room as well; a level asked for is brought about for each.",
    )

    @property
    def needs_dry(self) -> bool:
        """Whether the sound before the room is asked for, or needed for another amount of the room than the model's."""
        return self.dry or self.room != 1

    @field_validator("sample_format")
    @classmethod
    def _fits_the_format(cls, value: str, info: ValidationInfo) -> str:
        if value == "float32" and info.data.get("format") == "flac":
            raise ValueError("flac stores pcm16 or pcm24 (ask for format=wav)")
        if value != "pcm16" and info.data.get("format") == "ogg":
            raise ValueError(
                "ogg (Vorbis) stores no samples of any format: leave it out (or ask for format=wav or flac)"
            )
        return value

    @classmethod
    def parse(cls, **values: object) -> Self:
        """Options from loosely typed values.

        Raises:
            BadOption: names the option, what was received and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc'][:1])}={item['input']!r}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors()
            )
            raise BadOption(f"{problems} (options: {', '.join(cls.model_fields)})") from None


class RenderSpec(BaseModel):
    """A thing to be made. `key` is its content address: the sha256 of everything that decides the bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    performance_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the canonical performance.")
    model_digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the model's weights and configuration.")
    model_name: str = Field(max_length=200, description="For people; not part of the key.")
    options: RenderOptions = RenderOptions()
    engine: str = ENGINE_VERSION
    audio_s: float = Field(
        ge=0.0, description="Length of the performance; plans bundles and estimates; not part of the key."
    )

    @property
    def key(self) -> RenderKey:
        """The render's content address, 64 hex digits."""
        options = self.options.model_dump(mode="json")
        if options["room"] == 1.0:
            # Younger than the first renders: where it changes nothing, theirs are found, and the seed from the key is theirs too.
            del options["room"]
        decides = {
            "performance": self.performance_sha256,
            "model": self.model_digest,
            "options": options,
            "engine": self.engine,
        }
        return RenderKey(hashlib.sha256(_CANONICAL.encode(decides).encode()).hexdigest())

    @property
    def seed(self) -> int:
        """Seed of the counter-based noise generator, 0 .. 2**63 - 1, from the key."""
        return int(self.key[:16], 16) >> 1


class RenderResult(BaseModel):
    """What was made; stored as the JSON sidecar beside the audio, enough to rebuild the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    key: RenderKey
    spec: RenderSpec
    audio_key: str = Field(description="Object key of the audio.")
    dry_key: str | None = None
    audio_sha256: str
    audio_bytes: int
    audio_s: float
    sample_rate_hz: int
    channels: int
    loudness_lufs: float | None = Field(
        description="Integrated loudness (ITU-R BS.1770-4); None where it is undefined."
    )
    peak_dbfs: float
    notes: int
    dropped_notes: int
    queue_s: float = 0.0
    render_s: float
    upload_s: float = 0.0
    worker: str = ""
    finished_at: float = Field(default=0.0, description="Seconds since the epoch.")

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio made in a second of rendering."""
        return self.audio_s / self.render_s if self.render_s > 0 else float("inf")
