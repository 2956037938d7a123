"""The noise of a piano: one white noise, addressed by sample number, filtered by a magnitude response per frame.

Numpy only; no network, no partials, no room. The filter is that of `ddsp.core.frequency_filter`: frequency sampling, a Hann
window over the impulse response, a frame's own noise convolved with a frame's own response, the delay taken out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel

#: Philox gives four 64-bit words a counter step; a sample takes half a word.
_SAMPLES_PER_STEP = 8

#: Samples drawn at a time, where fewer are wanted: making a generator takes as long as 6,000 samples.
_DRAWN = 4096

#: ddsp cuts longer impulse responses to a window of 257 samples; none of the published models has so many bands.
_MAX_BANDS = 129


def uniform_noise(seed: int, first_sample: int, n_samples: int, *, stream: int = 0) -> NDArray[np.float32]:
    """White noise, uniform in [-1, 1): sample number i is a function of seed, stream and i alone (Philox, counter-based).

    Args:
        seed: 0 .. 2**64 - 1.
        first_sample: number of the first sample wanted, from 0.
        n_samples: how many.
        stream: which of the independent noises of this seed (a channel, a note), 0 .. 2**64 - 1.

    Returns:
        [n_samples] float32.
    """
    step, skip = divmod(first_sample, _SAMPLES_PER_STEP)
    generator = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=step)
    words = generator.random_raw(-(-(skip + n_samples) // 2)).view(np.uint32)[skip : skip + n_samples]
    words >>= np.uint32(8)
    noise = words.view(np.int32).astype(np.float32)  # 24 bits: exact in float32, and faster from signed integers
    noise *= np.float32(2.0**-23)
    noise -= np.float32(1)
    return noise


class WhiteNoise:
    """`uniform_noise` of one seed, from its first sample on, for who takes little at a time."""

    def __init__(self, seed: int) -> None:
        self._seed, self._n_drawn = seed, 0
        self._left = np.zeros(0, np.float32)  # drawn and not taken

    def take(self, n_samples: int) -> NDArray[np.float32]:
        """The next samples, [n_samples] float32."""
        missing = n_samples - len(self._left)
        if missing > 0:
            more = uniform_noise(self._seed, self._n_drawn, max(missing, _DRAWN))
            self._n_drawn += len(more)
            self._left = np.concatenate((self._left, more))
        taken, self._left = self._left[:n_samples], self._left[n_samples:]
        return taken


def summed_magnitudes(magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The response of one noise as loud as one noise per voice: independent noises add in power.

    Args:
        magnitudes: [n_voices, n_frames, n_bands], linear, >= 0.

    Returns:
        [n_frames, n_bands] float32.
    """
    power: NDArray[np.float32] = np.einsum("vfb,vfb->fb", magnitudes, magnitudes)
    return np.sqrt(power)


class FilteredNoise:
    """The noise part of one render, fed frame by frame in order; chunks as `additive.Additive` takes and gives them."""

    def __init__(self, n_bands: int, hop: int, seed: int) -> None:
        """Start before the first sample.

        Args:
            n_bands: bands of the responses, evenly spaced from 0 Hz to half the sample rate, both included.
            hop: samples a frame, at least n_bands - 3.
            seed: of `WhiteNoise`.

        Raises:
            BadModel: bands and hop do not go together.
        """
        if not 3 <= n_bands <= min(_MAX_BANDS, hop + 3):
            raise BadModel(
                f"{n_bands} noise bands at {hop} samples a frame: needed are 3 to {min(_MAX_BANDS, hop + 3)}"
            )
        self._hop = hop
        self._noise = WhiteNoise(seed)
        length = 2 * (n_bands - 1)
        self._n_hops = -(-(hop + length - 1) // hop)  # hops that a filtered frame reaches over
        self._filter = _filter_matrix(n_bands, self._n_hops * hop)
        self._reach = np.zeros((self._n_hops - 1, hop), np.float32)  # what the frames so far add to hops to come
        # The response peaks at length / 2; ddsp takes out two samples less than that.
        self._delay = n_bands - 3
        self._held: NDArray[np.float32] | None = None  # finished samples of the hop after the last frame

    def push(self, magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Synthesize up to the newest frame.

        Args:
            magnitudes: [n_frames, n_bands], linear, >= 0 (see `summed_magnitudes`).

        Returns:
            [n_samples] float32: a hop for every frame, one less for the first chunk; `finish` gives the hop after the last frame.
        """
        n_frames = len(magnitudes)
        if not n_frames:
            return np.zeros(0, np.float32)
        noise = self._noise.take(n_frames * self._hop)
        response = (magnitudes @ self._filter).view(np.complex64)
        spectrum = np.fft.rfft(noise.reshape(n_frames, self._hop), self._n_hops * self._hop)
        filtered = np.fft.irfft(spectrum * response, self._n_hops * self._hop).reshape(
            n_frames, self._n_hops, self._hop
        )
        hops = np.zeros((n_frames + self._n_hops - 1, self._hop), np.float32)
        hops[: self._n_hops - 1] = self._reach
        for offset in range(self._n_hops):
            hops[offset : offset + n_frames] += filtered[:, offset]
        self._reach = hops[n_frames:].copy()
        samples = hops[:n_frames].reshape(-1)
        samples = samples[self._delay :] if self._held is None else np.concatenate((self._held, samples))
        n_held = self._hop - self._delay
        self._held = samples[-n_held:].copy()
        return samples[:-n_held]

    def finish(self) -> NDArray[np.float32]:
        """The last hop, [hop] float32."""
        held = np.zeros(0, np.float32) if self._held is None else self._held
        return np.concatenate((held, self._reach[0, : self._delay]))


def _filter_matrix(n_bands: int, n_fft: int) -> NDArray[np.float32]:
    """[n_bands, n_fft + 2]: magnitudes times this are the spectrum of the windowed impulse response, re and im in turn."""
    length = 2 * (n_bands - 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    responses = np.roll(np.fft.irfft(np.eye(n_bands), length, axis=1), length // 2, axis=1) * window
    return np.fft.rfft(responses, n_fft, axis=1).astype(np.complex64).view(np.float32)
