"""Closes the network to a Python process: only this machine can be reached.

Enforced, in the tests' own process (conftest) and in every Python process that they start (`sitecustomize`, by
``PYTHONPATH``): connecting or sending to an address of another machine, and asking for an address by name, raise
`NetworkBlocked`. Each attempt is written to the file that ``MSA_BENCH_NETWORK_ATTEMPTS`` names as well, so that a test
fails also where the code under test swallows the error. Loopback, unix sockets and this machine's own name are open.

Only discouraged: programs that are not Python (git, W&B's service) and Pythons started with ``-I`` or with a path of
their own. They see proxies at a closed port of this machine and the offline switch of the hub (`DISCOURAGED`).

Loads nothing but the standard library: it runs before anything else does.
"""

import ipaddress
import os
import socket

ATTEMPTS = "MSA_BENCH_NETWORK_ATTEMPTS"
"""Environment variable: the file that attempts are written to, a line each."""
OPEN = "MSA_BENCH_NETWORK_OPEN"
"""Environment variable: set while a test marked ``network`` runs; everything can be reached."""
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody runs: the port of "discard", closed wherever we are."""
DISCOURAGED = {
    name: NOWHERE for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
} | {
    "no_proxy": "localhost,127.0.0.1,::1",
    "NO_PROXY": "localhost,127.0.0.1,::1",
    "HF_HUB_OFFLINE": "1",
}
"""Environment variables that programs follow of their own will."""


class NetworkBlocked(OSError):
    """An attempt to reach another machine from a test."""


def close() -> None:
    """Guard the functions of ``socket`` in this process, once."""
    if getattr(socket.socket.connect, "guarded", False):
        return
    plain = socket.getaddrinfo
    for method in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, method, guarded_method(getattr(socket.socket, method), plain))
    for function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, function, guarded_lookup(getattr(socket, function)))


def guarded_method(original, lookup):
    """A method of sockets that refuses addresses of other machines; the address is its last argument."""

    def method(self, *arguments):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_here(arguments[-1][0], lookup):
            refuse(f"{arguments[-1][0]}, port {arguments[-1][1]}")
        return original(self, *arguments)

    method.guarded = True
    return method


def guarded_lookup(original):
    """A function that finds addresses by name, and refuses names of other machines."""

    def function(host, *arguments, **options):
        if not is_address(host) and not is_own_name(host):
            refuse(f"the name '{text(host)}'")
        return original(host, *arguments, **options)

    return function


def is_here(host, lookup) -> bool:
    """Whether a host, a name or an address, is this machine."""
    if not is_address(host):
        return is_own_name(host)
    address = ipaddress.ip_address(text(host).partition("%")[0])
    if address.is_loopback or address.is_unspecified:
        return True
    try:
        return text(host) in {found[4][0] for found in lookup(socket.gethostname(), None)}
    except OSError:
        return False


def is_own_name(host) -> bool:
    """Whether a name is one of this machine's."""
    own = socket.gethostname()
    return host is None or text(host) in ("", "localhost", own) or text(host).startswith(f"{own}.")


def is_address(host) -> bool:
    """Whether a host is given in numbers, so that nobody need be asked for it."""
    try:
        ipaddress.ip_address(text(host).partition("%")[0])
    except ValueError:
        return False
    return True


def text(host) -> str:
    """A host as text; ``socket`` takes bytes too."""
    return host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)


def refuse(what: str) -> None:
    """Raise `NetworkBlocked`, and note the attempt, unless the running test is marked ``network``."""
    if os.environ.get(OPEN):
        return
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0] or "code outside a test"
    message = f"{test} tried to reach {what}: tests use no network (mark a test `network` where it is its purpose)"
    if file := os.environ.get(ATTEMPTS):
        with open(file, "a") as attempts:
            attempts.write(message + "\n")
    raise NetworkBlocked(message)
