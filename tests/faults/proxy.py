"""A TCP proxy on loopback that the test cuts, and that answers, tears or swallows HTTP requests instead of passing them on."""

import contextlib
import socket
import struct
import threading

_METHODS = (b"GET ", b"PUT ", b"HEAD ", b"POST ", b"DELETE ")


class Proxy:
    """Listens on `port`, passes on to `target`, a port on loopback."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.open = threading.Event()
        self.open.set()
        self._trouble, self._lock = "", threading.Lock()
        self.left = 0  #: requests that will still meet with what was armed
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Hold everything back. What was sent arrives after `heal`, as it does where packets are lost and sent again."""
        self.open.clear()

    def heal(self) -> None:
        self.open.set()
        with self._lock:
            self._trouble, self.left = "", 0

    def arm(self, trouble: str, requests: int) -> None:
        """For the next HTTP requests: "500", "507", "swallow" (no answer comes), "tear" (the connection breaks in the body)."""
        with self._lock:
            self._trouble, self.left = trouble, requests

    def close(self) -> None:
        self._listener.close()
        self.heal()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self.open.wait()
            with socket.create_connection(("127.0.0.1", self.target), timeout=5) as server:
                server.settimeout(None)
                self._connections.append(server)
                threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
                self._pump(client, server, requests=True)

    def _pump(self, source: socket.socket, sink: socket.socket, *, requests: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.open.wait()
                trouble = self._take() if requests and self.left and data.startswith(_METHODS) else ""
                if trouble in ("500", "507"):
                    reason = b"507 Insufficient Storage" if trouble == "507" else b"500 Internal Server Error"
                    source.sendall(b"HTTP/1.1 " + reason + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    break
                if trouble == "swallow":
                    while source.recv(65536):
                        pass
                    break
                if trouble == "tear":
                    sink.sendall(data[:4096])
                    if b"\r\n\r\n" in data[:4096] and data.startswith(b"PUT "):
                        sink.sendall(source.recv(1000)[:1000])
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                sink.sendall(data)
        for connection in (source, sink):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _take(self) -> str:
        with self._lock:
            if not self.left:
                return ""
            self.left -= 1
            return self._trouble
