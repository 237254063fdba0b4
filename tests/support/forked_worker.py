"""Stands in for an interpreter that starts a worker: has one forked that has imported it already.

``python -I -S forked_worker.py PLACE MODULE WORDS...``, where :mod:`tests.support.workers` waits.
It hands its descriptors over and ends as the fork does; where it is killed, that is killed, too.
Beside the place lies a note with its number, locked until both have ended.
"""

# Neither socket nor pathlib, which import much: this is to cost as little as can be.
import _socket
import fcntl
import os
import sys


def main() -> None:
    """Hand everything over, and wait."""
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
    except OSError:  # of the list itself
        return False
    return True


main()
