"""Several pieces at once give what each gives alone, to the byte; and how far half the precision moves the controls."""

import contextlib
import dataclasses
import io
import shutil
from functools import partial

import numpy as np
import pretty_midi
import pytest

from pianofarm_common.errors import BadOption, Cancelled
from pianofarm_common.ledger import Claim
from pianofarm_common.midi import MidiLimits, Performance, read_performance
from pianofarm_common.renders import PriorityClass, RenderOptions, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_common.storage import LocalBlobStore, midi_object
from pianofarm_worker.pulse import Hold
from pianofarm_worker.stopping import StopSign
from pianofarm_worker.synth.piano import BatchRequest
from pianofarm_worker.synth.published.checkpoints import write_model

from .conftest import SMALL, random_weights

#: As the later models: nothing is normalised over the performance.
ONE_PASS = dataclasses.replace(
    SMALL,
    name="one-pass",
    context=dataclasses.replace(SMALL.context, kind="film"),
    monophonic=dataclasses.replace(SMALL.monophonic, kind="stacks", n_layers=2, normalize=False),
)
N_PLACES = 3


@pytest.fixture(scope="module", params=["two passes", "one pass"])
def info(request, small_model, tmp_path_factory):
    if request.param == "two passes":
        return small_model
    folder = tmp_path_factory.mktemp("one-pass") / "one-pass"
    return write_model(folder, "one-pass", ONE_PASS, random_weights(ONE_PASS))


@pytest.fixture(scope="module")
def piano(info):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    return PublishedPiano(info, batch_size=N_PLACES, chunk_frames=100)


def performance(n_notes, first_pitch=40):
    onset_s = 0.1 + 0.2 * np.arange(n_notes)
    return Performance(
        onset_s=onset_s,
        offset_s=onset_s + 0.3,
        pitch=(first_pitch + 5 * np.arange(n_notes) % 40).astype(np.uint8),
        velocity=np.full(n_notes, 80, np.uint8),
        control_s=np.array([0.2, 0.4]),
        control_number=np.array([64, 64], np.uint8),
        control_value=np.array([127, 0], np.uint8),
    )


def request(n_notes, seed, **options):
    return BatchRequest(
        performance(n_notes, 30 + 4 * seed), RenderOptions(**{"warm_up_s": 0.1, "dry": True, **options}), seed
    )


REQUESTS = [
    request(2, 1),
    request(9, 2),
    request(0, 3, tail=False, warm_up_s=0.0),
    request(5, 4, tail=False, duration_s=0.7),
    request(3, 5, piano=0),
]


def the_bytes(rendering):
    return rendering.dry.tobytes(), rendering.wet.tobytes()


def test_pieces_of_unequal_length_give_the_bytes_that_each_gives_alone(piano):
    alone = [piano.render(r.performance, r.options, seed=r.seed) for r in REQUESTS]
    together = piano.render_batch(REQUESTS)
    assert [the_bytes(r) for r in together] == [the_bytes(r) for r in alone]
    assert len(alone[2].wet) == 0
    assert all(np.abs(alone[i].wet).max() > 1e-4 for i in (0, 1, 3, 4))


def test_a_piece_does_not_depend_on_its_neighbours_or_its_place(piano):
    backwards = piano.render_batch(REQUESTS[::-1])[::-1]
    others = [request(7, 8), REQUESTS[1], request(11, 9)]
    assert the_bytes(backwards[1]) == the_bytes(piano.render_batch(others)[1])


def test_a_batch_differs_from_a_piece_alone_by_rounding_only(piano, info):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    single = PublishedPiano(info, batch_size=1)
    for one, batched in zip(single.render_batch(REQUESTS[:2]), piano.render_batch(REQUESTS[:2]), strict=True):
        assert one.wet.shape == batched.wet.shape
        assert np.abs(one.dry - batched.dry).max() < 1e-4 * np.abs(one.dry).max()
        assert np.abs(one.wet - batched.wet).max() < 1e-4 * np.abs(one.wet).max()


def test_progress_of_a_batch_rises_to_1_and_may_stop_it(piano):
    parts = []
    piano.render_batch(REQUESTS, progress=parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == 1.0

    def stop(part):
        if part > 0.3:
            raise Cancelled("nobody waits for it")

    with pytest.raises(Cancelled):
        piano.render_batch(REQUESTS, progress=stop)


def test_an_unknown_piano_in_a_batch_is_refused(piano):
    with pytest.raises(BadOption, match="piano=7"):
        piano.render_batch([REQUESTS[0], request(2, 1, piano=7)])


def test_no_requests_give_no_renderings(piano):
    assert piano.render_batch([]) == []


def test_a_batch_holds_pieces_of_similar_length():
    from pianofarm_worker.synth.published.batch import buckets

    assert buckets([5, 90, 7, 80, 6], 2) == [[1, 3], [2, 4], [0]]
    assert buckets([], 4) == []


def test_a_workers_batch_gives_the_files_that_its_single_renders_give(info, tmp_path, monkeypatch):
    from pianofarm_worker import workshop as shop
    from pianofarm_worker.synth.published.piano import PublishedPiano

    # Nobody trained this model: what it plays would not pass.
    monkeypatch.setattr(shop.quality, "check", lambda *_: None)
    sizes, render_batch = [], PublishedPiano.render_batch

    def counting(piano, requests, **named):
        sizes.append(len(requests))
        return render_batch(piano, requests, **named)

    monkeypatch.setattr(PublishedPiano, "render_batch", counting)
    store = LocalBlobStore(tmp_path / "objects")
    make = partial(PublishedPiano, batch_size=N_PLACES, chunk_frames=100)
    (tmp_path / "state" / "models").mkdir(parents=True)
    shutil.copytree(info.path, tmp_path / "state" / "models" / info.digest)
    workshop = shop.Workshop(Settings(), store, shop.Shelf(store, tmp_path / "state", make), "me")
    with contextlib.closing(workshop.reader):
        holds = [hold_of(info, store, seconds) for seconds in (0.2, 0.9, 0.5)]
        alone = [outcome for hold in holds for _, outcome in workshop.render([hold])]
        assert workshop.places(holds[0].claim.spec) == N_PLACES
        together = dict(workshop.render(holds))
    assert sizes == [1, 1, 1, N_PLACES]
    assert [together[hold].wet.sha256 for hold in holds] == [made.wet.sha256 for made in alone]
    assert len({made.wet.sha256 for made in alone}) == len(holds)


def hold_of(info, store, seconds):
    song = pretty_midi.PrettyMIDI()
    song.instruments.append(pretty_midi.Instrument(0))
    song.instruments[0].notes.append(pretty_midi.Note(80, 60, 0.0, seconds))
    song.write(file := io.BytesIO())
    digest = read_performance(file.getvalue(), MidiLimits.from_settings(Settings())).sha256
    store.put(midi_object(digest), file.getvalue())
    options = RenderOptions(warm_up_s=0.1, tail=False)
    spec = RenderSpec(
        performance_sha256=digest, model_digest=info.digest, model_name=info.name, options=options, audio_s=seconds
    )
    return Hold(Claim(spec.key, f"{seconds}:x", 9.0, spec, 1, PriorityClass.BULK, 0.0), StopSign())
