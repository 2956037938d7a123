import io
import time

import numpy as np
import pytest
import soundfile

from pianofarm_common.errors import BadOption
from pianofarm_worker import containers
from pianofarm_worker.containers import write_flac, write_ogg, write_wav

RATE = 24_000


def tone(n_samples=RATE, n_channels=2):
    t = np.arange(n_samples)[:, None] / RATE
    return (0.5 * np.sin(2 * np.pi * 440 * t * np.arange(1, n_channels + 1))).astype(np.float32)


def read(data):
    return soundfile.read(io.BytesIO(data), dtype="float64", always_2d=True)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize(
    ("write", "sample_format", "step"),
    [
        (write_wav, "pcm16", 2.0**-15),
        (write_wav, "pcm24", 2.0**-23),
        (write_flac, "pcm16", 2.0**-15),
        (write_flac, "pcm24", 2.0**-23),
    ],
)
def test_pcm_files_hold_every_sample_to_half_a_step(write, sample_format, step, n_channels):
    samples = tone(70_001, n_channels)
    decoded, rate = read(write(samples, RATE, sample_format))
    assert rate == RATE
    assert decoded.shape == samples.shape
    assert np.abs(decoded - samples).max() <= step / 2


def test_a_float_wav_holds_every_sample_exactly_even_beyond_full_scale():
    samples = 3 * tone()
    data = write_wav(samples, RATE, "float32")
    assert soundfile.info(io.BytesIO(data)).subtype == "FLOAT"
    assert (read(data)[0] == samples).all()


@pytest.mark.parametrize(("write", "largest"), [(write_wav, 32767 / 32768), (write_flac, 32767 / 32768)])
def test_samples_beyond_full_scale_clip_instead_of_wrapping(write, largest):
    decoded, _ = read(write(np.array([[2.0], [1.0], [-1.0], [-2.0]], np.float32), RATE, "pcm16"))
    assert decoded[:, 0].tolist() == [largest, largest, -1, -1]


def test_ties_are_rounded_to_even():
    halves = np.array([[0.5], [1.5], [2.5], [-0.5], [-1.5]], np.float32) / 32768
    assert (read(write_wav(halves, RATE, "pcm16"))[0][:, 0] * 32768).tolist() == [0, 2, 2, 0, -2]


def test_an_odd_number_of_bytes_is_padded():
    data = write_wav(np.zeros((1, 1), np.float32), RATE, "pcm24")
    assert len(data) % 2 == 0
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert read(data)[0].shape == (1, 1)


def test_the_same_samples_give_the_same_bytes_at_any_time():
    samples = tone(5_000)

    def write_all():
        return write_wav(samples, RATE, "float32"), write_flac(samples, RATE, "pcm24"), write_ogg(samples, RATE)

    first = write_all()
    time.sleep(1.01)  # libsndfile's stamps count seconds
    assert write_all() == first


@pytest.mark.parametrize("n_channels", [1, 2])
def test_ogg_sounds_like_the_samples(n_channels):
    samples = tone(70_001, n_channels)
    decoded, rate = read(write_ogg(samples, RATE))
    assert rate == RATE
    assert decoded.shape == samples.shape
    assert np.sqrt(np.mean((decoded - samples) ** 2)) < 0.03 * np.sqrt(np.mean(samples**2))


def test_a_wav_beyond_four_gibibytes_is_refused_before_it_is_made():
    endless = np.broadcast_to(np.zeros((1, 2), np.float32), (1 << 29, 2))
    with pytest.raises(BadOption, match=r"4294967296 bytes of audio: a WAV file holds 4 GiB \(ask for flac"):
        write_wav(endless, RATE, "float32")


def test_flac_has_no_float_samples():
    with pytest.raises(BadOption, match="sample_format=float32: flac stores pcm16 or pcm24"):
        write_flac(tone(), RATE, "float32")


def test_every_format_has_a_media_type():
    assert set(containers.MEDIA_TYPES) == {"wav", "flac", "ogg"}
