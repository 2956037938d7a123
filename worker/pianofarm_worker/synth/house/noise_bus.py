"""The noise of all notes at once: their powers add in bands, and one noise a channel is shaped by the sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled
from pianofarm_worker.synth.house.bands import band_weights
from pianofarm_worker.synth.house.layout import SLOW, Layout
from pianofarm_worker.synth.noise import uniform_noise

Float32Array = NDArray[np.float32]

#: A noise has this many different frames, heard in random order: drawing new ones takes longer than all that is done with them.
N_FRAMES = 512


class NoiseBus:
    """Collects powers frame by frame and plays them in order.

    Frame q covers samples q * hop .. q * hop + window - 1 under a sine window; the windows' squares add up to one.
    """

    def __init__(
        self, layout: Layout, n_channels: int, seed: int, tone: Float32Array | None = None, *, ordered: bool = False
    ) -> None:
        """Start in silence.

        Args:
            layout: of the model.
            n_channels: of the sound.
            seed: of the noise.
            tone: [n_channels, n_bands], full scale^2 per Hz: the room's own, there once however many notes sound; see `tone_from`.
            ordered: hear the noise's frames one after the other: none twice before all were heard.
        """
        bands = layout.bands
        self._tone = tone
        #: Frame from which on the room's own tone is heard; None: not.
        self.tone_from: int | None = None
        self.hop, self._window = bands.hop, bands.window
        self._n_channels, self._seed, self._ordered = n_channels, seed, ordered
        n_bins = bands.window // 2 + 1
        n_words = N_FRAMES * 2 * n_bins
        self._spectra = np.stack([uniform_noise(seed, 0, n_words, stream=channel) for channel in range(n_channels)])
        self._spectra = self._spectra.reshape(n_channels, N_FRAMES, 2 * n_bins)  # real and imaginary parts in turn
        # A density D (per Hz) gives each bin of the inverse transform a variance of D * rate * window / 2; the real and the
        # imaginary part of the random spectrum, uniform in [-1, 1), have a third each. An "ortho" transform divides by the window's
        # root less; NumPy (2.4) is a fifth faster with it.
        scale = layout.sample_rate_hz / 2 * 1.5
        self._weights = band_weights(bands.n_bands, n_bins, layout.sample_rate_hz) * np.float32(scale)
        self._sine = np.sin(np.pi * (np.arange(bands.window) + 0.5) / bands.window).astype(np.float32)
        self._first = 0  # frame that row 0 of the powers is for
        self._power = np.zeros((0, n_channels, bands.n_bands), np.float32)
        #: Gain of noise that is not shaped. [n_bands]
        self.even = np.ones(bands.n_bands, np.float32)
        self._spill = np.zeros((n_channels, bands.window - bands.hop), np.float32)

    def n_frames_before(self, sample: int) -> int:
        """Frames that begin before a sample."""
        return -(-sample // self.hop)

    def frame_at(self, sample: int) -> int:
        """The frame whose beginning is nearest to a sample; its window is still near zero there."""
        return (sample + self.hop // 2) // self.hop

    def add(
        self, frame: int, power: Float32Array, gain: Float32Array | None = None, part: Float32Array | None = None
    ) -> None:
        """Add a note's powers, or the first of them.

        Args:
            frame: the first one's number; not one that was played already.
            power: [n_frames or more, n_channels or more, n_bands], full scale^2 per Hz.
            gain: [n_bands], what each band is multiplied by; None for one.
            part: [n_frames], what each frame is multiplied by; None for one.
        """
        row = frame - self._first
        part = np.ones(len(power), np.float32) if part is None else part
        end = row + len(part)
        if end > len(self._power):
            self._reach(2 * end)
        add_power(self._power[row:end], power, 0, self.even if gain is None else gain, part)

    def add_slow(self, frame: int, power: Float32Array) -> None:
        """Add powers that run straight between every `SLOW` frames.

        Args:
            frame: the first one's number.
            power: [n_slow + 1, n_channels, n_bands].
        """
        row = frame - self._first
        end = row + SLOW * (len(power) - 1)
        if end > len(self._power):
            self._reach(2 * end)
        _add_between(self._power[row:end], power)

    def _reach(self, n_frames: int) -> None:
        """Make room for powers of this many frames."""
        more = np.zeros((n_frames, *self._power.shape[1:]), np.float32)
        more[: len(self._power)] = self._power
        self._power = more

    def play(self, start: int, n_samples: int) -> Float32Array:
        """Noise for samples start .. start + n_samples - 1, each call going on where the last one ended.

        Args:
            start: a multiple of the hop.
            n_samples: a multiple of the hop.

        Returns:
            [n_channels, n_samples] float32.
        """
        n_frames = n_samples // self.hop
        first = start // self.hop
        sound = np.zeros((self._n_channels, n_samples + self._window - self.hop), np.float32)
        sound[:, : self._window - self.hop] = self._spill
        n_tone = 0
        if self._tone is not None and self.tone_from is not None:
            n_tone = max(0, min(n_frames, first + n_frames - self.tone_from))
        if n_tone and len(self._power) < n_frames:
            self._reach(n_frames)
        n_known = min(n_frames, len(self._power))
        if n_tone and self._tone is not None:
            self._power[n_known - n_tone : n_known] += self._tone
        if n_known:
            spectrum = self._power[:n_known] @ self._weights
            order = np.stack([self._order(first, n_known, channel) for channel in range(self._n_channels)])
            coloured = np.empty((*spectrum.shape[:2], 2 * spectrum.shape[2]), np.float32)
            _colour(self._spectra, order, spectrum, coloured)
            grains = np.fft.irfft(coloured.view(np.complex64), self._window, norm="ortho")
            _overlap(np.asarray(grains, np.float32), self._sine, sound)
        self._power = self._power[n_known:]
        self._first = first + n_frames
        self._spill = sound[:, n_samples:].copy()
        return sound[:, :n_samples]

    def _order(self, first: int, n_frames: int, channel: int) -> NDArray[np.int64]:
        """Which of the noise's frames are heard at some frames: a function of seed, channel and frame alone."""
        frame = np.arange(first, first + n_frames)
        if self._ordered:
            return frame % N_FRAMES
        # SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
        word = (frame + (channel << 40)).astype(np.uint64) + np.uint64(self._seed)
        word *= np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray((word ^ (word >> np.uint64(31))) % np.uint64(N_FRAMES), np.int64)


