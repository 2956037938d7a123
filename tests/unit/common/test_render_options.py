import hashlib
import json

import pytest

from pianofarm_common.errors import BadOption
from pianofarm_common.renders import RenderOptions, RenderSpec


def test_a_sample_format_that_the_file_cannot_hold_is_refused_before_anything_is_made():
    with pytest.raises(BadOption, match=r"^sample_format='float32': flac stores pcm16 or pcm24"):
        RenderOptions.parse(format="flac", sample_format="float32")
    with pytest.raises(BadOption, match=r"^sample_format='pcm24': ogg \(Vorbis\) stores no samples"):
        RenderOptions.parse(format="ogg", sample_format="pcm24")


@pytest.mark.parametrize(("container", "sample_format"), [("flac", "pcm24"), ("wav", "float32"), ("ogg", "pcm16")])
def test_the_others_fit(container, sample_format):
    assert RenderOptions.parse(format=container, sample_format=sample_format).format == container


def spec_json(options):
    """A message as clients wrote it before there was an option for the room."""
    return json.dumps(
        {
            "performance_sha256": "a" * 64,
            "model_digest": "b" * 64,
            "model_name": "m",
            "options": options,
            "audio_s": 1.0,
        }
    )


def test_what_was_written_before_the_room_was_an_option_keeps_its_meaning_and_its_key():
    earlier = {
        "piano": None,
        "sample_rate_hz": None,
        "channels": None,
        "format": "wav",
        "sample_format": "pcm16",
        "normalize_dbfs": None,
        "normalize_lufs": None,
        "duration_s": None,
        "warm_up_s": 0.5,
        "tail": True,
        "dry": False,
    }
    spec = RenderSpec.model_validate_json(spec_json(earlier))
    hashed = {"performance": "a" * 64, "model": "b" * 64, "options": earlier, "engine": spec.engine}

    assert spec.options == RenderOptions()
    assert spec.key == hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_another_part_of_the_room_is_another_render():
    keys = [RenderSpec.model_validate_json(spec_json(o)).key for o in ({}, {"room": 1}, {"room": 0.5}, {"room": 0})]

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("value", [-0.1, 2.5, float("nan"), float("inf"), "wet"])
def test_no_part_of_a_room_is_refused_with_what_was_given_and_what_may_be(value):
    with pytest.raises(BadOption, match=r"^room=.*(greater than|less than|valid number).*options: piano,.*room"):
        RenderOptions.parse(room=value)
