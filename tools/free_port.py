"""Ports on loopback for processes that are started here: nobody listens at them, and nobody else who looks gets them.

They are held by sockets of UDP with the same numbers until this process ends, as net/ports.h does.
"""
import random
import socket

FIRST, LAST = 20000, 31999  # below those that the kernel gives to outgoing connections


def _is_free(port):
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", port))
            s.bind(("127.0.0.1", port))
            s.listen(1)
        except OSError:
            holder.close()
            return False
    holder.detach()  # open until the process ends
    return True


def free_port(count=1):
    """The first of `count` in a row."""
    for _ in range(100):
        first = random.SystemRandom().randrange(FIRST, LAST - count + 2)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError(f"no {count} free ports in a row between {FIRST} and {LAST}")