@compiled
def add_power(to: Float32Array, power: Float32Array, first: int, gain: Float32Array, part: Float32Array) -> None:
    """Add frames of a note's noise: to[i] += power[first + i] gain part[i].

    Args:
        to: [n_frames, n_channels, n_bands], full scale^2 per Hz, as `power`.
        power: [n_own_frames, n_channels or more, n_bands].
        first: of its frames.
        gain: [n_bands].
        part: [n_frames].
    """
    for i in range(len(to)):
        for channel in range(to.shape[1]):
            own = power[first + i, channel]
            for band in range(len(gain)):
                to[i, channel, band] += own[band] * gain[band] * part[i]


@compiled
def _add_between(to: Float32Array, power: Float32Array) -> None:
    """Add straight lines from each power to the next.

    Args:
        to: [n_steps * n, n_channels, n_bands].
        power: [n + 1, n_channels, n_bands].
    """
    n_steps = len(to) // (len(power) - 1)
    for i in range(len(to)):
        before, step = divmod(i, n_steps)
        part = np.float32(step / n_steps)
        for channel in range(to.shape[1]):
            for band in range(to.shape[2]):
                low = power[before, channel, band]
                to[i, channel, band] += low + (power[before + 1, channel, band] - low) * part


@compiled
def _colour(white: Float32Array, order: NDArray[np.int64], power: Float32Array, coloured: Float32Array) -> None:
    """Give the frames of a white noise, taken in some order, the powers of a coloured one.

    Args:
        white: [n_channels, N_FRAMES, 2 n_bins], real and imaginary parts in turn.
        order: [n_channels, n_frames], which of them.
        power: [n_frames, n_channels, n_bins].
        coloured: [n_frames, n_channels, 2 n_bins], overwritten.
    """
    n_frames, n_channels, n_bins = power.shape
    for i in range(n_frames):
        for channel in range(n_channels):
            found = white[channel, order[channel, i]]
            for k in range(n_bins):
                amplitude = np.sqrt(power[i, channel, k])
                coloured[i, channel, 2 * k] = found[2 * k] * amplitude
                coloured[i, channel, 2 * k + 1] = found[2 * k + 1] * amplitude


@compiled
def _overlap(grains: Float32Array, window: Float32Array, sound: Float32Array) -> None:
    """Add windowed grains that overlap by half.

    Args:
        grains: [n_frames, n_channels, n_window].
        window: [n_window].
        sound: [n_channels, (n_frames + 1) * n_window / 2 or more], what to add to.
    """
    n_frames, n_channels, n_window = grains.shape
    for channel in range(n_channels):
        for i in range(n_frames):
            half = n_window // 2
            to = sound[channel, i * half : i * half + n_window]
            for t in range(len(to)):
                to[t] += grains[i, channel, t] * window[t]
