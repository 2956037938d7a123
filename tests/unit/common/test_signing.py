"""Signatures of queue messages: what is accepted, and how keys change while a farm runs."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianofarm_common.errors import BadSettings, Permanent
from pianofarm_common.queue import make_app, parse_message, seal_of
from pianofarm_common.settings import Settings
from pianofarm_common.signing import FIELD, Seal

OLD, NEW = "old-" + "0" * 32, "new-" + "1" * 32
KEY = "a" * 64
BODY = {"v": 1, "renders": [KEY]}


def seal(*keys: str) -> Seal:
    return Seal.from_settings(Settings(message_keys=",".join(keys)))


def test_a_signed_message_is_read_after_its_travel_as_json():
    message = json.loads(json.dumps(seal(NEW).sealed(BODY)))
    assert parse_message(message, seal(NEW)) == [KEY]


def test_without_keys_messages_are_as_before_and_signed_ones_are_read_too():
    assert seal().sealed(BODY) == BODY
    assert parse_message(seal(NEW).sealed(BODY), seal()) == [KEY]


@settings(derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from(["v", "renders", FIELD, "more"]),
    st.one_of(
        st.none(),
        st.integers(),
        st.text(),
        st.just([KEY, "b" * 64]),
        st.text("0123456789abcdef", min_size=64, max_size=64),
    ),
)
def test_whatever_is_changed_in_a_message_it_is_refused(name, value):
    message = seal(NEW).sealed(BODY)
    if name in message and message[name] == value:
        return
    with pytest.raises(Permanent):
        parse_message(message | {name: value}, seal(NEW))


def test_a_refusal_says_what_is_missing_and_no_key():
    with pytest.raises(Permanent, match=r"without a signature.*PIANOFARM_MESSAGE_KEYS") as unsigned:
        parse_message(BODY, seal(NEW))
    with pytest.raises(Permanent, match="signed by none of the 1 keys") as foreign:
        parse_message(seal(OLD).sealed(BODY), seal(NEW))
    assert NEW not in str(unsigned.value) + str(foreign.value) + repr(seal(NEW)) + repr(Settings(message_keys=NEW))


def test_a_key_is_changed_in_three_steps_of_which_none_loses_a_message():
    # Everybody accepts the new one; then everybody signs with it; then the old one goes.
    steps = [seal(OLD), seal(OLD, NEW), seal(NEW, OLD), seal(NEW)]
    for before, after in itertools.pairwise(steps):
        for sender, receiver in ((before, after), (after, before), (after, after)):
            assert parse_message(sender.sealed(BODY), receiver) == [KEY]


def test_the_seal_is_not_in_the_configuration_that_celery_shows():
    app = make_app(Settings(message_keys=NEW))
    assert NEW not in str(dict(app.conf)) + str(app.conf.table(censored=False)) + repr(app.conf)
    assert parse_message(seal_of(app).sealed(BODY), seal(NEW)) == [KEY]


def test_a_short_key_is_refused_without_showing_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PIANOFARM_MESSAGE_KEYS", f"{NEW},too-short")
    with pytest.raises(BadSettings, match=r"PIANOFARM_MESSAGE_KEYS: .*at least 32 characters") as refusal:
        Settings.load(tmp_path)
    assert "too-short" not in str(refusal.value)
