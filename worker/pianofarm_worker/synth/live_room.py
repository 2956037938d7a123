"""The room of a live piano: convolution without delay, the same small work for every block. Numpy only.

Partitions of one block, with the spectra of the blocks before kept (Gardner, "Efficient convolution without input-output delay",
JAES 43(3), 1995, with equal partitions). Growing partitions would save half of the products and put the work of a long one into
a single block; here a response of 1.5 s at 16 kHz in blocks of 8 ms is 188 partitions of 129 bins, 24,000 products a block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class LiveRoom:
    """A room that answers block by block; as `reverb.Convolver`, but for the waiting."""

    def __init__(self, ir: NDArray[np.float32], block: int) -> None:
        """Start in a silent room.

        Args:
            ir: [n_samples, n_channels] impulse response, the dry sound in it or not.
            block: samples of every push.
        """
        n_samples, n_channels = ir.shape
        n_parts = -(-n_samples // block)
        padded = np.zeros((n_channels, n_parts * block), np.float32)
        padded[:, :n_samples] = ir.T
        spectra = np.fft.rfft(padded.reshape(n_channels, n_parts, block), 2 * block).astype(np.complex64)
        # Twice the same, latest part first: wherever the ring of heard blocks begins, its parts lie side by side in here.
        self._response = np.concatenate((spectra, spectra), axis=1)[:, ::-1].copy()  # [channel, part, bin]
        self._heard = np.zeros((n_channels, n_parts, block + 1), np.complex64)  # ring: spectra of the newest blocks
        self._products = np.empty_like(self._heard)
        self._newest = 0
        self._n_parts, self._block = n_parts, block
        self._samples = np.zeros((n_channels, 2 * block), np.float32)  # the block before and this one

    def push(self, dry: NDArray[np.float32]) -> NDArray[np.float32]:
        """One block [block, n_channels] in, or [block, 1] for every channel; one block [block, n_channels] out."""
        block, samples = self._block, self._samples
        samples[:, :block] = samples[:, block:]
        samples[:, block:] = dry.T
        self._newest = (self._newest + 1) % self._n_parts
        self._heard[:, self._newest] = np.fft.rfft(samples)
        # Ring place r holds the block that is (newest - r) mod n_parts old.
        first = self._n_parts - 1 - self._newest
        np.multiply(self._heard, self._response[:, first : first + self._n_parts], out=self._products)
        wet = np.fft.irfft(self._products.sum(axis=1), 2 * block)[:, block:]
        return np.ascontiguousarray(wet.T, np.float32)
