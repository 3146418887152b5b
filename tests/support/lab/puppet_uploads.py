"""Runs on a lab host: uploads, one after the other, until stdin ends; then prints how many had which status, as JSON."""

import json
import sys
import threading
from collections import Counter
from urllib.error import HTTPError
from urllib.request import Request, urlopen

BODY = b"." * 100_000


def status(url: str) -> str:
    try:
        with urlopen(Request(url, data=BODY), timeout=20) as answer:
            return str(answer.status)
    except HTTPError as error:
        return str(error.code)
    except OSError as error:
        return str(error)


def main() -> None:
    url, over, found = sys.argv[1], threading.Event(), Counter[str]()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    while not over.is_set():
        found[status(url)] += 1
        over.wait(0.05)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
