"""fleet logs in where `ssh` does, and otherwise reports what it offered: with real sshds, agents and keys."""

import base64
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.host import Host
from fleet.ssh.auth import key_files
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.ssh.link_errors import LinkError
from fleet.ssh.transport.bastion import close_bastions
from fleet.ssh.transport.connection import Link
from fleet.task import PLAIN, Connecting
from tests.support.ssh.agents import FidoAgent, ssh_add, ssh_agent
from tests.support.ssh.server import Sshd, certify, hide, make_key, public, sshd
from tests.support.ssh.stubs import QUICK

WITH_PASSWORD = Connecting(ask_password=True)
RIGHT = "öpen sesame"


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No agent but a test's own, and no secret of another test."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield
    SECRETS.forget()
    close_bastions()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd that disconnects at the second unknown key, and that trusts a certificate authority."""
    folder = tmp_path_factory.mktemp("strict")
    make_key(folder / "ca")
    with sshd(folder, "MaxAuthTries 2", f"TrustedUserCAKeys {folder}/ca.pub", "PasswordAuthentication no") as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    with ssh_agent(tmp_path / "agent") as place:
        yield place


def configured(server: Sshd, tmp_path: Path, *lines: str) -> Host:
    """The host, with an ssh_config of these lines; the inventory names no key."""
    (tmp_path / "config").write_text("".join(f"{line}\n" for line in lines))
    return replace(server.host, key_files=(), ssh_config=str(tmp_path / "config"))


def with_key(server: Sshd, key: Path) -> Host:
    return replace(server.host, key_files=(str(key),))


def is_in(host: Host, connecting: Connecting = PLAIN) -> bool:
    """Whether the login succeeds. Raises `LinkError`."""
    link = Link(host, QUICK, connecting)
    try:
        link.open()
        return link.transport.is_authenticated()
    finally:
        link.close()


def rejection(host: Host, connecting: Connecting = PLAIN) -> LinkError:
    with pytest.raises(LinkError) as caught:
        is_in(host, connecting)
    assert caught.value.remedy
    return caught.value


def allow(server: Sshd, *lines: str) -> None:
    with (server.folder / "authorized_keys").open("a") as sink:
        sink.writelines(f"{line}\n" for line in lines)


# Key files


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_keys_of_each_type_are_accepted(server: Sshd, tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path / "key", kind)
    allow(server, public(key))

    assert is_in(with_key(server, key))


@pytest.mark.parametrize(("kind", "form"), [("rsa", "PEM"), ("ecdsa", "PEM"), ("ecdsa", "PKCS8")])
def test_older_formats_of_key_files_are_accepted(server: Sshd, tmp_path: Path, kind: str, form: str) -> None:
    key = make_key(tmp_path / "key", kind)
    allow(server, public(key))
    subprocess.run(["ssh-keygen", "-q", "-p", "-m", form, "-N", "", "-f", key], check=True, capture_output=True)
    Path(f"{key}.pub").unlink()

    assert is_in(with_key(server, key))


def test_a_refused_login_names_the_key_and_the_methods_that_the_host_accepts(strict: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "other")

    failure = rejection(with_key(strict, key))

    assert failure.reason == "auth_failed"
    assert f"refused the login of root; offered: {key}; it accepts publickey" in failure.message
    assert "authorized_keys of root" in failure.remedy


@pytest.mark.parametrize(
    "content", [None, b"no key at all\n", b"\xff\xfe AAAAAv/+"], ids=["missing", "no key", "no text"]
)
def test_a_key_file_of_the_inventory_that_cannot_be_read_is_named(
    server: Sshd, tmp_path: Path, content: bytes | None
) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)

    failure = rejection(with_key(server, key))

    assert failure.reason == "key_unreadable"
    assert str(key) in failure.message
    assert "ansible_ssh_private_key_file" in failure.remedy


def test_a_key_file_of_ssh_config_that_is_not_there_is_passed_over(strict: Sshd, tmp_path: Path) -> None:
    lines = (f"IdentityFile {tmp_path}/gone", f"IdentityFile {strict.folder}/login")

    assert is_in(configured(strict, tmp_path, *lines))


def test_many_visits_parse_a_key_once(server: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", "rsa")
    key_files._parsed.cache_clear()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(key_files.read_key_file, [str(key)] * 8))

    assert {file.state for file in found} == {key_files.KeyFileState.PRIVATE}
    assert key_files._parsed.cache_info().misses == 1


# The agent, and how many keys are offered


def test_a_configured_key_is_offered_before_the_agent_s_others(strict: Sshd, tmp_path: Path, agent: Path) -> None:
    """OpenSSH would offer the agent's five first, and be disconnected at the second."""
    ssh_add(agent, *(make_key(tmp_path / f"other-{number}") for number in range(5)))
    lines = (f"IdentityAgent {agent}", f"IdentityFile {strict.folder}/login")

    assert is_in(configured(strict, tmp_path, *lines))
    ssh_add(agent, strict.folder / "login")
    assert is_in(configured(strict, tmp_path, *lines))


