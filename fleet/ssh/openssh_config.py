"""How to connect to a host, from `ssh -G`, so that every line of the operator's ssh_config means the same as for ssh.

paramiko's reader ignores `Include`, reads `ProxyJump none` as a host called "none", and an unknown `Match` as a match.
The inventory overrides ssh_config, as an option of ssh would; ssh's own options in it (`ansible_ssh_common_args`) go to
`ssh -G` as they are. Without OpenSSH on this machine, only the inventory and OpenSSH's defaults count.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from itertools import chain
from pathlib import Path
from threading import Lock

from fleet.host import SSH_PORT, Host, SshArguments
from fleet.ssh.config_groups import PLAIN_NAME, Group, Options, Stanzas, files_read, of_another, stanzas
from fleet.ssh.config_tokens import NONE, Tokens, home, local_user
from fleet.ssh.link_errors import LinkError
from fleet.task import PLAIN, Connecting, HostKeys

ASK_TIMEOUT_S = 20.0
MAX_JUMPS = 8
KEY_NAMES = ("id_rsa", "id_ecdsa", "id_ed25519")
KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
NO = ("no", "false", "off")
JUMP = re.compile(r"(?:(?P<user>.+)@)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<host>[^@:\[\]]+))(?::(?P<port>\d+))?")
FileState = tuple[int, ...]


class NamedBy(Enum):
    """What names the key files of a host."""

    OPENSSH = "OpenSSH's default list"
    SSH_CONFIG = "ssh_config"
    INVENTORY = "the inventory"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to connect to one host. `key_name`: its name in `known_hosts`. `agent`: the socket of the ssh-agent.

    `user_known_hosts`: the files for a new key, under its hashed name if `hash_known_hosts`. `revoked_keys`: a file of keys
    that are never accepted. `jump`: the bastion before the host. `alive_every_s` 0 and `connect_timeout_s` `None`:
    ssh_config does not set them.
    """

    hostname: str
    port: int
    user: str
    key_name: str
    known_hosts: tuple[str, ...]
    user_known_hosts: tuple[str, ...] = ()
    hash_known_hosts: bool = False
    revoked_keys: str | None = None
    host_keys: HostKeys = HostKeys.STRICT
    identity_files: tuple[str, ...] = ()
    named_by: NamedBy = NamedBy.OPENSSH
    certificate_files: tuple[str, ...] = ()
    identities_only: bool = False
    agent: str | None = None
    jump: "Settings | None" = None
    proxy_command: str | None = None
    connect_timeout_s: float | None = None
    alive_every_s: float = 0.0
    alive_misses: int = 3
    family: int = socket.AF_UNSPEC

    @property
    def endpoint(self) -> str:
        """The address, for people."""
        return f"{self.hostname} port {self.port}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A destination as on the command line: `ssh FIRST -l user -p port LAST -F config -J jumps name`."""

    name: str
    user: str | None = None
    port: int | None = None
    config: str | None = None
    jumps: str | None = None
    arguments: SshArguments = field(default_factory=SshArguments)


def resolve(host: Host, connecting: Connecting) -> Settings:
    """The settings for a host of the inventory. Raises `LinkError` when ssh_config can't be read."""
    config = connecting.ssh_config or host.ssh_config
    config = os.path.expanduser(config) if config else None
    asked = _Asked(host.address, host.user, host.port, config, arguments=host.ssh_arguments)
    found = _settings(asked, _options(asked), connecting)
    if host.key_files:
        files = (*host.key_files, *_files_of_arguments(asked))
        found = replace(found, identity_files=files, named_by=NamedBy.INVENTORY, identities_only=True)
    if host.known_hosts:
        found = replace(found, known_hosts=(host.known_hosts,), user_known_hosts=(host.known_hosts,))
    return found


def _files_of_arguments(asked: _Asked) -> tuple[str, ...]:
    """The key files that ssh's arguments name, without missing ones: ssh passes over them, too."""
    if not any(word.lower().startswith(("-i", "-oidentityfile")) for word in chain(*asked.arguments)):
        return ()
    alone = replace(asked, config=NONE)
    named = _settings(alone, _options(alone), PLAIN)
    return () if named.named_by is NamedBy.OPENSSH else tuple(filter(os.path.exists, named.identity_files))


def has_openssh() -> bool:
    """Whether this machine has the program `ssh`."""
    return _is_in("ssh", os.environ.get("PATH"))


@lru_cache(maxsize=4)
def _is_in(program: str, path: str | None) -> bool:
    return shutil.which(program, path=path) is not None


