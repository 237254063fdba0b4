"""Stands in for an interpreter that starts a worker: has one forked that has imported it already.

``python -I -S forked_worker.py PLACE MODULE WORDS...``, where :mod:`tests.support.workers` waits.
It hands its descriptors over and ends as the fork does; where it is killed, that is killed, too.
"""

# Neither socket nor pathlib, which import much: this is to cost as little as can be.
import _socket
import os
import sys


def main() -> None:
    """Hand everything over, and wait."""
    place, *words = sys.argv[1:]
    given = [number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number)]  # noqa: PTH208
    there = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    there.connect(place)
    told = [os.getcwd(), " ".join(map(str, given)), str(len(words)), *words]  # noqa: PTH109
    told += [f"{name}={value}" for name, value in os.environ.items()]
    rights = b"".join(number.to_bytes(4, sys.byteorder) for number in given)
    there.sendmsg(["\0".join(told).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    for number in given:
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
