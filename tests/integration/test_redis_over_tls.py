"""Ledger and queue over TLS: a real Redis behind a process's own TLS, a certificate that is checked, and one that is refused."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ledger_values import request
from pydantic import SecretStr

from pianofarm_common.errors import ServiceUnavailable
from pianofarm_common.ledger import Ledger
from pianofarm_common.queue import backlog, make_app, publish_tickets
from pianofarm_common.settings import Settings


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities that signed themselves; the first is also the server's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    if shutil.which("openssl") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("openssl is missing (apt-get install openssl)")
    for name in ("ours", "theirs"):
        make = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        make += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        make += ["-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(make, cwd=folder, check=True, capture_output=True)
    return folder


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def tls_settings(redis_settings: Settings, certificates: Path) -> Iterator[Settings]:
    """The settings of the fixtures' Redis through TLS, which is ended here as by a balancer in front of it."""
    plain = urlsplit(redis_settings.redis_url.get_secret_value())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "ours.pem", certificates / "ours.key")
    open_ends: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                try:
                    inside = context.wrap_socket(raw, server_side=True)
                except OSError:
                    raw.close()
                    continue
                outside = socket.create_connection(("127.0.0.1", int(plain.port or 0)))
                open_ends.extend((inside, outside))
                for pair in ((inside, outside), (outside, inside)):
                    threads.append(threading.Thread(target=copy, args=pair))
                    threads[-1].start()

        acceptor = threading.Thread(target=serve)
        acceptor.start()
        port = listener.getsockname()[1]
        url = f"rediss://:{plain.password}@127.0.0.1:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={certificates / 'ours.pem'}"
        yield redis_settings.model_copy(update={"redis_url": SecretStr(url)})
        listener.shutdown(socket.SHUT_RDWR)
    acceptor.join()
    for end in open_ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    for end in open_ends:
        end.close()


def test_ledger_and_queue_work_over_tls_with_a_certificate_that_is_checked(tls_settings: Settings) -> None:
    ledger, app = Ledger.from_settings(tls_settings), make_app(tls_settings)
    tickets = ledger.submit_many([request()])
    assert publish_tickets(app, tickets) == 1
    assert backlog(app)[tickets[0].priority] == 1
    app.close()
    ledger.close()


def test_a_server_with_somebody_elses_certificate_is_not_spoken_to(tls_settings: Settings, certificates: Path) -> None:
    url = tls_settings.redis_url.get_secret_value().replace("ours.pem", "theirs.pem")
    wrong = tls_settings.model_copy(update={"redis_url": SecretStr(url)})
    ledger, app = Ledger.from_settings(wrong), make_app(wrong)
    password = str(urlsplit(url).password)
    for act in (ledger.ping, lambda: backlog(app)):
        with pytest.raises(ServiceUnavailable) as refusal:
            act()
        assert password not in str(refusal.value)
    app.close()
    ledger.close()
