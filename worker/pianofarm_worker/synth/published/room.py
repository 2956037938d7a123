"""The room of a piano of a published model, as the one impulse response that the dry sound is convolved with. No audio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.feedback_delay import FeedbackDelayNetwork
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.reverb import with_dry


def impulse_response(
    config: PublishedConfig, weights: dict[str, NDArray[np.float32]], piano: int
) -> NDArray[np.float32]:
    """[n_samples, 1]: dry and wet together."""
    ir = learned_response(config, weights, piano)
    return (with_dry(ir) if config.reverb.adds_dry else ir)[:, None]


def learned_response(
    config: PublishedConfig, weights: dict[str, NDArray[np.float32]], piano: int
) -> NDArray[np.float32]:
    """[n_samples], the response that the model learned; whether it holds the dry sound depends on the configuration."""
    room = config.reverb
    if room.kind == "impulse_response":
        learned: NDArray[np.float32] = weights["reverb/ir"][piano]
        return learned
    own = {name.removeprefix("reverb/"): w[piano] for name, w in weights.items() if name.startswith("reverb/")}
    shape = room.n_lines, 4
    # In a table of pianos the allpasses vary slowest.
    allpasses = {
        name: own[name].reshape(shape) if room.learned_delays else own[name].reshape(shape[::-1]).T
        for name in ("allpass_gain", "allpass_delay")
    }
    return FeedbackDelayNetwork(
        input_gain=own["input_gain"],
        output_gain=own["output_gain"],
        delay_samples=own["delay"] if room.learned_delays else np.array(room.fixed_delays, np.float32),
        allpass_gain=allpasses["allpass_gain"],
        allpass_delay_samples=allpasses["allpass_delay"],
        reverberation_time_s=max(float(own["reverberation_s"]), 0.0),
        tone=float(own["tone"]),
        early_ir=own["early"],
    ).impulse_response(config.sample_rate_hz)
