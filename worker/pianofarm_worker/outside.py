"""Requests to addresses that strangers name: resolved once, checked, and connected to at just the address that was checked.

A farm lives inside a network, and a webhook is an address from outside: without care it would reach the farm's own services or a
cloud's metadata (server-side request forgery). So: http and https only, no address that is not public unless a setting allows
it, no redirect followed, no proxy of the environment used, a bound on time and on what is read. No farm here.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress

from pianofarm_common.errors import Permanent, ServiceUnavailable
from pianofarm_common.ledger.callbacks import check_url

#: Bytes of an answer that are read; nothing in it is used.
ANSWER_BYTES = 1024


def public_address(host: str, port: int, *, allow_private: bool) -> tuple[int, str]:
    """Family and address of a host; where one of its addresses is not public, none is used.

    Raises:
        Permanent: it leads to this machine, a private network or another place that is not the public internet.
        ServiceUnavailable: the name is not known now.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ServiceUnavailable(f"the webhook's host {host!r} is not known now ({error})") from None
    for *_, address in found:
        if not allow_private and not is_public(str(address[0])):
            raise Permanent(
                f"the webhook's host {host!r} leads to {address[0]}, which is not public: PIANOFARM_WEBHOOK_ALLOW_PRIVATE=true "
                "lets webhooks reach such addresses"
            )
    family, *_, address = found[0]
    return int(family), str(address[0])


def is_public(address: str) -> bool:
    """True for what the internet routes to one host; one that wraps another (v4 in v6, NAT64, 6to4) is judged by what it holds."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if wrapped is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was chosen before, under the name of its host."""

    def __init__(self, host: str, port: int, address: str, *, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address, self._tls = address, tls

    def connect(self) -> None:
        """As the base class, but asks no name server again: between two answers an address may become another."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    timeout_s: float,
    tls: ssl.SSLContext | None = None,
) -> int:
    """Send a POST; returns the status of the answer, of which nothing else is looked at.

    Args:
        url: checked by `check_url`.
        body: what is sent.
        headers: of the request.
        allow_private: whether addresses that are not public may be reached.
        timeout_s: for each step of the exchange, and twice that for all of it.
        tls: how https is checked; None: the system's authorities.

    Raises:
        BadOption, Permanent: this address will not be asked.
        ServiceUnavailable: no answer.
    """
    parts = check_url(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    host = str(parts.hostname)
    _, address = public_address(host, port, allow_private=allow_private)
    context = (tls or ssl.create_default_context()) if secure else None
    connection = _Pinned(host, port, address, tls=context, timeout_s=timeout_s)
    end = threading.Timer(2 * timeout_s, _cut, [connection])
    end.daemon = True
    end.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        answer.read(ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise ServiceUnavailable(f"the webhook at {parts.hostname} does not answer ({type(error).__name__})") from None
    finally:
        end.cancel()
        connection.close()
    return answer.status


def _cut(connection: http.client.HTTPConnection) -> None:
    """End the exchange under whoever waits for it: a receiver that sends a byte now and then meets no timeout of a single step."""
    if connection.sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
