"""The client against a real Redis and a real object store, with nobody at work: what is asked for is entered."""

import subprocess
import sys
from collections.abc import Iterator

import pretty_midi
import pytest
from farm import environment, make_model, midi
from services import wait_until

from pianofarm import Farm, Submission
from pianofarm_common.errors import (
    BadMidi,
    BadOption,
    Cancelled,
    NotFound,
    ServiceUnavailable,
    UnknownModel,
)
from pianofarm_common.ledger import new_id
from pianofarm_common.models import CONFIG_FILE, WEIGHTS_FILE
from pianofarm_common.renders import PriorityClass, RenderOptions, State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import model_object


@pytest.fixture
def farm(settings: Settings) -> Iterator[Farm]:
    make_model(settings.state_dir)
    with Farm(settings.model_copy(update={"model": "sine"})) as farm:
        yield farm


def test_every_kind_of_source_with_the_same_notes_is_the_same_render(farm, tmp_path):
    data = midi(60, 64, 67)
    path = tmp_path / "chord.mid"
    path.write_bytes(data)
    jobs = [farm.submit(source) for source in (data, path, str(path), pretty_midi.PrettyMIDI(str(path)))]
    assert len({job.key for job in jobs}) == 1
    assert [job.name for job in jobs] == ["bytes", "chord.mid", "chord.mid", "PrettyMIDI"]
    assert jobs[0].status().state is State.QUEUED


def test_a_request_that_cannot_be_fulfilled_says_why_and_enters_nothing(farm, settings, tmp_path):
    (tmp_path / "text.mid").write_text("no music")
    with pytest.raises(BadMidi, match=r"text\.mid: byte 0"):
        farm.submit(tmp_path / "text.mid")
    with pytest.raises(BadOption, match="piano=3: model 'sine' has 1"):
        farm.submit(midi(60), options={"piano": 3})
    with pytest.raises(BadOption, match="sample_rate_hz=1"):
        farm.submit(midi(60), options={"sample_rate_hz": 1})
    with pytest.raises(BadOption, match="priority='soon'"):
        farm.submit(midi(60), priority="soon")
    with pytest.raises(UnknownModel, match="no model 'flute'"):
        farm.submit(midi(60), model="flute")
    assert farm.services.ledger.depth(PriorityClass.INTERACTIVE).queued_renders == 0


def test_a_client_bound_to_an_owner_submits_as_it_and_sees_nobody_elses(farm, settings):
    theirs = farm.submit(midi(60), owner="bob")
    with Farm(settings.model_copy(update={"model": "sine", "owner": "alice"})) as alice:
        mine = alice.submit(midi(62))
        assert mine.id.startswith("alice.")
        assert farm.status(mine.id).owner == "alice"
        assert alice.status(mine.id).state is State.QUEUED
        with pytest.raises(BadOption, match=r"owner='bob': .* binds this client to 'alice'"):
            alice.submit(midi(60), owner="bob")
        for ask in (
            lambda: alice.job(theirs.id),
            lambda: alice.batch(theirs.batch).status(),
            lambda: alice.submit_many([midi(60)], batch=theirs.batch),
            lambda: alice.cancel(theirs.id),
            lambda: alice.cancel_all("owner", "bob"),
        ):
            with pytest.raises(NotFound, match="of owner alice"):
                ask()
        with pytest.raises(BadOption, match="owner bob: the setting PIANOFARM_OWNER binds"):
            alice.pause("owner", "bob")
        alice.pause("owner", "alice")
        assert alice.resume("owner", "alice")
        assert alice.cancel(mine.id) is State.CANCELLED
    assert theirs.status().state is State.QUEUED


def test_a_thousand_are_submitted_in_order_and_bad_ones_are_set_aside(farm):
    sources = [midi(40 + number % 40, 60 + number // 40) for number in range(1000)]
    batch = farm.submit_many(
        [*sources[:500], b"bad", *sources[500:], Submission(midi(60), options={"piano": 9})], owner="me"
    )
    assert len(batch) == 1000
    assert [item.name for item in batch.rejected] == ["bytes", "bytes"]
    assert [type(item.error) for item in batch.rejected] == [BadMidi, BadOption]
    counts = batch.status()
    assert (counts.total, counts.queued) == (1000, 1000)
    elsewhere = farm.batch(batch.id)
    assert [job.id for job in elsewhere] == [job.id for job in batch]
    statuses = elsewhere.statuses()
    assert {status.owner for status in statuses} == {"me"}
    assert {status.priority for status in statuses} == {PriorityClass.BULK}


def test_a_submission_sets_its_own_name_options_priority_and_owner(farm):
    given = Submission(
        midi(60), name="first", options=RenderOptions(channels=2), priority=PriorityClass.INTERACTIVE, owner="x"
    )
    first, second = farm.submit_many([given, midi(60)], owner="y", priority="standard")
    assert first.key != second.key
    one, other = first.status(), second.status()
    assert (one.name, one.owner, one.priority) == ("first", "x", PriorityClass.INTERACTIVE)
    assert (other.owner, other.priority) == ("y", PriorityClass.STANDARD)


def test_an_own_model_is_in_the_store_before_the_first_job_that_names_it(farm, settings, tmp_path):
    digest = make_model(tmp_path / "elsewhere", "mine")
    farm.submit(midi(60), model=str(tmp_path / "elsewhere" / "models" / "mine"))
    assert all(farm.services.store.exists(model_object(digest, name)) for name in (CONFIG_FILE, WEIGHTS_FILE))


def test_a_cancelled_job_says_so_and_a_batch_counts_what_it_cancelled(farm):
    job = farm.submit(midi(60))
    assert farm.cancel(job) is State.CANCELLED
    with pytest.raises(Cancelled):
        job.result()
    batch = farm.submit_many([midi(61), midi(62)])
    assert farm.cancel(batch.jobs[0].id) is State.CANCELLED
    assert farm.cancel(batch) == 1
    assert batch.status().cancelled == 2


def test_what_nobody_submitted_is_not_found(farm):
    for ask in (farm.job, farm.cancel, farm.status):
        with pytest.raises(NotFound):
            ask(new_id())
    with pytest.raises(NotFound):
        list(farm.watch(new_id()))
    with pytest.raises(NotFound):
        farm.batch(new_id()).jobs  # noqa: B018


def test_services_that_are_not_there_say_how_to_mend_it(settings):
    make_model(settings.state_dir)
    nowhere = {"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0"), "model": "sine"}
    with (
        Farm(settings.model_copy(update=nowhere)) as farm,
        pytest.raises(ServiceUnavailable, match="PIANOFARM_REDIS_URL"),
    ):
        farm.submit(midi(60))
    nowhere = {"s3_endpoint": "http://127.0.0.1:1", "model": "sine"}
    with (
        Farm(settings.model_copy(update=nowhere)) as farm,
        pytest.raises(ServiceUnavailable, match="PIANOFARM_S3_ENDPOINT"),
    ):
        farm.submit(midi(60))


def test_importing_the_client_loads_no_array_library_and_no_command_line():
    code = "import sys, pianofarm; pianofarm.Farm; print(sorted({'tensorflow', 'keras', 'jax', 'typer', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_environment_makes_the_same_farm(farm, settings, monkeypatch):
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    with Farm.from_env() as other:
        job = farm.submit(midi(60))
        assert other.job(job.id).status() == job.status()
        wait_until(lambda: other.status(job).state is State.QUEUED, "the job")
