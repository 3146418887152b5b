"""The prompts before the first visit: each secret is asked for once, in the main thread, for all hosts."""

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
"""Shows a prompt on the terminal and reads the answer without echo. Raises `Refused` without a terminal."""
WITHOUT_OPENSSH = (
    "This machine has no `ssh`: ssh_config is not read, and only the inventory and OpenSSH's defaults count. "
    "Install OpenSSH's client (Debian: openssh-client)."
)
MAX_TRIES = 3
RESOLVERS = 8
"""How many `ssh -G` run at a time. Each takes 10 ms, in its own process."""


def prepare(hosts: Sequence[Host], connecting: Connecting, ask: AskSecret) -> tuple[str, ...]:
    """Asks for every secret that the visits of these hosts need, and puts it into `secrets.SECRETS`. Returns notes for the
    operator.

    Raises `Refused` when a password is to be asked for without a terminal. A passphrase is left out then, and the visits
    that need it fail with `key_unreadable`.
    """
    _ask_passphrases(hops_of(hosts, connecting), ask, or_password=connecting.ask_password)
    if connecting.ask_password and SECRETS.get(SecretKind.LOGIN) is None:
        SECRETS.put(SecretKind.LOGIN, _given(ask("Password of the login: ")))
    load_become_password(hosts, connecting, ask)
    return _notes()


def prepare_scan(hosts: Sequence[Host], connecting: Connecting, ask: AskSecret) -> tuple[str, ...]:
    """The same for a scan of host keys, which logs in at bastions only, and by keys only."""
    hops = hops_of(hosts, connecting)
    _ask_passphrases(tuple(dict.fromkeys(hop.jump for hop in hops if hop.jump is not None)), ask)
    return _notes()


def _notes() -> tuple[str, ...]:
    return () if has_openssh() else (WITHOUT_OPENSSH,)


def hops_of(hosts: Sequence[Host], connecting: Connecting) -> tuple[Settings, ...]:
    """The hosts and the bastions before them, each once: every place with a login.

    A host that can't be resolved is left out: its visit reports why.
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
    """The password. Raises `Refused` when it is empty: each host would count it as a failed login."""
    if not password:
        raise Refused("The password of the login is empty.", "Give a password, or leave out --ask-pass.")
    return password


def _ask_passphrases(hops: Sequence[Settings], ask: AskSecret, *, or_password: bool = False) -> None:
    try:
        for file in _locked(hops, or_password=or_password):
            _unlock(file, ask)
    except Refused:
        return  # there is no terminal: a host that needs the key fails with `key_unreadable`


def _locked(hops: Sequence[Settings], *, or_password: bool) -> Iterator[KeyFile]:
    """The key files whose passphrase is not known yet, and whose key the agent does not hold.

    Files of OpenSSH's default list (`~/.ssh/id_*`) only where there is nothing else to offer: no key, and no password
    (which no bastion gets). Elsewhere they may not be needed, and prompting for them all would be too much.
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
    """Asks for the passphrase until it is right, at most `MAX_TRIES` times. An empty answer leaves the key out, as in ssh."""
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
