"""What fleet does with Ansible's own variables, those of its connection, become and shell plugins.

- It honours the `ansible_…` fields of `host_values.py:HostValues` and the older names in `ALIASES`.
- It refuses a variable of `CONFLICTS` for a host that is selected: to ignore it would reach another machine or user, or do
  something else than the inventory asks for.
- It ignores every other one, and says so once. `IGNORED` names those that Ansible documents; they say how Ansible works
  (temporary directories, timeouts, pipelining), belong to connections that fleet does not have, or make fleet only stricter
  than Ansible (`ansible_host_key_checking: false`).

`docs/inventory.md` has the same for people; a test holds both to the variables that Ansible's plugins document.
"""

import re
from enum import Enum
from typing import NamedTuple

ALIASES = {
    "ansible_ssh_host": "ansible_host",
    "ansible_ssh_port": "ansible_port",
    "ansible_ssh_user": "ansible_user",
    "ansible_private_key_file": "ansible_ssh_private_key_file",
    "ansible_sudo_user": "ansible_become_user",
    "ansible_doas_user": "ansible_become_user",
}


class When(Enum):
    """The hosts to which a conflict matters."""

    ALWAYS = "always"
    BECOME = "ansible_become is true"
    PARAMIKO = "ansible_connection is paramiko"


class Password(Enum):
    """A password that an inventory may hold; fleet takes it from the operator."""

    LOGIN = "login"
    BECOME = "become"


class Conflict(NamedTuple):
    """Variables that fleet can't honour. `{name}` in the texts is the variable's name.

    A value that `harmless` matches asks for nothing that fleet does otherwise. With `password` it is no conflict in a
    command that is given that password, or needs none.
    """

    names: tuple[str, ...]
    message: str
    remedy: str
    when: When = When.ALWAYS
    harmless: str = ""
    password: Password | None = None

    def texts(self, name: str) -> tuple[str, str]:
        """Message and remedy for the variable of that name."""
        return self.message.format(name=name), self.remedy.format(name=name)

    def is_met_by(self, value: str) -> bool:
        """Whether a variable with this text asks for something that fleet does not do."""
        return bool(value.strip()) and not re.fullmatch(self.harmless, value.strip())


_EMPTY = "then write `{name}:` without a value in host_vars/HOST.yml"

CONFLICTS = (
    Conflict(
        ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password"),
        "{name} holds a password, which fleet does not take from an inventory.",
        "Give it with `--ask-pass`; or, to log in with a key, write `{name}:` without a value in host_vars/HOST.yml.",
        password=Password.LOGIN,
    ),
    Conflict(
        ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass", "ansible_doas_pass"),
        "{name} holds a password, which fleet does not take from an inventory.",
        "Give it with `--ask-become-pass` or `--become-password-file FILE`.",
        when=When.BECOME,
        password=Password.BECOME,
    ),
    Conflict(
        ("ansible_private_key", "ansible_ssh_private_key"),
        "{name} holds a private key, which fleet does not take from an inventory.",
        f"Write the key to a file and name it in ansible_ssh_private_key_file, or `ssh-add` it; {_EMPTY}.",
    ),
    Conflict(
        ("ansible_ssh_executable",),
        "{name} names another program than ssh, and fleet connects by itself.",
        f"Put what it does into your ssh_config (ProxyCommand, HostName); {_EMPTY}.",
        harmless=r"ssh|/(usr/|usr/local/|opt/homebrew/)?bin/ssh",
    ),
    Conflict(
        ("ansible_become_exe", "ansible_sudo_exe", "ansible_doas_exe"),
        "{name} names another program than sudo or doas.",
        f"Let the login run sudo or doas itself on the host; {_EMPTY}.",
        when=When.BECOME,
        harmless=r"(/(usr/|usr/local/)?bin/)?(sudo|doas)",
    ),
    Conflict(
        ("ansible_become_flags", "ansible_sudo_flags", "ansible_doas_flags"),
        "{name} has options of sudo or doas that fleet does not pass on.",
        f"Say it in sudoers or doas.conf on the host; {_EMPTY}.",
        when=When.BECOME,
        harmless=r"(-[HSnEikKsP]+ *)*",
    ),
    Conflict(
        (
            "ansible_paramiko_host",
            "ansible_paramiko_port",
            "ansible_paramiko_user",
            "ansible_paramiko_private_key_file",
        ),
        "{name} is for Ansible's paramiko connection, and fleet does not read it.",
        "Say it in ansible_host, ansible_port, ansible_user or ansible_ssh_private_key_file, "
        "with `ansible_connection: ssh`, in host_vars/HOST.yml.",
        when=When.PARAMIKO,
    ),
    Conflict(
        ("ansible_paramiko_proxy_command",),
        "{name} names another way to the host, and fleet does not read it.",
        "Put it into your ssh_config as ProxyCommand, and write `ansible_connection: ssh` in host_vars/HOST.yml.",
        when=When.PARAMIKO,
    ),
    Conflict(
        ("ansible_shell_type",),
        "{name} says that the host runs Windows; fleet needs a POSIX shell.",
        "If it has one, write `ansible_shell_type: sh` in host_vars/HOST.yml.",
        harmless=r"(?!.*\b(powershell|cmd)$).*",
    ),
)

IGNORED = frozenset(
    """
    ansible_admin_users ansible_async_dir ansible_common_remote_group ansible_remote_tmp ansible_shell_executable
    ansible_shell_allow_world_readable_temp ansible_system_tmpdirs ansible_sudo_chdir
    ansible_control_path ansible_control_path_dir ansible_pipelining ansible_scp_executable ansible_scp_extra_args
    ansible_scp_if_ssh ansible_sftp_batch_mode ansible_sftp_executable ansible_sftp_extra_args ansible_sshpass_prompt
    ansible_ssh_password_mechanism ansible_ssh_pipelining ansible_ssh_retries ansible_ssh_timeout ansible_ssh_transfer_method
    ansible_ssh_use_tty ansible_ssh_verbosity ansible_timeout
    ansible_host_key_checking ansible_ssh_host_key_checking ansible_ssh_pkcs11_provider
    ansible_private_key_passphrase ansible_ssh_private_key_passphrase
    ansible_group_priority ansible_interpreter_python_fallback ansible_python_module_rlimit_nofile ansible_facts_modules
    ansible_module_compression ansible_no_target_syslog ansible_deprecation_warnings ansible_target_log_info
    """.split()
)
IGNORED_PREFIXES = (
    "ansible_docker_",
    "ansible_httpapi_",
    "ansible_local_",
    "ansible_netconf_",
    "ansible_network_",
    "ansible_paramiko_",
    "ansible_psrp_",
    "ansible_runas_",
    "ansible_su_",
    "ansible_win_",
    "ansible_winrm_",
)


def is_ignored(name: str) -> bool:
    """Whether Ansible documents a variable of that name, which fleet ignores."""
    return name in IGNORED or name.startswith(IGNORED_PREFIXES)
