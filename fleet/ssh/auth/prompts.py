"""What must be known before the first visit begins: secrets are asked for once, in the main thread, for all hosts."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache, partial

from fleet.errors import Refused
from fleet.host import Host
from fleet.ssh.auth.agent import LIST_S, Agent, AgentKey
from fleet.ssh.auth.become_password import load_become_password
from fleet.ssh.auth.identities import is_held
from fleet.ssh.auth.key_files import KeyFile, KeyFileState, read_key_file
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import NamedBy, Settings, has_openssh, resolve
from fleet.task import Connecting

AskSecret = Callable[[str], str]
"""Asks the person at the terminal, without echo; the prompt is given. Raises `Refused` when there is nobody."""
WITHOUT_OPENSSH = (
    "There is no `ssh` on this machine: ssh_config is not read, and all that counts is the inventory and OpenSSH's defaults. "
    "Install OpenSSH's client (Debian: openssh-client)."
)
MAX_TRIES = 3
RESOLVERS = 8
"""`ssh -G` takes 10 ms, in a process of its own."""


def prepare(hosts: Sequence[Host], connecting: Connecting, ask: AskSecret) -> tuple[str, ...]:
    """Everything that the visits of these hosts will need to be told by a person is in `secrets.SECRETS`. What a person
    should know of the way to them is returned.

    Raises `Refused` when the operator wants a password to be asked for and nobody is there; for a passphrase that
    nobody can be asked for, the visits of its hosts say so.
    """
    _ask_passphrases(hops_of(hosts, connecting), ask, or_password=connecting.ask_password)
    if connecting.ask_password and SECRETS.get(SecretKind.LOGIN) is None:
        SECRETS.put(SecretKind.LOGIN, _given(ask("Password of the login: ")))
    load_become_password(hosts, connecting, ask)
    return _notes()


def prepare_scan(hosts: Sequence[Host], connecting: Connecting, ask: AskSecret) -> tuple[str, ...]:
    """The same for a scan_host_keys of host keys, which logs in at the bastions alone, and by their keys."""
    hops = hops_of(hosts, connecting)
    _ask_passphrases(tuple(dict.fromkeys(hop.jump for hop in hops if hop.jump is not None)), ask)
    return _notes()


def _notes() -> tuple[str, ...]:
    return () if has_openssh() else (WITHOUT_OPENSSH,)


def hops_of(hosts: Sequence[Host], connecting: Connecting) -> tuple[Settings, ...]:
    """Every place that a login is needed at: the hosts and the bastions before them, each once.

    What can't be resolved is left out: its visit says why.
    """
    with ThreadPoolExecutor(RESOLVERS, thread_name_prefix="fleet-resolve") as pool:
        found = pool.map(partial(_resolved, connecting), hosts)
        return tuple(dict.fromkeys(hop for settings in found for hop in _chain(settings)))


def _resolved(connecting: Connecting, host: Host) -> Settings | None:
    try:
        return resolve(host, connecting)
    except LinkError:
        return None


def _chain(settings: Settings | None) -> Iterator[Settings]:
    while settings is not None:
        yield settings
        settings = settings.jump


def _given(password: str) -> str:
    """The password. Raises `Refused` when it is empty: each host would count that as a failed login."""
    if not password:
        raise Refused("the password of the login is empty.", "Give it, or leave --ask-pass out.")
    return password


def _ask_passphrases(hops: Sequence[Settings], ask: AskSecret, *, or_password: bool = False) -> None:
    try:
        for file in _locked(hops, or_password=or_password):
            _unlock(file, ask)
    except Refused:
        return  # nobody is there: a host that needs the key says `key_unreadable`


def _locked(hops: Sequence[Settings], *, or_password: bool) -> Iterator[KeyFile]:
    """The key files that need a passphrase, which nobody has been asked for, and that the agent doesn't hold.

    Of OpenSSH's own list (`~/.ssh/id_*`) only where there is nothing else to offer, neither a key nor a password (which no
    bastion is given): else whether one of them is needed at all is known only when everything else has failed.
    """
    bastions = {hop.jump for hop in hops}
    held_by = cache(_held_by)
    wanted: dict[tuple[str, str | None], None] = {}
    ways = ((hop.named_by, hop.identity_files, hop.agent, or_password and hop not in bastions) for hop in hops)
    for named_by, paths, agent, by_password in dict.fromkeys(ways):
        is_named = named_by is not NamedBy.OPENSSH
        if is_named or not (
            by_password or any(read_key_file(path).state is KeyFileState.PRIVATE for path in paths) or held_by(agent)
        ):
            wanted.update(((path, agent), None) for path in paths)
    for path, agent in wanted:
        file = read_key_file(path)
        is_known = SECRETS.get(SecretKind.PASSPHRASE, path) is not None
        if file.state is KeyFileState.LOCKED and not is_known and not is_held(file, held_by(agent)):
            yield file


def _held_by(agent: str | None) -> tuple[AgentKey, ...]:
    if agent is None:
        return ()
    try:
        with closing(Agent(agent, LIST_S)) as found:
            return found.held
    except OSError:
        return ()


def _unlock(file: KeyFile, ask: AskSecret) -> None:
    """The passphrase is known, if the person knows it; an empty answer leaves the key out, as with `ssh`."""
    prompt = f"Passphrase of {file.path}: "
    for _ in range(MAX_TRIES):
        passphrase = ask(prompt)
        if not passphrase:
            break
        try:
            file.private(passphrase)
        except ValueError:
            prompt = f"Wrong. Passphrase of {file.path}: "
            continue
        SECRETS.put(SecretKind.PASSPHRASE, passphrase, file.path)
        return
    SECRETS.put(SecretKind.PASSPHRASE, "", file.path)
