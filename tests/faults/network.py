"""Hosts as network namespaces, joined by a bridge in one more: what is lost between them, the kernel's TCP loses. Root only.

Namespaces have no names and no processes of their own: they end with the descriptors that hold them, and the machine's own network
is not touched.
"""

import contextlib
import ctypes
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(answer: int, what: str) -> None:
    if answer:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(namespace: int) -> None:
    """This thread goes there, and with it what it starts from then on; sockets stay where they were made."""
    _check(_libc.setns(namespace, _CLONE_NEWNET), "setns")


@contextmanager
def _inside(namespace: int) -> Iterator[None]:
    before = _current()
    _enter(namespace)
    try:
        yield
    finally:
        _enter(before)
        os.close(before)


def _new_namespace() -> int:
    before = _current()
    _check(_libc.unshare(_CLONE_NEWNET), "unshare")
    made = _current()
    _enter(before)
    os.close(before)
    return made


def refusal() -> str:
    """Why there can be no namespaces here; empty where there can.

    Raises:
        ImportError: pyroute2 is missing, which on Linux is a broken environment and no reason to play less (`make setup`).
    """
    if sys.platform != "linux":
        return f"{sys.platform} has none"
    import pyroute2  # noqa: F401

    try:
        Network().close()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


class Host:
    """One end of a cable, with an address and a loopback of its own."""

    bind = "0.0.0.0"

    def __init__(self, network: "Network", number: int) -> None:
        from pyroute2 import IPRoute

        self.address = f"10.77.0.{number}"
        self._network, self._namespace = network, _new_namespace()
        network.switch.link(
            "add", ifname=f"port{number}", kind="veth", peer={"ifname": "eth0", "net_ns_fd": self._namespace}
        )
        (self._port,) = network.switch.link_lookup(ifname=f"port{number}")
        network.switch.link("set", index=self._port, master=network.bridge, state="up")
        with self.entered(), IPRoute() as own:
            (loopback,), (line,) = own.link_lookup(ifname="lo"), own.link_lookup(ifname="eth0")
            own.link("set", index=loopback, state="up")
            own.addr("add", index=line, address=self.address, prefixlen=24)
            own.link("set", index=line, state="up")

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """What this thread starts meanwhile runs on this host, and the sockets it makes are the host's."""
        return _inside(self._namespace)

    def cut(self) -> None:
        """Everything it sends and is sent is lost, and nobody is told."""
        self._network.switch.link("set", index=self._port, master=0)

    def unplug(self) -> None:
        """The same, and the host sees that the link is down."""
        self._network.switch.link("set", index=self._port, state="down")

    def heal(self) -> None:
        self._network.switch.link("set", index=self._port, master=self._network.bridge, state="up")

    def close(self) -> None:
        os.close(self._namespace)


def flap(hosts: list[Host], for_s: float, chance: random.Random) -> None:
    """Their lines come and go, one after the other, several times a second."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        host = chance.choice(hosts)
        chance.choice((host.cut, host.unplug))()
        time.sleep(chance.uniform(0.02, 0.4))
        host.heal()
        time.sleep(chance.uniform(0.0, 0.3))


class Network:
    """A switch and its hosts."""

    def __init__(self) -> None:
        from pyroute2 import IPRoute

        self._namespace = _new_namespace()
        self.hosts: dict[str, Host] = {}
        with _inside(self._namespace):
            self.switch = IPRoute()
            self.switch.link("add", ifname="switch", kind="bridge")
            (self.bridge,) = self.switch.link_lookup(ifname="switch")
            self.switch.link("set", index=self.bridge, state="up")

    def host(self, name: str) -> Host:
        """The host of this name, connected when it is asked for first."""
        if name not in self.hosts:
            self.hosts[name] = Host(self, len(self.hosts) + 1)
        return self.hosts[name]

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()
        self.switch.close()
        os.close(self._namespace)


class Cable:
    """A host's only line, in the place of the proxy that a farm on loopback has; leads to a port of another host."""

    left = 0  #: no requests are answered in the target's stead

    def __init__(self, host: Host, address: str, port: int) -> None:
        self.host, self.address, self.port = host, address, port
        self.cut, self.heal = host.cut, host.heal

    def close(self) -> None:
        self.heal()
