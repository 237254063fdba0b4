"""The disk as a network block device, which ``nbdfuse`` offers as a file: newstyle, one client."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path
from typing import Final

from benchmarks.machine.disk import Disk

OPTION: Final = b"IHAVEOPT"
REPLY_MAGIC: Final = 0x3E889045565A9
REQUEST, ANSWER = 0x25609513, 0x67446698
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
ACK, REP_INFO, UNSUPPORTED = 1, 3, (1 << 31) + 1
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
#: Transmission flags: has flags, accepts flushes.
FLAGS: Final = 1 | 4
EIO, EINVAL = 5, 22


class NbdServer:
    """Serves a disk at a socket, in a thread of its own.

    Args:
        disk: The disk.
        path: Path of the socket.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server, after its client has ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                client, _ = self._socket.accept()
                with client, contextlib.suppress(EOFError, ConnectionError):
                    if self._negotiate(client):
                        self._work(client)

    def _negotiate(self, client: socket.socket) -> bool:
        client.sendall(b"NBDMAGIC" + OPTION + struct.pack(">H", 1 | 2))
        _exactly(client, 4)
        while True:
            magic, option, length = struct.unpack(">8sII", _exactly(client, 16))
            if magic != OPTION:
                return False
            _exactly(client, length)
            export = struct.pack(">QH", self._disk.size, FLAGS)
            if option == EXPORT_NAME:
                client.sendall(export)
                return True
            if option in (INFO, GO):
                self._reply(client, option, REP_INFO, struct.pack(">H", 0) + export)
                self._reply(client, option, ACK)
                if option == GO:
                    return True
            elif option == ABORT:
                self._reply(client, option, ACK)
                return False
            else:
                self._reply(client, option, UNSUPPORTED)

    @staticmethod
    def _reply(client: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
        client.sendall(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data)

    def _work(self, client: socket.socket) -> None:
        while True:
            magic, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", _exactly(client, 28))
            if magic != REQUEST or kind == DISCONNECT:
                return
            error, data = 0, b""
            if kind == READ:
                found = self._disk.read(offset, length)
                error, data = (EIO, b"") if found is None else (0, found)
            elif kind == WRITE:
                error = 0 if self._disk.write(offset, _exactly(client, length)) else EIO
            elif kind == FLUSH:
                error = 0 if self._disk.flush() else EIO
            else:
                error = EINVAL
            client.sendall(struct.pack(">IIQ", ANSWER, error, cookie) + data)


def _exactly(client: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        piece = client.recv(min(length - len(found), 1 << 20))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)
