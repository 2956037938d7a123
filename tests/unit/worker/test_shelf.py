"""The shelf keeps the precisions of a model apart, and asks for one only where it matters."""

from pianofarm_common.models import find_model
from pianofarm_worker.shelf import Shelf


def test_a_model_is_loaded_once_in_every_precision_asked_for(tmp_path):
    asked = []

    def load(info, **options):
        asked.append((info.name, options))
        return object()

    model = find_model("default", tmp_path)
    shelf = Shelf(None, tmp_path, load)
    first, half, again = (shelf.piano(model.digest, p) for p in ("float32", "bfloat16", "float32"))
    assert first is again
    assert first is not half
    assert asked == [(model.name, {}), (model.name, {"precision": "bfloat16"})]


def test_the_default_model_is_warmed_as_its_renders_will_ask_for_it(tmp_path):
    asked = []
    shelf = Shelf(None, tmp_path, lambda info, **options: asked.append(options))
    assert find_model("default", tmp_path).architecture == "house"
    shelf.warm("default", "bfloat16")
    assert asked == [{}]
