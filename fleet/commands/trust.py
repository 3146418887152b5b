"""`fleet trust`: show the host keys that are not known yet, with their fingerprints, and store them after one question.

It replaces the question that ssh asks at the first login to each host. The fingerprints have the form of `ssh-keygen -l`,
so that the operator can compare them with the host's console.
"""

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from fleet.environment import CommandOptions, Environment
from fleet.errors import Refused
from fleet.onhost.text import counted, listed, sentences
from fleet.rollout.results import OK, REFUSED
from fleet.runs.engine_run import command_output, confirm, selected_hosts
from fleet.ssh.hostkeys.acceptance import PresentedKey
from fleet.ssh.hostkeys.added_keys import add, store_of
from fleet.ssh.link_errors import LinkError
from fleet.ssh.scan import ScannedAddress, scan_host_keys
from fleet.task import Deadlines
from fleet.ui.alarms import alarm, grouped_by_message
from fleet.ui.output import Output

SCHEMA = "fleet.trust/1"
BITS = {"ssh-ed25519": 256, "ecdsa-sha2-nistp256": 256, "ecdsa-sha2-nistp384": 384, "ecdsa-sha2-nistp521": 521}
NAMES = {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA"}


def run(environment: Environment, options: CommandOptions, as_json: bool) -> int:
    """Shows the unknown keys, and stores them if the operator agrees. Returns 0 if every key is known then, else 2."""
    output = command_output(options)
    hosts = selected_hosts(options, output, logs_in=False)
    for note in environment.prepare_scan(hosts, options.connecting):
        output.say(note)
    output.say(f"Asking {counted(len(hosts))} for host keys. fleet logs in to bastions only.")
    found = scan_host_keys(hosts, options.connecting, Deadlines(), options.parallel)
    if as_json:
        output.document(document(found))
    else:
        _show(output, found)
    output.alarm(_alarm(found))
    new = [each for each in found if each.is_new]
    if new:
        files = _stores(new)
        question = (
            f"Trust {counted(len(new), 'key')} and store {'it' if len(new) == 1 else 'them'} in {', '.join(files)}?"
        )
        confirm(environment, output, options, question, "writes to known_hosts")
        _store(output, files)
    left = [each for each in found if not each.is_known and not each.is_new]
    if left:
        output.say(f"Not trusted, for the reasons above: {listed([_where(each) for each in left])}.")
    return REFUSED if left else OK


def _stores(new: Sequence[ScannedAddress]) -> dict[str, list[tuple[Any, PresentedKey]]]:
    """The new keys, grouped by the known_hosts file that each is stored in. Raises `Refused` if there is no such file."""
    files: dict[str, list[tuple[Any, PresentedKey]]] = {}
    for each in new:
        if each.settings is None or each.key is None:
            continue
        file = store_of(each.settings)
        if file is None:
            raise Refused(
                f"{each.name}: you have no known_hosts file that can be written.",
                f"See which files ssh uses: ssh -G {(each.hosts or (each.name,))[0]} | grep userknownhostsfile.",
            )
        files.setdefault(file, []).append((each.settings, each.key))
    return files


def _store(output: Output, files: dict[str, list[tuple[Any, PresentedKey]]]) -> None:
    for file, keys in files.items():
        try:
            output.say(f"{counted(add(keys, file), 'key')} stored in {file}.")
        except LinkError as failure:
            raise Refused(f"Nothing was stored in {file}: {failure.message}", failure.remedy) from failure


# What is shown


def _show(output: Output, found: Sequence[ScannedAddress]) -> None:
    """Prints the unknown keys, then the hosts that showed no key, then how many keys are known."""
    new = [each for each in found if each.is_new]
    for each in new:
        output.line(_where(each))
        output.line(f"    {_as_ssh_keygen(each)}")
    for line in grouped_by_message(
        (_where(each), sentences(each.failure.message, each.failure.remedy))
        for each in found
        if each.failure is not None and not each.is_new and not each.is_alarming
    ):
        output.line(line)
    known = sum(each.is_known for each in found)
    output.line(f"{known} of {counted(len(found), 'key')} known." if known or not new else "No key is known yet.")


def _as_ssh_keygen(each: ScannedAddress) -> str:
    """The key as `ssh-keygen -l` prints it on the host, with the host's name as the comment."""
    if each.key is None:
        return ""
    size, kind = bits_and_type(each.key)
    return f"{size} {each.key.fingerprint} {each.name} ({kind})"


def bits_and_type(key: PresentedKey) -> tuple[int, str]:
    """The key's size in bits, and its type as `ssh-keygen -l` names it."""
    kind = NAMES.get(key.type, "ECDSA")
    if key.type != "ssh-rsa":
        return BITS.get(key.type, 0), kind
    # RFC 4253, 6.6: the name, the exponent, the modulus.
    data = key.blob
    for _ in range(2):
        data = data[4 + int.from_bytes(data[:4], "big") :]
    return int.from_bytes(data[4:], "big").bit_length(), kind


def _where(each: ScannedAddress) -> str:
    """The host's names in the inventory; for a bastion its own name, and the number of hosts behind it."""
    return (listed(each.hosts) or each.name) + (
        f" (bastion for {counted(len(each.hosts_behind))})" if each.hosts_behind else ""
    )


def _alarm(found: Sequence[ScannedAddress]) -> Text | None:
    return alarm(
        (_where(each), sentences(each.failure.message, each.failure.remedy))
        for each in found
        if each.failure is not None and each.is_alarming
    )


def document(found: Sequence[ScannedAddress]) -> dict[str, Any]:
    """The document `fleet.trust/1`: every key as it was found, before any is stored."""
    return {"schema": SCHEMA, "keys": [_document(each) for each in found]}


def _document(each: ScannedAddress) -> dict[str, Any]:
    key = each.key
    size, kind = bits_and_type(key) if key else (None, None)
    return {
        "hosts": list(each.hosts),
        "bastion_before": list(each.hosts_behind),
        "name": each.name,
        "state": _state(each),
        "type": key.type if key else None,
        "fingerprint": key.fingerprint if key else None,
        "bits": size,
        "kind": kind,
        "reason": each.failure.reason if each.failure else None,
        "message": sentences(each.failure.message, each.failure.remedy) if each.failure else None,
    }


def _state(each: ScannedAddress) -> str:
    if each.is_known:
        return "known"
    if each.is_new:
        return "unknown"
    return "refused" if each.key is not None else "not_asked"