def test_an_unconfigured_key_of_the_agent_is_accepted(strict: Sshd, tmp_path: Path, agent: Path) -> None:
    ssh_add(agent, strict.folder / "login")

    assert is_in(configured(strict, tmp_path, f"IdentityAgent {agent}", "IdentityFile none"))


def test_a_key_of_the_agent_comes_before_default_files(strict: Sshd, tmp_path: Path, agent: Path, home: Path) -> None:
    """As with OpenSSH: two default files (~/.ssh/id_*) would have used up the count."""
    for kind in ("ed25519", "ecdsa"):
        make_key(home / f"id_{kind}", kind)
    ssh_add(agent, strict.folder / "login")

    assert is_in(configured(strict, tmp_path, f"IdentityAgent {agent}"))


def test_a_fido_key_is_offered_after_the_agent_s_others(strict: Sshd, tmp_path: Path) -> None:
    with FidoAgent(tmp_path / "fido", also=strict.folder / "login") as fido:
        allow(strict, fido.public)

        assert is_in(configured(strict, tmp_path, f"IdentityAgent {tmp_path}/fido", "IdentityFile none"))
    assert fido.touches == 0


def test_a_fido_key_is_offered_after_a_default_file(strict: Sshd, tmp_path: Path, home: Path) -> None:
    key = make_key(home / "id_ed25519")
    with FidoAgent(tmp_path / "fido") as fido:
        allow(strict, fido.public, public(key))

        assert is_in(configured(strict, tmp_path, f"IdentityAgent {tmp_path}/fido"))
    assert fido.touches == 0


def test_a_locked_default_key_is_in_the_remedy(strict: Sshd, tmp_path: Path, agent: Path, home: Path) -> None:
    """The agent holds others, so that its passphrase was not asked for."""
    locked = make_key(home / "id_ed25519", passphrase=RIGHT)
    ssh_add(agent, make_key(tmp_path / "other"))

    failure = rejection(configured(strict, tmp_path, f"IdentityAgent {agent}"))

    assert failure.reason == "auth_failed"
    assert f"(if it is {locked}: ssh-add it first)" in failure.remedy


def test_with_identities_only_no_other_key_of_the_agent_is_offered(strict: Sshd, tmp_path: Path, agent: Path) -> None:
    key = make_key(tmp_path / "named")
    ssh_add(agent, strict.folder / "login", key)
    lines = (f"IdentityAgent {agent}", f"IdentityFile {key}", "IdentitiesOnly yes")

    failure = rejection(configured(strict, tmp_path, *lines))

    assert f"offered: {key} (held by the agent); it accepts" in failure.message


def test_a_public_key_file_picks_its_key_from_the_agent(strict: Sshd, tmp_path: Path, agent: Path) -> None:
    ssh_add(agent, make_key(tmp_path / "other"), make_key(tmp_path / "another"), strict.folder / "login")
    shutil.copy(strict.folder / "login.pub", tmp_path / "mine.pub")

    for name in ("mine.pub", "mine"):
        lines = (f"IdentityAgent {agent}", f"IdentityFile {tmp_path}/{name}", "IdentitiesOnly yes")
        assert is_in(configured(strict, tmp_path, *lines))


@pytest.mark.parametrize("beside", [True, False], ids=["with its public half", "alone"])
def test_an_unreadable_key_file_is_used_through_the_agent(
    strict: Sshd, tmp_path: Path, agent: Path, beside: bool
) -> None:
    """The file has a cipher that only OpenSSH supports."""
    key = make_key(tmp_path / "key")
    allow(strict, public(key))
    ssh_add(agent, key)
    cipher = ["-Z", "chacha20-poly1305@openssh.com", "-N", "open sesame"]
    subprocess.run(["ssh-keygen", "-q", "-p", "-a", "1", *cipher, "-f", key], check=True, capture_output=True)
    if not beside:
        Path(f"{key}.pub").unlink()

    assert is_in(replace(configured(strict, tmp_path, f"IdentityAgent {agent}"), key_files=(str(key),)))
    failure = rejection(with_key(strict, key))
    assert failure.reason == "key_unreadable"
    assert "Unsupported cipher" in failure.message
    assert f"ssh-add {key}" in failure.remedy