def _settings(asked: _Asked, options: Options, connecting: Connecting, depth: int = 0) -> Settings:
    def one(name: str, default: str) -> str:
        return options.get(name, (default,))[0]

    hostname, port, user = one("hostname", asked.name), int(one("port", str(SSH_PORT))), one("user", local_user())
    alias, jumps = one("hostkeyalias", ""), one("proxyjump", "")
    tokens = Tokens(asked.name, hostname, port, user, alias or asked.name, jumps)
    revoked = one("revokedhostkeys", NONE)
    agent = one("identityagent", "SSH_AUTH_SOCK")
    command = one("proxycommand", NONE)
    timeout = one("connecttimeout", NONE)
    return Settings(
        hostname=hostname,
        port=port,
        user=user,
        key_name=alias or _key_name(hostname, port),
        known_hosts=tokens.paths(one("userknownhostsfile", "")) + tokens.paths(one("globalknownhostsfile", "")),
        user_known_hosts=tokens.paths(one("userknownhostsfile", "")),
        hash_known_hosts=one("hashknownhosts", "no") not in NO,
        revoked_keys=tokens.path(revoked) if revoked != NONE else None,
        host_keys=connecting.host_keys or _host_keys(one("stricthostkeychecking", "ask")),
        identity_files=tuple(tokens.path(path) for path in options.get("identityfile", ()) if path != NONE),
        named_by=NamedBy.OPENSSH if options.get("identityfile") == _default_files() else NamedBy.SSH_CONFIG,
        certificate_files=tuple(tokens.path(path) for path in options.get("certificatefile", ()) if path != NONE),
        identities_only=one("identitiesonly", "no") not in NO,
        agent=_agent(agent, tokens),
        jump=_jump(tokens.text(jumps), asked, connecting, depth) if jumps and jumps != NONE else None,
        proxy_command=tokens.command(command) if command != NONE and not jumps else None,
        connect_timeout_s=None if timeout == NONE else float(timeout) or None,  # 0 means the default
        alive_every_s=float(one("serveraliveinterval", "0")),
        alive_misses=int(one("serveralivecountmax", "3")),
        family=FAMILIES.get(one("addressfamily", "any"), socket.AF_UNSPEC),
    )


def _key_name(hostname: str, port: int) -> str:
    name = hostname.lower()
    return name if port == SSH_PORT else f"[{name}]:{port}"


def _host_keys(text: str) -> HostKeys:
    """`no` counts as `accept-new`: fleet refuses a changed key in any case."""
    return HostKeys.ACCEPT_NEW if text == "accept-new" or text in NO else HostKeys.STRICT


def _agent(text: str, tokens: "Tokens") -> str | None:
    if text == NONE:
        return None
    if text == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK")
    return os.environ.get(text[1:]) if text.startswith("$") and "{" not in text else tokens.path(text)


def _jump(jumps: str, asked: _Asked, connecting: Connecting, depth: int) -> Settings:
    """The last hop of the chain, reached through the hops before it; the first hop is reached by its own ProxyJump."""
    before, _, last = jumps.rpartition(",")
    found = JUMP.fullmatch(last.strip().removeprefix("ssh://").rstrip("/"))
    if found is None or depth >= MAX_JUMPS:
        raise LinkError(
            "ssh_config_refused",
            f"ProxyJump {jumps} of {asked.name} is not a list of at most {MAX_JUMPS} hosts.",
            f"Correct it in ssh_config or the inventory; to see it: `{shlex.join(_words(asked))} | grep -i proxyjump`",
        )
    name = found["bracketed"] or found["host"]
    hop = _Asked(name, found["user"], int(found["port"]) if found["port"] else None, asked.config, before or None)
    return _settings(hop, _options(hop), connecting, depth + 1)


# The options of `ssh -G`


def _options(asked: _Asked) -> Options:
    """Each option that `ssh -G` prints, with its values in order; OpenSSH's defaults without `ssh`."""
    if not has_openssh():
        if any(asked.arguments):
            raise LinkError(
                "ssh_config_refused",
                f"This machine has no `ssh` to read the ssh arguments that the inventory gives {asked.name}.",
                "Install OpenSSH's client (Debian: `apt install openssh-client`).",
            )
        return _defaults(asked)
    state = _state(asked.config)
    if any(asked.arguments) or asked.jumps or not PLAIN_NAME.fullmatch(asked.name):
        return _answer(_words(asked), state)
    with _SHARING:  # all visits begin at once; one of them asks, the others wait and find its answer
        shared = _shared(asked, state)
    return _answer(_words(asked), state) if shared is None else shared


@dataclass(slots=True)
class _Reader:
    """What one state of the configuration says, and the answers so far: the name that ssh was asked for, and its answer."""

    files: tuple[tuple[Path, FileState], ...]
    stanzas: Stanzas
    answers: dict[tuple[Group, str | None, bool], tuple[str, Options] | None] = field(default_factory=dict)


