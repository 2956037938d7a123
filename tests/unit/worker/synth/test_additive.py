import itertools
from fractions import Fraction

import numpy as np
import pytest

from pianofarm_worker.synth.additive import Additive, turn
from pianofarm_worker.synth.partials import PartialTables

HOP, RATE, N_PARTIALS = 64, 16_000, 24


@pytest.fixture(scope="module")
def tables():
    return make_tables()


def make_tables(n_strings=2, n_partials=N_PARTIALS, hop=HOP, rate=RATE):
    pitch = np.arange(128)[:, None]
    detune = np.linspace(-0.01, 0.01, n_strings) if n_strings > 1 else np.zeros(1)
    f0_hz = 440 * 2 ** ((pitch - 69 + detune) / 12)
    inharmonicity = np.exp(9.26e-2 * pitch[:, 0] - 13.64) + np.exp(-8.47e-2 * pitch[:, 0] - 5.82)
    return PartialTables(f0_hz, inharmonicity, n_partials=n_partials, hop=hop, sample_rate_hz=rate)


def performance(n_voices=3, n_frames=40, n_partials=N_PARTIALS, seed=1, keys=(0, 21, 40, 60, 75, 90, 108)):
    """Random pitches held for a while, some voices silent at first, random amplitudes."""
    random = np.random.default_rng(seed)
    pitch = np.zeros((n_voices, n_frames), np.int64)
    for voice in range(n_voices):
        frame = int(random.integers(0, n_frames // 4))
        while frame < n_frames:
            held = int(random.integers(1, 15))
            pitch[voice, frame : frame + held] = random.choice(keys)
            frame += held
    amplitudes = random.random((n_voices, n_frames, n_partials)).astype(np.float32)
    amplitudes[pitch == 0] = 0
    return pitch, amplitudes


def render(tables, pitch, amplitudes, chunks=None):
    synth = Additive(tables, len(pitch))
    bounds = np.cumsum([0, *(chunks or [pitch.shape[1]])])
    audio = [synth.push(pitch[:, start:end], amplitudes[:, start:end]) for start, end in itertools.pairwise(bounds)]
    return np.concatenate([*audio, synth.finish()])


def direct_sum(tables, pitch, amplitudes):
    """Every oscillator sample by sample in double precision: the definition."""
    n_samples = pitch.shape[1] * tables.hop
    audio = np.zeros(n_samples)
    part = np.arange(tables.hop) / tables.hop
    fade_in = (1 - np.cos(np.pi * part)) / 2

    def held(frames):
        return np.concatenate((frames[1:], frames[-1:]))

    for voice in range(len(pitch)):
        loud = amplitudes[voice].astype(np.float64)[:, None, :]
        envelope = (loud * (1 - fade_in)[:, None] + held(loud) * fade_in[:, None]).reshape(n_samples, -1)
        for string in range(tables.n_strings):
            turns = tables.turns[pitch[voice], string][:, None, :]
            frequency = (turns + (held(turns) - turns) * part[:, None]).reshape(n_samples, -1)
            wave = np.cos(2 * np.pi * np.mod(np.cumsum(frequency, axis=0), 1.0))
            audio += (np.where(frequency < 0.5, envelope, 0) * wave).sum(axis=1) / tables.n_strings
    return audio


def relative_rms(audio, expected):
    return np.sqrt(np.mean((audio - expected) ** 2)) / np.abs(expected).max()


@pytest.mark.parametrize(
    ("n_strings", "hop", "rate"), [(1, 32, 8_000), (2, 64, 16_000), (1, 96, 24_000), (3, 128, 32_000)]
)
def test_it_equals_the_direct_sum_of_every_oscillator(n_strings, hop, rate):
    tables = make_tables(n_strings, hop=hop, rate=rate)
    pitch, amplitudes = performance(seed=hop)
    audio = render(tables, pitch, amplitudes)
    assert audio.dtype == np.float32
    assert relative_rms(audio, direct_sum(tables, pitch, amplitudes)) < 2e-7


def test_after_ten_minutes_the_phase_is_still_exact(tables):
    block = 250
    n_frames = 600 * block
    pitch = np.full((1, block), 69)
    partial = np.zeros((1, block, N_PARTIALS), np.float32)
    synth = Additive(tables, 1)
    synth.push(np.full((1, block), 44), partial)
    for _ in range(n_frames // block - 1):
        synth.push(pitch, partial)
    partial[..., 2] = 1
    synth.push(pitch, partial)
    audio = synth.push(pitch, partial)

    first = n_frames * HOP + (block - 1) * HOP  # number of the first sample of the last chunk
    expected = np.zeros(len(audio))
    for string in range(2):
        before, after = (Fraction(float(tables.turns[key, string, 2])) for key in (44, 69))
        glide = HOP * before + (after - before) * Fraction(HOP - 1, 2)
        start = ((block - 1) * HOP * before + glide + (first - block * HOP + 1) * after) % 1
        expected += np.cos(2 * np.pi * (float(start) + float(after) * np.arange(len(audio)))) / 2
    assert relative_rms(audio, expected) < 2e-7


def test_partials_above_half_the_sample_rate_stay_silent(tables):
    pitch = np.full((1, 4), 108)
    amplitudes = np.zeros((1, 4, N_PARTIALS), np.float32)
    amplitudes[..., 3:] = 1  # 4 x 4186 Hz is above 8 kHz already
    assert not render(tables, pitch, amplitudes).any()


@pytest.mark.parametrize("chunks", [[1] * 40, [7, 13, 1, 19], [39, 1]])
def test_chunks_change_nothing_but_float_rounding(tables, chunks):
    pitch, amplitudes = performance()
    whole = render(tables, pitch, amplitudes)
    assert relative_rms(render(tables, pitch, amplitudes, chunks), whole) < 2e-7


def test_the_same_chunks_give_the_same_bytes(tables):
    pitch, amplitudes = performance()
    again = make_tables()
    assert render(tables, pitch, amplitudes, [20, 20]).tobytes() == render(again, pitch, amplitudes, [20, 20]).tobytes()


def test_every_frame_becomes_a_hop(tables):
    pitch, amplitudes = performance(n_frames=11)
    synth = Additive(tables, len(pitch))
    assert len(synth.push(pitch[:, :5], amplitudes[:, :5])) == 4 * HOP
    assert len(synth.push(pitch[:, 5:5], amplitudes[:, 5:5])) == 0
    assert len(synth.push(pitch[:, 5:], amplitudes[:, 5:])) == 6 * HOP
    assert len(synth.finish()) == HOP


def test_voices_add_up(tables):
    pitch, amplitudes = performance()
    together = render(tables, pitch, amplitudes)
    apart = sum(render(tables, pitch[v : v + 1], amplitudes[v : v + 1]).astype(np.float64) for v in range(len(pitch)))
    assert relative_rms(together, apart) < 2e-7


def test_it_equals_the_oscillators_of_ddsp(ddsp_core):
    import tensorflow as tf

    # ddsp adds phases in single precision (1e-4 rad after 700 samples), so low partials and few frames; its own bank takes the sine.
    tables = make_tables(n_partials=8)
    pitch, amplitudes = performance(n_frames=12, n_partials=8, keys=(0, 21, 33, 45, 57))
    expected = np.zeros(12 * HOP)
    for voice in range(len(pitch)):
        for string in range(2):
            frequency_hz = (tables.turns[pitch[voice], string] * RATE).astype(np.float32)[None]
            frequency = ddsp_core.resample(frequency_hz, 12 * HOP)
            envelope = ddsp_core.resample(amplitudes[voice][None] / 2, 12 * HOP, method="window")
            phase = ddsp_core.angular_cumsum(frequency * (2 * np.pi) / RATE)
            expected += tf.reduce_sum(envelope * tf.cos(phase), axis=-1).numpy()[0]
    assert relative_rms(render(tables, pitch, amplitudes), expected) < 2e-4


def test_whatever_arrays_a_backend_gives_the_loop_is_one_program_and_gives_the_same_bytes(tables):
    """Another layout or type would make Numba compile another one, in the middle of a render."""
    pitch, amplitudes = performance()
    protected = amplitudes.copy()
    protected.flags.writeable = False
    spread = np.zeros((*amplitudes.shape[:2], 2 * N_PARTIALS), np.float32)[..., ::2]
    spread[:] = amplitudes
    kinds = [amplitudes, protected, np.asfortranarray(amplitudes), amplitudes.astype(np.float64), spread]

    assert len({render(tables, pitch, kind).tobytes() for kind in kinds}) == 1
    assert amplitudes.flags.writeable
    assert len(turn.signatures) == 1