def test_a_server_that_disconnects_after_too_many_keys_is_reported_with_the_remedy(
    strict: Sshd, tmp_path: Path, agent: Path
) -> None:
    ssh_add(agent, *(make_key(tmp_path / f"other-{number}") for number in range(3)))

    failure = rejection(configured(strict, tmp_path, f"IdentityAgent {agent}", "IdentityFile none"))

    assert failure.reason == "auth_failed"
    assert "it disconnected after 2" in failure.message
    assert "(of the agent)" in failure.message
    assert "IdentitiesOnly" in failure.remedy


def test_a_host_is_not_offered_the_keys_of_the_hosts_before_it(strict: Sshd, tmp_path: Path) -> None:
    """Fabric adds each host's IdentityFile to arguments that all connections share."""
    for name in ("db-01", "db-02", "db-03"):
        make_key(tmp_path / name)
    allow(strict, public(make_key(tmp_path / "web-01")))
    host = configured(strict, tmp_path, "HostName 127.0.0.1", f"IdentityFile {tmp_path}/%n")

    for name in ("db-01", "db-02", "db-03"):
        failure = rejection(replace(host, name=name, address=name))
        assert failure.reason == "auth_failed"
    assert is_in(replace(host, name="web-01", address="web-01"))


def test_no_more_keys_are_offered_than_sshd_takes_by_default(server: Sshd, tmp_path: Path, agent: Path) -> None:
    ssh_add(agent, *(make_key(tmp_path / f"other-{number}") for number in range(8)))
    host = configured(server, tmp_path, f"IdentityAgent {agent}", "IdentityFile none")
    SECRETS.put(SecretKind.LOGIN, "wrong")

    failure = rejection(host, WITH_PASSWORD)

    assert failure.message.count("(of the agent)") == 5
    assert "3 more keys of the agent were not offered" in failure.message


def test_a_dead_agent_is_reported_when_the_login_fails(strict: Sshd, tmp_path: Path) -> None:
    failure = rejection(configured(strict, tmp_path, f"IdentityAgent {tmp_path}/gone", "IdentityFile none"))

    assert failure.reason == "auth_failed"
    assert "offered: nothing" in failure.message
    assert f"the agent at {tmp_path}/gone does not answer" in failure.message
    assert "ssh-add" in failure.remedy


# Certificates


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_certificate_beside_the_key_is_used(strict: Sshd, tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path / "key", kind)
    certify(strict.folder / "ca", key)

    assert is_in(with_key(strict, key))


