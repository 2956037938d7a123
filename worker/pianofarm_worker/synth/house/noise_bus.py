"""The noise of all notes at once: their powers add in bands, and one noise a channel is shaped by the sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.bands import band_weights
from pianofarm_worker.synth.house.layout import Layout
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
        self._spectra = [
            uniform_noise(seed, 0, N_FRAMES * 2 * n_bins, stream=channel).view(np.complex64).reshape(N_FRAMES, n_bins)
            for channel in range(n_channels)
        ]
        # A density D (per Hz) gives each bin of the inverse transform a variance of D * rate * window / 2; the real and the
        # imaginary part of the random spectrum, uniform in [-1, 1), have a third each.
        scale = layout.sample_rate_hz * bands.window / 2 * 1.5
        self._weights = band_weights(bands.n_bands, n_bins, layout.sample_rate_hz) * np.float32(scale)
        self._sine = np.sin(np.pi * (np.arange(bands.window) + 0.5) / bands.window).astype(np.float32)
        self._first = 0  # frame that row 0 of the powers is for
        self._power = np.zeros((n_channels, 0, bands.n_bands), np.float32)
        self._spill = np.zeros((n_channels, bands.window - bands.hop), np.float32)

    def n_frames_before(self, sample: int) -> int:
        """Frames that begin before a sample."""
        return -(-sample // self.hop)

    def frame_at(self, sample: int) -> int:
        """The frame whose beginning is nearest to a sample; its window is still near zero there."""
        return (sample + self.hop // 2) // self.hop

    def add(self, frame: int, power: Float32Array) -> None:
        """Add a note's powers.

        Args:
            frame: the first one's number; not one that was played already.
            power: [n_channels, n_frames, n_bands], full scale^2 per Hz.
        """
        row = frame - self._first
        end = row + power.shape[1]
        if end > self._power.shape[1]:
            self._reach(2 * end)
        self._power[:, row:end] += power

    def _reach(self, n_frames: int) -> None:
        """Make room for powers of this many frames."""
        more = np.zeros((self._n_channels, n_frames, self._power.shape[2]), np.float32)
        more[:, : self._power.shape[1]] = self._power
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
        if n_tone and self._power.shape[1] < n_frames:
            self._reach(n_frames)
        n_known = min(n_frames, self._power.shape[1])
        if n_tone and self._tone is not None:
            self._power[:, n_known - n_tone : n_known] += self._tone[:, None]
        if n_known:
            for channel, spectra in enumerate(self._spectra):
                amplitude = self._power[channel, :n_known] @ self._weights
                spectrum = spectra[self._order(first, n_known, channel)]
                spectrum *= np.sqrt(amplitude, out=amplitude)
                grains = np.fft.irfft(spectrum, self._window, axis=1) * self._sine
                half = self.hop
                sound[channel, : n_known * half] += grains[:, :half].ravel()
                sound[channel, half : (n_known + 1) * half] += grains[:, half:].ravel()
        self._power = self._power[:, n_known:]
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
