"""Which addresses a webhook may reach, and that nothing comes between the check and the connection."""

import http.server
import socket
import threading

import pytest

from pianofarm_common.errors import BadOption, Permanent, ServiceUnavailable
from pianofarm_common.ledger.callbacks import check_url
from pianofarm_worker import outside
from pianofarm_worker.outside import is_public, post, public_address


class Receiver(http.server.BaseHTTPRequestHandler):
    """Notes what it gets; /away sends elsewhere."""

    def do_POST(self):
        self.server.got.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        away = self.path == "/away"
        self.send_response(302 if away else 200)
        if away:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/found")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.got = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_not_reached(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_what_is_public_is(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org", "https://", "https:///path", "http://h:99999/",
        "https://user:password@example.org/", "https://user@example.org/", "http://example.org/a b", "http://example.org/\r\nX: y",
        "http://example.org/ä", "https://example.org/" + "x" * 2000,
    ],
)  # fmt: skip
def test_an_address_that_no_webhook_has_is_refused_in_one_line(url):
    with pytest.raises(BadOption) as refusal:
        check_url(url)
    assert "\n" not in str(refusal.value)
    assert "password@" not in str(refusal.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_not_reached_however_it_is_written(receiver, host):
    with pytest.raises((Permanent, ServiceUnavailable)):
        post(f"http://{host}:{receiver.server_port}/", b"{}", {}, allow_private=False, timeout_s=30)
    assert receiver.got == []


def test_where_it_is_allowed_it_is(receiver):
    url = f"http://127.0.0.1:{receiver.server_port}/hook?x=1"
    assert post(url, b"{}", {"X-Test": "yes"}, allow_private=True, timeout_s=30) == 200
    ((path, headers, body),) = receiver.got
    assert (path, headers["X-Test"], body) == ("/hook?x=1", "yes", b"{}")


def test_a_redirect_is_an_answer_and_not_followed(receiver):
    url = f"http://127.0.0.1:{receiver.server_port}/away"
    assert post(url, b"{}", {}, allow_private=True, timeout_s=30) == 302
    assert [path for path, *_ in receiver.got] == ["/away"]


def test_a_name_is_asked_for_once_and_the_address_that_was_checked_is_the_one_connected_to(receiver, monkeypatch):
    asked, real = [], socket.getaddrinfo

    def changing(host, port, *more, **named):
        if host != "rebinding.test":
            return real(host, port, *more, **named)
        asked.append(host)
        # The second answer would lead somewhere else.
        return real("127.0.0.1" if len(asked) == 1 else "127.9.9.9", port, *more, **named)

    monkeypatch.setattr(outside.socket, "getaddrinfo", changing)
    url = f"http://rebinding.test:{receiver.server_port}/"
    assert post(url, b"{}", {}, allow_private=True, timeout_s=30) == 200
    assert asked == ["rebinding.test"]
    assert receiver.got[0][1]["Host"] == f"rebinding.test:{receiver.server_port}"


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("1.1.1.1", "10.0.0.7")]
    monkeypatch.setattr(outside.socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(Permanent, match=r"leads to 10\.0\.0\.7, which is not public: PIANOFARM_WEBHOOK_ALLOW_PRIVATE"):
        public_address("mixed.test", 443, allow_private=False)


def test_proxies_of_the_environment_are_not_used(receiver, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert post(f"http://127.0.0.1:{receiver.server_port}/", b"{}", {}, allow_private=True, timeout_s=30) == 200


def test_a_receiver_without_a_trusted_certificate_is_not_told(receiver):
    with pytest.raises(ServiceUnavailable, match=r"does not answer \(SSL"):
        post(f"https://127.0.0.1:{receiver.server_port}/", b"{}", {}, allow_private=True, timeout_s=30)


def test_a_receiver_that_answers_a_byte_at_a_time_is_cut_off():
    def dribble(connection):
        with connection:
            connection.recv(1 << 16)
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            for byte in answer:
                if ending.wait(0.2):
                    return
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    return

    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: dribble(server.accept()[0]))
        thread.start()
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, allow_private=True, timeout_s=1.0)
        ending.set()
        thread.join()
