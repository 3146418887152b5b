"""Runs on a lab host: a name server at 127.0.0.53 that knows one name, and prints what it is asked."""

import socket

KNOWN = b"\2db\7example\4test\0"
ADDRESS = b"\x7f\0\0\7"
HEADER_BYTES, TYPE_AND_CLASS_BYTES = 12, 4
FOUND, NO_SUCH_NAME = b"\x81\x80", b"\x81\x83"
IPV4_ADDRESS = b"\0\1"


def answer(question: bytes) -> bytes:
    """The answer to a question, as RFC 1035 has it."""
    end = question.index(b"\0", HEADER_BYTES) + 1
    name, kind = question[HEADER_BYTES:end], question[end : end + 2]
    print(name, flush=True)
    is_known = name.lower() == KNOWN
    has_one = is_known and kind == IPV4_ADDRESS
    counts = b"\0\1" + (b"\0\1" if has_one else b"\0\0") + b"\0\0\0\0"
    record = b"\xc0\x0c" + IPV4_ADDRESS + b"\0\1" + b"\0\0\0\x3c" + b"\0\4" + ADDRESS if has_one else b""
    whole = question[HEADER_BYTES : end + TYPE_AND_CLASS_BYTES]
    return question[:2] + (FOUND if is_known else NO_SUCH_NAME) + counts + whole + record


def main() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.53", 53))
    with open("/run/dns.up", "w"):
        pass
    while True:
        question, client = server.recvfrom(512)
        server.sendto(answer(question), client)


if __name__ == "__main__":
    main()
