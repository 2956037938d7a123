"""The additive synthesizer: pitches and partial amplitudes per frame -> audio, as matrix products of grains.

NumPy and one compiled loop; no network, no noise, no room. Its conventions are those of `ddsp.core.harmonic_synthesis` with
cosines: amplitudes are interpolated with overlapping Hann windows, frequencies linearly, and the first sample already has one
sample's phase.

While a voice keeps its pitch, frame n adds A_n cos(phi_n + w u) under a window over |u| < hop. As cos(phi + w u) is
cos(phi) cos(w u) - sin(phi) sin(w u), all frames of a run are two products with the pitch's basis (`PartialTables.basis`), and
their difference and sum are the halves after and before the frame. Hops in which a voice changes pitch are evaluated directly.

Phases are turned on from frame to frame by a rotation (`turn`), in double precision and from the run's exact phase: a run is a
chunk at most, so the error stays at some 1e-13. Three times as fast as cosines and sines of all phases, whose arrays leave the
cache.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled
from pianofarm_worker.synth.partials import TURN, PartialTables, Turns


class Additive:
    """The additive part of one render, fed frame by frame in order.

    Frames may come in chunks of any length: other chunks change the samples by float rounding only (1e-7 of the peak), the same
    chunks never change a bit. Feed chunks of one fixed length (`blocks.Reblock`) where bytes must not depend on the caller.
    """

    def __init__(self, tables: PartialTables, n_voices: int) -> None:
        """Start at silence.

        Args:
            tables: the piano.
            n_voices: rows of every `push`.
        """
        self._tables = tables
        self._started = False
        # Of the last frame seen, per voice:
        self._pitch = np.zeros(n_voices, np.int64)
        self._amplitudes = np.zeros((n_voices, tables.n_partials), np.float32)
        self._phase: Turns = np.zeros(
            (n_voices, tables.n_strings, tables.n_partials), np.uint64
        )  # one sample before it
        self._after = np.zeros((n_voices, tables.hop), np.float32)  # its grain's later half, if the pitch stays

    def push(self, pitch: NDArray[np.integer], amplitudes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Synthesize up to the newest frame.

        Args:
            pitch: [n_voices, n_frames] integers, 0..127: the pitch whose strings the voice moves (0 before its first note).
            amplitudes: [n_voices, n_frames, n_partials], of the partials, all strings together; 0 where nothing shall sound.

        Returns:
            [n_samples] float32: a hop for every frame, starting with the hop before the first of these frames. As nothing comes
            before the first frame of all, the first chunk gives one hop less; `finish` gives the hop after the last.
        """
        n_frames = pitch.shape[1]
        if not n_frames:
            return np.zeros(0, np.float32)
        # A compiled loop is another program for arrays that may be written: backends give both kinds.
        amplitudes = np.ascontiguousarray(amplitudes, np.float32).view()
        amplitudes.flags.writeable = False
        # Row r is the hop that ends at frame r of this chunk; the hop after the last frame stays unfinished, in `_after`.
        later_halves = np.zeros((n_frames, self._tables.hop), np.float32)
        earlier_halves = np.zeros((n_frames, self._tables.hop), np.float32)
        changes: list[list[int]] = [[] for _ in pitch]
        for voice, frame in np.argwhere(pitch[:, 1:] != pitch[:, :-1]).tolist():
            changes[voice].append(frame + 1)
        for voice, starts in enumerate(changes):
            runs = zip([0, *starts], [*starts, n_frames], strict=True)
            self._add_voice(voice, runs, pitch[voice], amplitudes[voice], later_halves, earlier_halves)
        later_halves[:, 1:] += earlier_halves[:, :0:-1]  # the earlier half of a grain counts its samples backwards
        first = 0 if self._started else 1
        self._started = True
        return later_halves[first:].reshape(-1)

    def finish(self) -> NDArray[np.float32]:
        """The last hop, [hop] float32: pitch and amplitudes of the last frame are held."""
        return self.push(self._pitch[:, None].copy(), self._amplitudes[:, None].copy())

    def _add_voice(
        self,
        voice: int,
        runs: Iterable[tuple[int, int]],
        pitch: NDArray[np.integer],
        amplitudes: NDArray[np.float32],
        later_halves: NDArray[np.float32],
        earlier_halves: NDArray[np.float32],
    ) -> None:
        """Add one voice: a run of equal pitch at a time, and the glide into it."""
        tables, phase, after = self._tables, self._phase[voice], self._after[voice]
        last_pitch, last_amplitudes, any_before = int(self._pitch[voice]), self._amplitudes[voice], self._started
        for start, end in runs:
            this_pitch = int(pitch[start])
            n_before = 0  # hops of this pitch before the first frame
            if any_before and this_pitch == last_pitch:
                n_before = 1
                later_halves[start] += after
            elif any_before:
                later_halves[start] += glide(tables, phase, last_pitch, this_pitch, last_amplitudes, amplitudes[start])
                phase += glide_step(tables, last_pitch, this_pitch)
            grains = self._grains(this_pitch, phase, n_before, amplitudes[start:end])
            if grains is None:
                after[:] = 0
            else:
                later, earlier = grains
                later_halves[start + 1 : end] += later[:-1]
                earlier_halves[start + 1 - n_before : end] += earlier[1 - n_before :]
                after[:] = later[-1]
            phase += tables.hop_step[this_pitch] * np.uint64(n_before + end - start - 1)
            last_pitch, last_amplitudes, any_before = this_pitch, amplitudes[end - 1], True
        self._pitch[voice], self._amplitudes[voice] = last_pitch, last_amplitudes

    def _grains(
        self, pitch: int, phase: Turns, n_before: int, amplitudes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Later and earlier halves of the grains of a run, each [n_frames, hop] float32; None for silence."""
        tables = self._tables
        n_frames, n = len(amplitudes), tables.n_audible[pitch]
        if not (n and (amplitudes[:, 0].any() or amplitudes[:, :n].any())):
            return None
        phase = phase[:, :n] + tables.half_step[pitch, :, :n] * np.uint64(2)
        phase += tables.hop_step[pitch, :, :n] * np.uint64(n_before)
        angle = phase.view(np.int64) * (2 * np.pi / TURN)  # signed: -1/2..1/2 turn
        waves = np.empty((2, n_frames, tables.n_strings, n), np.float32)
        turn(amplitudes, np.cos(angle), np.sin(angle), tables.rotation(pitch), waves)
        even, odd = np.matmul(waves.reshape(2, n_frames, -1), tables.basis(pitch))
        later = even - odd
        even += odd
        return later, even


@compiled
def turn(
    amplitudes: NDArray[np.float32],
    cosine: NDArray[np.float64],
    sine: NDArray[np.float64],
    rotation: NDArray[np.float64],
    waves: NDArray[np.float32],
) -> None:
    """Cosines and sines of partials at each frame, times their amplitudes.

    Args:
        amplitudes: [n_frames, >= n], of the partials; all strings have the same.
        cosine: [n_strings, n], of the phases at the first frame; left at those after the last.
        sine: likewise.
        rotation: [2, n_strings, n], cosine and sine of what a frame advances.
        waves: [2, n_frames, n_strings, n], cosines and sines, written.
    """
    n = waves.shape[3]
    for string in range(len(cosine)):
        c, s, turned_c, turned_s = cosine[string], sine[string], rotation[0, string], rotation[1, string]
        for frame in range(len(amplitudes)):
            loud, even, odd = amplitudes[frame], waves[0, frame, string], waves[1, frame, string]
            for k in range(n):
                now_c, now_s = c[k], s[k]
                even[k] = np.float32(now_c) * loud[k]
                odd[k] = np.float32(now_s) * loud[k]
                c[k] = now_c * turned_c[k] - now_s * turned_s[k]
                s[k] = now_s * turned_c[k] + now_c * turned_s[k]


def glide_step(tables: PartialTables, pitch_from: int, pitch_to: int) -> Turns:
    """[n_strings, n_partials]: what a gliding hop advances: hop w0 + (w1 - w0) (hop - 1) / 2."""
    change: Turns = tables.half_step[pitch_to] - tables.half_step[pitch_from]
    step: Turns = tables.hop_step[pitch_from] + change * np.uint64(tables.hop - 1)
    return step


def glide(
    tables: PartialTables,
    phase: Turns,
    pitch_from: int,
    pitch_to: int,
    amplitudes_from: NDArray[np.float32],
    amplitudes_to: NDArray[np.float32],
) -> NDArray[np.float32]:
    """[hop] float32: one hop in which every partial's frequency moves linearly to that of another pitch."""
    loud = np.flatnonzero((amplitudes_from != 0) | (amplitudes_to != 0))
    n = int(loud[-1]) + 1 if len(loud) else 0
    n = min(n, max(tables.n_audible[pitch_from], tables.n_audible[pitch_to]))
    if not n:
        return np.zeros(tables.hop, np.float32)
    partials = np.empty((tables.n_strings, n, 3))
    partials[..., 0] = phase[:, :n] / TURN
    partials[..., 1] = tables.turns[pitch_from, :, :n]
    partials[..., 2] = tables.turns[pitch_to, :, :n] - partials[..., 1]
    ramps = partials.reshape(-1, 3)
    turns = ramps @ tables.glide
    turns -= np.rint(turns)
    angle = turns.astype(np.float32)
    angle *= np.float32(2 * np.pi)
    wave = np.cos(angle, out=angle)
    if n > min(tables.n_audible_everywhere[pitch_from], tables.n_audible_everywhere[pitch_to]):
        wave *= ramps[:, 1:] @ tables.glide_frequency < 0.5
    loudness = np.empty((2, tables.n_strings, n), np.float32)
    loudness[0], loudness[1] = amplitudes_from[:n], amplitudes_to[:n]
    fading = loudness.reshape(2, -1) @ wave
    fading *= tables.fades
    hop: NDArray[np.float32] = fading[0] + fading[1]
    return hop
