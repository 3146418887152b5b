"""The words by which this laptop says why a host could not be asked: each means one thing, told in its message.

The step script's own words are in `fleet.onhost.reasons`; these are of the link, and of what the step script needs.
"""

from collections.abc import Mapping
from types import MappingProxyType

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "auth_failed": "the login was not let in",
        "bastion_away": "a bastion that was lost can't be reached yet, and is dialled again",
        "bastion_back": "a bastion that was lost is connected again",
        "bastion_lost": "the connection to a bastion was lost, and is dialled again",
        "behind_bastion": "not asked: the bastion before it can't be passed",
        "become_asks": "sudo or doas asks for something that fleet can't answer",
        "become_denied": "sudo or doas lets nobody in by that password, or without one: it is wrong, or there is no rule",
        "become_password_wrong": "sudo or doas refused the password; it is not tried again",
        "become_terminal": "sudo or doas needs a terminal, and the host gives none",
        "bundle_failed": "the step script could not be put on the host, or its folder is not root's alone",
        "channel_refused": "sshd opens no channel for a command",
        "channel_timed_out": "no command was begun in time after the login",
        "connect_failed": "the host can't be connected to",
        "cut": "the visit was cut off by the operator before it began",
        "garbled": "the answer is not the step script's language",
        "handshake_failed": "the key exchange did not end",
        "host_certificate_refused": "the host's certificate is by a known authority, and doesn't hold for it now",
        "host_key_accepted": "a key that was not known was accepted and stored, as --host-keys accept-new says",
        "host_key_changed": "the host shows another key than the known one; nothing was sent",
        "host_key_revoked": "the host shows a revoked key",
        "jump_refused": "the bastion passes no connection on",
        "proxy_failed": "the ProxyCommand can't be run",
        "ssh_config_refused": "ssh refuses its configuration",
        "host_key_unknown": "the host's key is not known",
        "incompatible": "sshd and fleet have no way of encryption in common",
        "key_unreadable": "the private key can't be read, or needs a passphrase",
        "known_hosts_unreadable": "the file of known hosts can't be read",
        "known_hosts_unwritable": "a new key can't be stored in the file of known hosts",
        "link_lost": "the connection was lost; what was asked may have happened",
        "name_not_found": "the address can't be looked up",
        "no_answer": "sshd did not answer any more",
        "no_banner": "something answers there, but not as an SSH server",
        "no_shell": "the login runs no command",
        "not_root": "the login is not root and may not become it",
        "path_refused": "a path of the inventory can't be given to every login shell",
        "psutil_not_fetched": "no psutil could be fetched for the host's platform; its own is used",
        "python_incomplete": "the host's Python lacks a part of its own library",
        "python_missing": "the host has no Python 3",
        "python_old": "the host's Python is older than 3.6, or doesn't run",
        "refused": "the host refuses the connection",
        "release_unreadable": "the release can't be read on this laptop",
        "script_died": "the step script ended before it was done",
        "silent": "the step script said nothing any more, though sshd answers",
        "stopped": "the operator turned back before anything was asked of this host",
        "sudo_missing": "the host has no sudo, or no doas",
        "sudo_password": "sudo or doas wants a password",
        "timed_out": "the host did not answer in time",
        "too_much_output": "the host sent more than fleet takes",
        "transfer_stalled": "the upload made no progress",
        "unreachable_from_bastion": "the bastion can't connect to the host",
        "unreachable_no_route": "there is no way to the host",
        "upload_failed": "the file could not be written on the host",
    }
)
