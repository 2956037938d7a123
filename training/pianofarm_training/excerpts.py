"""Recordings with MIDI -> short excerpts to train on: conditioning and sound, kept in arrays on disk. No TensorFlow here.

Which excerpts a step takes depends on seed and step alone, so that a run that was killed goes on with those it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_training.pairs import Pair
from pianofarm_worker.synth.published.conditioning import conditioning
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.release import extend_pitch


@dataclass(frozen=True)
class Piece:
    """A whole recording, on disk but for what is looked at."""

    pitch: NDArray[np.uint8]  #: [n_frames, n_voices], active
    extended: NDArray[np.uint8]  #: the same, prolonged by the release
    velocity: NDArray[np.uint8]  #: the same shape, onset velocity, 0..127
    pedal: NDArray[np.uint8]  #: [n_frames, 4], 0..128
    sound: NDArray[np.int16]  #: [n_frames * hop]
    piano: int

    @property
    def n_frames(self) -> int:
        """Length."""
        return len(self.pitch)


@dataclass(frozen=True)
class Excerpts:
    """Some excerpts of one length, as arrays."""

    notes: NDArray[np.float32]  #: [n_excerpts, n_frames, n_voices, 2]
    pitch: NDArray[np.int32]  #: [n_excerpts, n_frames, n_voices]
    pedal: NDArray[np.float32]  #: [n_excerpts, n_frames, 4]
    piano: NDArray[np.int32]  #: [n_excerpts]
    sound: NDArray[np.float32]  #: [n_excerpts, n_frames * hop]


def prepare(
    pairs: Sequence[Pair],
    pianos: Sequence[str],
    config: PublishedConfig,
    release_s: float,
    limits: MidiLimits,
    folder: Path,
) -> list[Piece]:
    """Decode, resample and condition every pair once; a second call reads what the first one left.

    Of two channels the left one is taken: a mix would cancel what the microphones hear in opposite phase.

    Args:
        pairs: checked.
        pianos: their names in the order of the model's numbers.
        config: of the model: rate, frames, voices.
        release_s: of the model.
        limits: on MIDI.
        folder: where the arrays are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces = []
    for number, pair in enumerate(pairs):
        paths = {
            name: folder / f"{number:05d}-{name}.npy" for name in ("pitch", "extended", "velocity", "pedal", "sound")
        }
        if not paths["sound"].is_file():
            for name, array in _arrays(pair, config, release_s, limits).items():
                # The sound goes last: where it is, the rest is.
                part = paths[name].with_suffix(".part.npy")
                np.save(part, array)
                part.rename(paths[name])
        read = {name: np.load(path, mmap_mode="r") for name, path in paths.items()}
        pieces.append(Piece(**read, piano=pianos.index(pair.piano)))
    return pieces


def _arrays(
    pair: Pair, config: PublishedConfig, release_s: float, limits: MidiLimits
) -> dict[str, NDArray[np.generic]]:
    import soundfile
    import soxr

    sound, rate_hz = soundfile.read(pair.audio, dtype="float32", always_2d=True)
    mono = sound[:, 0]
    if rate_hz != config.sample_rate_hz:
        mono = soxr.resample(mono, rate_hz, config.sample_rate_hz, quality="HQ")
    given = conditioning(
        read_performance(pair.midi.read_bytes(), limits),
        n_voices=config.n_voices,
        frame_rate_hz=config.frame_rate_hz,
        duration_s=len(mono) / config.sample_rate_hz,
    )
    n_frames = min(given.n_frames, len(mono) // config.hop)
    pitch = given.notes[:n_frames, :, 0]
    return {
        "pitch": pitch.astype(np.uint8),
        "extended": extend_pitch(pitch, release_s, config.frame_rate_hz),
        "velocity": np.round(given.notes[:n_frames, :, 1] * 127).astype(np.uint8),
        "pedal": np.round(given.pedal[:n_frames] * 128).astype(np.uint8),
        "sound": np.clip(np.round(mono[: n_frames * config.hop] * 32767), -32768, 32767).astype(np.int16),
    }


class ExcerptSource:
    """Draws excerpts from pieces, each frame of all of them being as likely."""

    def __init__(self, pieces: Sequence[Piece], hop: int, n_frames: int, seed: int) -> None:
        """Args: pieces of at least `n_frames`; samples a frame; frames of an excerpt; seed of the draw."""
        self._pieces, self._hop, self._n_frames, self._seed = pieces, hop, n_frames, seed
        self._ends = np.cumsum([piece.n_frames - n_frames + 1 for piece in pieces])

    def at_step(self, step: int, n_excerpts: int) -> Excerpts:
        """The excerpts of one step; the same ones whenever asked."""
        random = np.random.default_rng([self._seed, step])
        return self._together([int(draw) for draw in random.integers(0, self._ends[-1], n_excerpts)])

    def spread(self, n_excerpts: int) -> Excerpts:
        """Excerpts spread evenly over all pieces."""
        return self._together([int(at) for at in np.linspace(0, self._ends[-1] - 1, n_excerpts)])

    def _together(self, draws: list[int]) -> Excerpts:
        found = [self._excerpt(draw) for draw in draws]
        notes, pitch, pedal, sound = (np.stack(arrays) for arrays in zip(*(f[:4] for f in found), strict=True))
        return Excerpts(notes, pitch, pedal, np.array([f[4] for f in found], np.int32), sound)

    def _excerpt(
        self, draw: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], int]:
        number = int(np.searchsorted(self._ends, draw, side="right"))
        piece = self._pieces[number]
        start = draw - (int(self._ends[number - 1]) if number else 0)
        frames = slice(start, start + self._n_frames)
        samples = slice(start * self._hop, (start + self._n_frames) * self._hop)
        notes = np.stack([piece.pitch[frames], piece.velocity[frames] / np.float32(127)], axis=-1).astype(np.float32)
        pedal = np.asarray(piece.pedal[frames] / np.float32(128), np.float32)
        sound = np.asarray(piece.sound[samples] / np.float32(32767), np.float32)
        return notes, piece.extended[frames].astype(np.int32), pedal, sound, piece.piano