def test_a_certificate_that_ssh_config_names_is_used(strict: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    elsewhere = certify(strict.folder / "ca", key).rename(tmp_path / "elsewhere.pub")

    assert is_in(configured(strict, tmp_path, f"IdentityFile {key}", f"CertificateFile {elsewhere}"))


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@pytest.mark.parametrize("is_alone", [False, True], ids=["with its key", "alone"])
def test_a_certificate_of_the_agent_is_used(
    strict: Sshd, tmp_path: Path, agent: Path, kind: str, is_alone: bool
) -> None:
    key = make_key(tmp_path / "key", kind)
    certificate = certify(strict.folder / "ca", key)
    ssh_add(agent, key)
    if is_alone:
        ssh_add(agent, "-k", "-d", key)
    certificate.unlink()

    assert is_in(configured(strict, tmp_path, f"IdentityAgent {agent}", "IdentityFile none"))


def test_a_certificate_file_is_used_with_the_key_that_the_agent_holds(
    strict: Sshd, tmp_path: Path, agent: Path
) -> None:
    key = make_key(tmp_path / "key")
    ssh_add(agent, key)
    key.unlink()
    certificate = certify(strict.folder / "ca", key)

    assert is_in(configured(strict, tmp_path, f"IdentityAgent {agent}", f"IdentityFile {key}", "IdentitiesOnly yes"))
    other = configured(
        strict, tmp_path, f"IdentityAgent {agent}", "IdentityFile none", f"CertificateFile {certificate}"
    )
    assert is_in(other)


def test_an_expired_certificate_is_reported_as_expired(strict: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    certificate = certify(strict.folder / "ca", key, "-V", "20200101:20200102")

    failure = rejection(with_key(strict, key))

    assert f"{certificate} (a certificate that has expired), {key}" in failure.message


# FIDO keys


def test_a_fido_key_of_the_agent_needs_one_touch(strict: Sshd, tmp_path: Path) -> None:
    with FidoAgent(tmp_path / "fido") as fido:
        allow(strict, fido.public)

        assert is_in(configured(strict, tmp_path, f"IdentityAgent {tmp_path}/fido", "IdentityFile none"))
    assert fido.touches == 1


def test_a_certificate_file_is_used_with_the_fido_key_that_the_agent_holds(strict: Sshd, tmp_path: Path) -> None:
    """As when a short-lived one was renewed after `ssh-add`."""
    with FidoAgent(tmp_path / "fido") as fido:
        (tmp_path / "token.pub").write_text(f"{fido.public}\n")
        certify(strict.folder / "ca", tmp_path / "token")

        assert is_in(configured(strict, tmp_path, f"IdentityAgent {tmp_path}/fido", f"IdentityFile {tmp_path}/token"))
    assert fido.touches == 1


def test_no_touch_is_needed_for_a_key_that_the_host_does_not_accept(strict: Sshd, tmp_path: Path) -> None:
    with FidoAgent(tmp_path / "fido") as fido:
        failure = rejection(configured(strict, tmp_path, f"IdentityAgent {tmp_path}/fido", "IdentityFile none"))

    assert "offered: token (of the agent)" in failure.message
    assert fido.touches == 0


def test_a_token_that_is_unplugged_does_not_end_the_login(strict: Sshd, tmp_path: Path) -> None:
    with FidoAgent(tmp_path / "fido", is_there=False) as fido:
        allow(strict, fido.public)
        (tmp_path / "token.pub").write_text(f"{fido.public}\n")
        lines = (f"IdentityAgent {tmp_path}/fido", f"IdentityFile {tmp_path}/token")

        assert is_in(configured(strict, tmp_path, *lines, f"IdentityFile {strict.folder}/login"))
        failure = rejection(configured(strict, tmp_path, *lines))

    assert "the agent gave no signature: the token was not touched" in failure.message


def test_a_fido_key_file_without_the_agent_has_a_remedy(server: Sshd, tmp_path: Path) -> None:
    with FidoAgent(tmp_path / "fido") as fido:
        blob = base64.b64decode(fido.public.split()[1])
    key = tmp_path / "id_ed25519_sk"
    body = key_files.MAGIC + b"".join(len(part).to_bytes(4, "big") + part for part in (b"none", b"none", b""))
    body += (1).to_bytes(4, "big") + len(blob).to_bytes(4, "big") + blob
    key.write_text(
        f"{key_files.OPENSSH.decode()}\n{base64.b64encode(body).decode()}\n-----END OPENSSH PRIVATE KEY-----\n"
    )

    failure = rejection(with_key(server, key))

    assert failure.reason == "key_unreadable"
    assert "is a FIDO key, which fleet can use through the agent only" in failure.message
    assert failure.remedy == f"Add it to the agent: ssh-add {key}"


# Passphrases


def test_a_key_with_a_passphrase_comes_from_the_agent_or_not_at_all(server: Sshd, tmp_path: Path, agent: Path) -> None:
    key = make_key(tmp_path / "key")
    allow(server, public(key))
    ssh_add(agent, key)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-a", "1", "-N", "open sesame", "-f", key], check=True, capture_output=True
    )
    Path(f"{key}.pub").unlink()

    failure = rejection(with_key(server, key))
    assert failure.reason == "key_unreadable"
    assert failure.remedy == f"Unlock it once for all hosts: ssh-add {key}"

    lines = (f"IdentityAgent {agent}",)
    assert is_in(replace(configured(server, tmp_path, *lines), key_files=(str(key),)))


def test_a_passphrase_that_was_asked_for_unlocks_its_key(server: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key", passphrase=RIGHT)
    allow(server, public(key))
    SECRETS.put(SecretKind.PASSPHRASE, RIGHT, str(key))

    assert is_in(with_key(server, key))


def test_a_locked_key_is_named_as_the_cause_when_the_others_were_refused(strict: Sshd, tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", passphrase=RIGHT)
    other = make_key(tmp_path / "other")

    failure = rejection(configured(strict, tmp_path, f"IdentityFile {locked}", f"IdentityFile {other}"))

    assert failure.reason == "key_unreadable"
    assert f"offered: {other}" in failure.message
    assert "ssh-add" in failure.remedy


# Passwords


@pytest.fixture(scope="module", params=["password", "keyboard-interactive"])
def by_password(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd that accepts a password for root by one of the two methods."""
    folder = tmp_path_factory.mktemp("password")
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=f"{RIGHT}\n", capture_output=True, text=True, check=True
    ).stdout.strip()
    pam = "auth required pam_unix.so nodelay\naccount required pam_permit.so\nsession required pam_permit.so\n"
    is_plain = request.param == "password"
    settings = (
        ("KbdInteractiveAuthentication no",)
        if is_plain
        else ("UsePAM yes", "PasswordAuthentication no", "KbdInteractiveAuthentication yes")
    )
    start = hide(folder, shadow=f"root:{hashed}:19000:0:99999:7:::\n", pam__d__sshd=pam)
    with sshd(folder, *settings, within=start) as running:
        yield running


def test_the_password_is_used_where_no_key_is_accepted(by_password: Sshd, tmp_path: Path) -> None:
    host = with_key(by_password, make_key(tmp_path / "other"))
    SECRETS.put(SecretKind.LOGIN, RIGHT)

    assert is_in(host, WITH_PASSWORD)
    assert rejection(host).reason == "auth_failed"


def test_a_wrong_login_password_is_sent_once_and_reported(by_password: Sshd) -> None:
    SECRETS.put(SecretKind.LOGIN, "wrong")
    host = configured(by_password, by_password.folder, "IdentityFile none")

    failure = rejection(host, WITH_PASSWORD)

    assert failure.reason == "auth_failed"
    assert "offered: the password" in failure.message
    assert "wrong" not in failure.message
    assert "password is right" in failure.remedy
    log = (by_password.folder / "sshd.log").read_text()
    assert log.count("Failed password") + log.count("Failed keyboard-interactive") <= 1


def test_a_password_that_other_hosts_refused_and_none_accepted_is_not_sent(by_password: Sshd) -> None:
    SECRETS.put(SecretKind.LOGIN, RIGHT)
    gate = SECRETS.gate(SecretKind.LOGIN, "root")
    host = configured(by_password, by_password.folder, "IdentityFile none")
    for other in ("web-02 port 22", "web-03 port 22"):
        gate.enter(other)
        gate.report(other, other, False)

    failure = rejection(host, WITH_PASSWORD)

    assert failure.reason == "auth_failed"
    assert "offered: nothing" in failure.message
    assert "the password was rejected by web-02 port 22 and web-03 port 22 and accepted by no host" in failure.message
    assert "right password" in failure.remedy


@pytest.mark.parametrize("keys_before", [0, 5], ids=["alone", "as the last try that sshd takes"])
def test_a_refused_password_is_not_sent_to_the_same_host_again(
    by_password: Sshd, tmp_path: Path, agent: Path, keys_before: int
) -> None:
    for number in range(keys_before):
        ssh_add(agent, make_key(tmp_path / f"other-{number}"))
    host = configured(by_password, tmp_path, f"IdentityAgent {agent}", "IdentityFile none")
    SECRETS.put(SecretKind.LOGIN, "wrong")

    said = "it disconnected after 6" if keys_before else "it accepts"
    assert f"the password; {said}" in rejection(host, WITH_PASSWORD).message
    assert "the password was refused on this host before" in rejection(host, WITH_PASSWORD).message


def test_a_host_that_takes_passwords_only_says_which_option_gives_one(tmp_path: Path) -> None:
    with sshd(tmp_path, "PubkeyAuthentication no") as server:
        failure = rejection(server.host)

    assert "offered: nothing" in failure.message
    assert "--ask-pass" in failure.remedy


def test_a_bastion_is_not_given_the_hosts_password(by_password: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "other")
    SECRETS.put(SecretKind.LOGIN, RIGHT)

    failure = rejection(behind_itself(by_password, tmp_path, key), WITH_PASSWORD)

    assert failure.message.startswith(f"The bastion {by_password.host.address} port {by_password.port} can't be used")
    assert f"refused the login of root; offered: {key}; it accepts publickey" in failure.message
    assert failure.reason == "auth_failed"


def behind_itself(server: Sshd, tmp_path: Path, bastion_key: Path) -> Host:
    """The host, behind a bastion that is the same sshd and requires this key."""
    gate = (
        "Host gate",
        "HostName 127.0.0.1",
        f"Port {server.port}",
        "User root",
        f"IdentityFile {bastion_key}",
        "Host *",
        f"UserKnownHostsFile {server.known_hosts}",
        "Match originalhost 127.0.0.1",
        "ProxyJump gate",
    )
    return replace(configured(server, tmp_path, *gate), key_files=server.host.key_files)


# More than one proof


def test_a_host_that_wants_two_proofs_gets_both(tmp_path: Path) -> None:
    with sshd(tmp_path, "AuthenticationMethods publickey,publickey") as server:
        second = make_key(tmp_path / "second")
        allow(server, public(second))

        assert "it accepted a part of it and requires more" in rejection(server.host).message
        assert is_in(replace(server.host, key_files=(*server.host.key_files, str(second))))