_SHARING = Lock()
_READERS: dict[tuple[str | None, FileState], _Reader | None] = {}


def _shared(asked: _Asked, state: FileState) -> Options | None:
    """The answer for a host by that for another host of its group; `None` when ssh must be asked for this very host."""
    reader = _READERS.get((asked.config, state))
    if reader is not None and any(_seen(path) != seen for path, seen in reader.files):
        _READERS.pop((asked.config, state))
    if (asked.config, state) not in _READERS:
        _READERS[asked.config, state] = _reader(asked)
    reader = _READERS[asked.config, state]
    if reader is None:
        return None
    key = reader.stanzas.group(asked.name), asked.user, asked.port is not None
    if key not in reader.answers:
        answer = _answer(_words(asked), state)
        is_shared = reader.stanzas.is_shared(asked.name, answer)
        reader.answers[key] = (asked.name, answer) if is_shared else None
    found = reader.answers[key]
    if found is None:
        return None
    name, answer = found
    return of_another(answer, name, asked.name, asked.user, asked.port)


def _reader(asked: _Asked) -> _Reader | None:
    """The reader of the files that ssh reads for this host; `None` when a line may tell its hosts apart in another way."""
    words = _words(asked)
    ran = _run((words[0], "-v", *words[1:]))
    files = files_read(ran.stderr.decode("utf-8", "replace"), asked.config) if ran.returncode == 0 else None
    if files is None:
        return None
    states = tuple((path, _seen(path)) for path in files)
    try:
        found = stanzas(path.read_text("utf-8", "replace") for path in files)
    except OSError:
        return None
    return None if found is None else _Reader(states, found)


def _words(asked: _Asked) -> tuple[str, ...]:
    first, last = asked.arguments
    user = ("-l", asked.user) if asked.user else ()
    port = ("-p", str(asked.port)) if asked.port else ()
    config = ("-F", asked.config) if asked.config else ()
    jumps = ("-J", asked.jumps) if asked.jumps else ()
    return ("ssh", "-G", *first, *user, *port, *last, *config, *jumps, "--", asked.name)


def _state(config: str | None) -> FileState:
    """A value that changes with the configuration file."""
    return _seen(Path(config) if config else Path(home(), ".ssh", "config"))


def _seen(path: Path) -> FileState:
    try:
        seen = path.stat()
    except OSError:
        return ()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


@lru_cache(maxsize=8192)
def _answer(words: tuple[str, ...], state: FileState) -> Options:
    """What ssh prints. `state` is part of the cache key, so that a changed file is read again. Raises `LinkError`."""
    asked = _run(words)
    if asked.returncode != 0:
        raise _refused(words, "; ".join(asked.stderr.decode("utf-8", "replace").split("\n")).strip("; \r"))
    found: dict[str, tuple[str, ...]] = {}
    for line in asked.stdout.decode("utf-8", "replace").splitlines():
        name, _, value = line.strip().partition(" ")
        found[name.lower()] = (*found.get(name.lower(), ()), value)
    return found


def _run(words: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LinkError(
            "ssh_config_refused", f"OpenSSH's `ssh -G` failed: {error}.", f"Run it by hand: `{shlex.join(words)}`"
        ) from error


def _refused(words: tuple[str, ...], message: str) -> LinkError:
    remedy = f"Correct it until this works: `{shlex.join(words)}`"
    if message.startswith('Shell "'):
        remedy = (
            "Match exec runs by your shell ($SHELL). Name one that exists, by its whole path: `export SHELL=/bin/sh`"
        )
    elif any(word.startswith("-") and len(word) > 2 for word in words[2:-2]):
        names = "ansible_ssh_args, ansible_ssh_common_args or ansible_ssh_extra_args"
        remedy = f"Correct {names} in the inventory until this works: `{shlex.join(words)}`"
    return LinkError("ssh_config_refused", f"OpenSSH refuses its configuration: {message}.", remedy)


def _default_files() -> tuple[str, ...] | None:
    """The key files of this version of OpenSSH, as `ssh -G` prints them when no configuration names any."""
    return _options(_Asked("localhost", config=NONE)).get("identityfile")


def _defaults(asked: _Asked) -> Options:
    """OpenSSH's defaults, and the user and port that were given."""
    found = {
        "identityfile": tuple(f"~/.ssh/{name}" for name in KEY_NAMES),
        "userknownhostsfile": (" ".join(KNOWN_HOSTS),),
    }
    given = {"user": asked.user, "port": asked.port and str(asked.port)}
    return {**found, **{name: (value,) for name, value in given.items() if value}}
