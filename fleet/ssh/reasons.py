"""The reason words for a host that could not be asked, or did not answer: each has one meaning.

The step script's own words are in `fleet.onhost.reasons.catalogue`. These are about the link, and about what the step
script needs on a host. `docs/reasons.md` lists them; the message of each error has the details and the remedy.
"""

from collections.abc import Mapping
from types import MappingProxyType

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "auth_failed": "The host refused the login.",
        "bastion_away": "A lost bastion can't be reached yet; fleet tries again.",
        "bastion_back": "A lost bastion is connected again.",
        "bastion_lost": "The connection to a bastion was lost; fleet reconnects.",
        "behind_bastion": "The host key was not scanned: its bastion can't be used.",
        "become_asks": "The host's sudo or doas asks for something that fleet can't answer.",
        "become_denied": "The host's sudo or doas does not let the login become root: a wrong password, or no rule.",
        "become_password_wrong": "The host's sudo or doas refused the password; fleet does not send it again.",
        "become_terminal": "The host's sudo or doas needs a terminal, and the host has none to give.",
        "bundle_failed": "The step script could not be stored on the host, or its folder is not root's alone.",
        "channel_refused": "The host's sshd opens no channel for a command.",
        "channel_timed_out": "The host started no command in time after the login.",
        "connect_failed": "The connection to the host failed.",
        "cut": "The run was cut off before the visit sent a request.",
        "endless": "The step script sent replies for too long and did not end.",
        "garbled": "The host's answer is not a reply of the step script.",
        "handshake_failed": "The key exchange failed.",
        "host_certificate_refused": "The host's certificate is signed by a known authority and is not valid for the host now.",
        "host_key_accepted": "An unknown host key was accepted and stored, as --host-keys accept-new says.",
        "host_key_ambiguous": "Hosts of one name in known_hosts present different unknown keys.",
        "host_key_changed": "The host presents another key than the known one; nothing was sent.",
        "host_key_revoked": "The host presents a revoked key.",
        "host_key_unknown": "The host's key is not known.",
        "incompatible": "The host's sshd and fleet have no common algorithm.",
        "jump_refused": "The bastion forwards no connection.",
        "key_unreadable": "The private key can't be read, or needs a passphrase.",
        "known_hosts_unreadable": "The known_hosts file, or the file of revoked keys, can't be read.",
        "known_hosts_unwritable": "A new key can't be stored in the known_hosts file.",
        "link_lost": "The connection was lost; after the request, it may have been carried out.",
        "name_not_found": "The host's name can't be looked up.",
        "no_answer": "The host's sshd answers no keepalive, or does not answer the login.",
        "no_banner": "The host accepts connections and sends no SSH banner.",
        "no_shell": "The login runs no command.",
        "not_root": "The login is not root, and the inventory does not let it become root.",
        "path_refused": "A path of the inventory holds a character that some login shells change.",
        "proxy_failed": "The ProxyCommand can't be run, or ended.",
        "proxy_turned_away": "The sshd at which a ProxyCommand logs in dropped it at once (MaxStartups).",
        "psutil_not_fetched": "No psutil could be fetched for the host's platform; the host's own is used.",
        "python_incomplete": "The host's Python lacks a part of its standard library.",
        "python_missing": "The host has no Python 3.",
        "python_old": "The host's Python is older than 3.6, or does not run.",
        "refused": "The host refuses the connection.",
        "release_unreadable": "The release can't be read on this machine.",
        "script_died": "The step script ended before it was done.",
        "silent": "The login or the step script made no progress, though sshd answers.",
        "ssh_config_refused": "OpenSSH refuses its configuration, or its options in the inventory.",
        "stopped": "The rollout was stopped before this host got a request.",
        "sudo_missing": "The host has no sudo, or no doas.",
        "sudo_password": "The host's sudo or doas requires a password.",
        "timed_out": "The host, or the lookup of its name, did not answer in time.",
        "too_much_output": "The host sent more than fleet accepts.",
        "transfer_stalled": "The upload made no progress.",
        "unreachable_from_bastion": "The bastion can't connect to the host.",
        "unreachable_no_route": "There is no route to the host.",
        "upload_failed": "The file could not be written on the host.",
    }
)
