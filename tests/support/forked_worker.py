"""Replaces the interpreter of a worker: lets a process that already imported the worker fork it.

``python -I -S forked_worker.py PLACE MODULE WORDS...``, where :mod:`tests.support.workers` listens.
It passes its descriptors on and ends with the same status as the fork; if it is killed, the fork is
killed, too. A file beside the socket contains its pid and is locked until both have ended.
"""

# Neither socket nor pathlib, which import many modules: the start must be fast.
import _socket
import fcntl
import os
import sys


def main() -> None:
    """Pass everything on, and wait."""
    place, *words = sys.argv[1:]
    given = [number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number)]  # noqa: PTH208
    note = os.open(f"{os.path.dirname(place)}/{os.getpid()}", os.O_RDWR | os.O_CREAT | os.O_TRUNC)  # noqa: PTH120
    fcntl.flock(note, fcntl.LOCK_EX)
    there = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    there.connect(place)
    told = [str(os.getpid()), os.getcwd(), " ".join(map(str, given)), str(len(words)), *words]  # noqa: PTH109
    told += [f"{name}={value}" for name, value in os.environ.items()]
    rights = b"".join(number.to_bytes(4, sys.byteorder) for number in (note, *given))
    there.sendmsg(["\0".join(told).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    for number in (note, *given):
        os.close(number)
    ended = int(there.recv(64) or b"-9")
    if ended < 0:
        os.kill(os.getpid(), -ended)
    os._exit(ended)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:  # the descriptor of the directory listing
        return False
    return True


main()
