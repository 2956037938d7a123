"""What is fetched ahead: once, in time, and never to the harm of whoever needs it."""

import threading

from pianofarm_common.errors import ServiceUnavailable
from pianofarm_worker.ahead import Ahead


class Store:
    """Gives every object its own name as content, and remembers who asked."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.asked: list[tuple[str, bool]] = []

    def get(self, key: str) -> bytes:
        self.asked.append((key, threading.current_thread() is threading.main_thread()))
        assert self.open.wait(60)
        if key == "gone":
            raise ServiceUnavailable("the store is away")
        return key.encode()


def test_what_is_expected_is_fetched_by_another_thread_and_taken_once() -> None:
    store = Store()
    ahead = Ahead(store.get)
    ahead.expect({"one": "a", "two": "b"})
    assert (ahead.take("one"), ahead.take("one"), ahead.take("two")) == (b"a", None, b"b")
    assert store.asked == [("a", False), ("b", False)]


def test_nothing_is_had_of_what_was_not_expected_or_could_not_be_fetched() -> None:
    ahead = Ahead(Store().get)
    ahead.expect({"one": "gone"})
    assert (ahead.take("one"), ahead.take("two")) == (None, None)


def test_taking_waits_for_what_is_under_way() -> None:
    store = Store()
    ahead = Ahead(store.get)
    store.open.clear()
    ahead.expect({"one": "a"})
    threading.Timer(0.05, store.open.set).start()
    assert ahead.take("one") == b"a"


def test_what_is_kept_stays_what_is_expected_again_is_fetched_once_and_the_rest_is_forgotten() -> None:
    store = Store()
    ahead = Ahead(store.get)
    ahead.expect({"one": "a", "two": "b", "three": "c"})
    ahead.expect({"two": "b"}, keep=["one"])
    assert [ahead.take(name) for name in ("one", "two", "three")] == [b"a", b"b", None]
    assert [key for key, _ in store.asked].count("b") == 1


def test_two_renders_of_one_piece_each_have_its_bytes() -> None:
    ahead = Ahead(Store().get)
    ahead.expect({"one": "a", "two": "a"})
    assert (ahead.take("one"), ahead.take("two")) == (b"a", b"a")
