import pytest

from pianofarm_common.errors import BadOption
from pianofarm_common.renders import RenderOptions


def test_a_sample_format_that_the_file_cannot_hold_is_refused_before_anything_is_made():
    with pytest.raises(BadOption, match=r"^sample_format='float32': flac stores pcm16 or pcm24"):
        RenderOptions.parse(format="flac", sample_format="float32")
    with pytest.raises(BadOption, match=r"^sample_format='pcm24': ogg \(Vorbis\) stores no samples"):
        RenderOptions.parse(format="ogg", sample_format="pcm24")


@pytest.mark.parametrize(("container", "sample_format"), [("flac", "pcm24"), ("wav", "float32"), ("ogg", "pcm16")])
def test_the_others_fit(container, sample_format):
    assert RenderOptions.parse(format=container, sample_format=sample_format).format == container
