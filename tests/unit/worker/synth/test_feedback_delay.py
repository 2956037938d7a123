import numpy as np
import pytest

from pianofarm_common.errors import BadModel
from pianofarm_worker.synth.feedback_delay import FeedbackDelayNetwork
from pianofarm_worker.synth.reverb import Convolver, with_dry

FIXED_DELAYS = (233, 311, 421, 461, 587, 613, 789, 891)


def small_room(**changes):
    random = np.random.default_rng(3)
    room = {
        "input_gain": random.normal(0.25, 0.1, 4),
        "output_gain": random.normal(0.25, 0.1, 4),
        "delay_samples": np.array([23.0, 31.0, 37.0, 41.0]),
        "allpass_gain": random.normal(0.25, 0.1, (4, 2)),
        "allpass_delay_samples": np.array([[7.0, 11], [5, 13], [3, 17], [2, 19]]),
        "early_ir": random.normal(0, 0.1, 30),
    }
    room = {name: np.asarray(changes.get(name, value), np.float32) for name, value in room.items()}
    return FeedbackDelayNetwork(**room, reverberation_time_s=changes.get("time_s", 0.05), tone=changes.get("tone", 0.3))


def run_in_time(room, rate_hz, n_samples):
    """The same network as difference equations, sample by sample: whole delays only."""
    lines = len(room.delay_samples)
    delays, allpass_delays = room.delay_samples.astype(int), room.allpass_delay_samples.astype(int)
    loop_s = (room.delay_samples + room.allpass_delay_samples.sum(axis=1)).astype(np.float64) / rate_hz
    low = 10 ** (-3 * loop_s / room.reverberation_time_s)
    high = 10 ** (-3 * loop_s * (1 + np.exp(-room.tone)) / room.reverberation_time_s)
    gain, pole = 2 * low * high / (low + high), (low - high) / (low + high)
    fed, damped, heard = (np.zeros((n_samples, lines)) for _ in range(3))
    chain = np.zeros((n_samples, lines, allpass_delays.shape[1] + 1))
    mixing = 0.5 - np.eye(lines)
    for t in range(n_samples):
        for line in range(lines):
            back = t - delays[line]
            heard[t, line] = fed[back, line] if back >= 0 else 0
            chain[t, line, 0] = heard[t, line]
            for stage, (g, d) in enumerate(zip(room.allpass_gain[line], allpass_delays[line], strict=True)):
                past_in, past_out = (chain[t - d, line, stage + i] if t >= d else 0 for i in (0, 1))
                chain[t, line, stage + 1] = g * chain[t, line, stage] + past_in - g * past_out
        damped[t] = gain * (mixing @ chain[t, :, -1]) + pole * (damped[t - 1] if t else 0)
        fed[t] = damped[t] + (room.input_gain if t == 0 else 0)
    late = heard @ room.output_gain
    late[: len(room.early_ir)] += room.early_ir
    return late


def test_it_equals_the_network_run_sample_by_sample():
    room = small_room()
    expected = run_in_time(room, 4_000, 2_000)
    assert np.abs(expected[1500:]).max() < 1e-6  # all of it is over before the response folds back
    response = room.impulse_response(4_000)
    assert response.shape == (8_000,)
    assert np.abs(response[:2_000] - expected).max() < 2e-5
    assert np.abs(response[2_000:]).max() < 2e-5


def test_a_fraction_of_a_sample_delays_by_a_fraction():
    alone = {"early_ir": np.zeros(1), "input_gain": [1, 0, 0, 0], "output_gain": [1, 0, 0, 0], "time_s": 0.02}
    whole = small_room(**alone).impulse_response(4_000)
    later = small_room(**alone, delay_samples=[23.25, 31, 37, 41]).impulse_response(4_000)
    phase = np.unwrap(np.angle(np.fft.rfft(later) / np.fft.rfft(whole)))
    frequency = 2 * np.pi * np.arange(len(phase)) / 8_000
    assert phase[200] / frequency[200] == pytest.approx(-0.25, abs=0.01)


def test_a_longer_reverberation_time_rings_longer():
    short, long = (small_room(time_s=time_s).impulse_response(4_000) for time_s in (0.1, 0.4))
    assert np.abs(long[1200:1600]).max() > 10 * np.abs(short[1200:1600]).max()


def test_a_room_without_reverberation_time_is_refused():
    with pytest.raises(BadModel, match="a reverberation time of 0 s"):
        small_room(time_s=0.0).impulse_response(4_000)


def relative_rms(audio, expected):
    return float(np.sqrt(np.mean((audio - expected) ** 2) / np.mean(expected**2)))


def convolve(dry, ir):
    room = Convolver(ir[:, None])
    return np.concatenate((room.push(dry[:, None]), room.finish(tail=False)))[:, 0]


def checkpoint(folder):
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder))
    return lambda name: reader.get_tensor(f"model/{name}/.ATTRIBUTES/VARIABLE_VALUE")


def test_it_is_the_room_of_the_published_maestro_architecture(shared):
    folder = shared / "parity" / "maestro-v2-random"
    variable = checkpoint(folder)
    with np.load(folder / "expected.npz") as original:
        piano = int(original["piano_model"])
        ir, dry, wet = (original[name] for name in ("reverb_ir", "dry1", "wet1"))
    own = {
        name: variable(f"reverb_model/_{name}/embeddings")[piano]
        for name in (
            "input_gain",
            "output_gain",
            "gain_allpass",
            "delays_allpass",
            "time_rev_0_sec",
            "alpha_tone",
            "early_ir",
        )
    }
    response = FeedbackDelayNetwork(
        input_gain=own["input_gain"],
        output_gain=own["output_gain"],
        delay_samples=np.array(FIXED_DELAYS, np.float32),
        allpass_gain=own["gain_allpass"].reshape(4, 8).T,
        allpass_delay_samples=own["delays_allpass"].reshape(4, 8).T,
        reverberation_time_s=float(own["time_rev_0_sec"][0]),
        tone=float(own["alpha_tone"][0]),
        early_ir=own["early_ir"],
    ).impulse_response(24_000)
    assert relative_rms(response, ir) < 2e-4
    assert relative_rms(convolve(dry, with_dry(response)), wet) < 1e-3


# The wet sounds were made with a transform whose own error is 8e-4 to 1.04e-3 of them: the dafx22 fixtures, whose response is
# given, show the same kind of error. The response itself is far better than these bounds.
@pytest.mark.parametrize(
    ("name", "rate_hz", "bound"), [("ENSTDkCl-8kHz", 8_000, 1e-3), ("ENSTDkCl-32kHz", 32_000, 1.1e-3)]
)
def test_it_is_the_room_of_the_published_enstdkcl_architectures(shared, name, rate_hz, bound):
    folder = shared / "parity" / f"{name}-random"
    variable = checkpoint(folder)
    with np.load(folder / "expected.npz") as original:
        dry, wet = original["dry1"], original["wet1"]
    network = "processor_group/DelayNetwork"
    response = FeedbackDelayNetwork(
        input_gain=variable(f"{network}/Input gain"),
        output_gain=variable(f"{network}/Output gain"),
        delay_samples=variable(f"{network}/Delay values"),
        allpass_gain=variable(f"{network}/Allpass filters gains"),
        allpass_delay_samples=variable(f"{network}/Delay allpass"),
        reverberation_time_s=float(variable(f"{network}/Reverberation time (s) at 0 Hz")),
        tone=float(variable(f"{network}/_alpha_tone")),
        early_ir=variable(f"{network}/Early ir"),
    ).impulse_response(rate_hz)
    assert relative_rms(convolve(dry, response), wet) < bound
