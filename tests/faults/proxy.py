"""A TCP proxy on loopback that the test cuts, and that answers, tears or swallows HTTP requests instead of passing them on."""

import contextlib
import socket
import struct
import threading

_METHODS = (b"GET ", b"PUT ", b"HEAD ", b"POST ", b"DELETE ")


class _Line:
    """The two sockets of one connection through the proxy.

    Shut down by whoever likes, closed once, when both of its threads have left: a descriptor closed under a thread that is about
    to read from it may by then be another connection's, whose bytes that thread would take.
    """

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self._lock, self._n_threads = threading.Lock(), 2

    def shut_down(self) -> None:
        with self._lock:
            for side in (self.client, self.server):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Called by each thread at its end."""
        self.shut_down()
        with self._lock:
            self._n_threads -= 1
            if not self._n_threads:
                self.client.close()
                self.server.close()


class Proxy:
    """Listens on `port`, passes on to `target`, a port on loopback."""

    address = "127.0.0.1"

    def __init__(self, target: int) -> None:
        self.target = target
        self.open = threading.Event()
        self.open.set()
        self._trouble, self._lock = "", threading.Lock()
        self.left = 0  #: requests that will still meet with what was armed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lines: set[_Line] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Hold everything back. What was sent arrives after `heal`, as it does where packets are lost and sent again."""
        self.open.clear()

    def heal(self) -> None:
        self.open.set()
        with self._lock:
            self._trouble, self.left = "", 0

    def hang_up(self) -> None:
        """End every connection; new ones are taken at once."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.shut_down()

    def arm(self, trouble: str, requests: int) -> None:
        """For the next HTTP requests: "500", "507", "swallow" (no answer comes), "tear" (the connection breaks in the body)."""
        with self._lock:
            self._trouble, self.left = trouble, requests

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self.heal()
        self.hang_up()

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    client, _ = self._listener.accept()
                except OSError:
                    return
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.open.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        line = _Line(client, server)
        with self._lock:
            self._lines.add(line)
        threading.Thread(target=self._pump, args=(line, server, client), daemon=True).start()
        self._pump(line, client, server, requests=True)
        with self._lock:
            self._lines.discard(line)

    def _pump(self, line: _Line, source: socket.socket, sink: socket.socket, *, requests: bool = False) -> None:
        try:
            while data := source.recv(65536):
                self.open.wait()
                trouble = self._take() if requests and self.left and data.startswith(_METHODS) else ""
                if trouble in ("500", "507"):
                    reason = b"507 Insufficient Storage" if trouble == "507" else b"500 Internal Server Error"
                    source.sendall(b"HTTP/1.1 " + reason + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return
                if trouble == "swallow":
                    while source.recv(65536):
                        pass
                    return
                if trouble == "tear":
                    sink.sendall(data[:4096])
                    if b"\r\n\r\n" in data[:4096] and data.startswith(b"PUT "):
                        sink.sendall(source.recv(1000)[:1000])
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                sink.sendall(data)
        except OSError:
            return
        finally:
            line.leave()

    def _take(self) -> str:
        with self._lock:
            if not self.left:
                return ""
            self.left -= 1
            return self._trouble
