"""Checks the variables of a host and builds a `Host`: Ansible's connection variables, nginx layout, settings, labels.

`HostVariables` lists every supported variable; its descriptions say what is allowed and are part of the error messages.
Any other `ansible_…`, `nginx_…` or `fleet_…` name is refused: to treat `ansible_connection` as a label would connect
to the wrong machine. Only this module uses pydantic.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fleet.host import Host
from fleet.inventory.host_names import is_address
from fleet.inventory.nearest import did_you_mean
from fleet.inventory.ssh_arguments import given_arguments
from fleet.inventory.tree import Origin, Problem, Variable, flatten_command
from fleet.onhost.nginx.probe_target import read_target
from fleet.onhost.protocol import Layout, Probe

ALIASES = {
    "ansible_ssh_host": "ansible_host",
    "ansible_ssh_port": "ansible_port",
    "ansible_ssh_user": "ansible_user",
    "ansible_private_key_file": "ansible_ssh_private_key_file",
}
_SECRET_REMEDY = (
    "Keep secrets out of the inventory: use an SSH key or agent, and sudo without a password or --ask-become-pass."
)
_SSH_OPTIONS = "options of ssh, as text: -o, -J, -F, -i, -p, -l, -4, -6"
_DISCOVERED_PYTHONS = ("auto", "auto_silent", "auto_legacy", "auto_legacy_silent")


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")
    return value


def _one_line(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("empty, or with control characters")
    return text


def _absolute(text: str) -> str:
    if not _one_line(text).startswith("/") or text.rstrip("/") == "":
        raise ValueError("not absolute")
    return text


def _file(text: str) -> str:
    if _absolute(text).endswith("/"):
        raise ValueError("a directory")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]{0,252}", text) and not is_address(text):
        raise ValueError("not an address")
    return text


def _user(text: str) -> str:
    if not re.fullmatch(r"[^\s:@/-][^\s:/]{0,255}", _one_line(text)):
        raise ValueError("not a user name")
    return text


def _python(text: str) -> str | None:
    if text in _DISCOVERED_PYTHONS:
        return None
    if not re.fullmatch(r"/?\w[\w.+/-]*", text) or ("/" in text and not text.startswith("/")):
        raise ValueError("not an interpreter")
    return text


def _url(text: str) -> str:
    read_target(_one_line(text))
    return text


_Number = BeforeValidator(_not_a_bool)
_File = Annotated[str, AfterValidator(_file)]
_Folder = Annotated[str, AfterValidator(_absolute)]
_Line = Annotated[str, AfterValidator(_one_line)]


class ProbeVariables(BaseModel):
    """One entry of `fleet_probes`."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="http://host[:port]/path, or http://unix:/run/nginx.sock:/path for a UNIX socket by its absolute path; "
        "also https://…; without a user; the host itself requests it"
    )
    status: Annotated[int, _Number] = Field(200, ge=100, le=599, description="an HTTP status from 100 to 599")
    contains: Annotated[str, Field(min_length=1)] | None = Field(None, description="text that the answer must contain")
    timeout_s: Annotated[float, _Number] = Field(5.0, gt=0, le=300, description="seconds, more than 0 and at most 300")
    host_header: _Line | None = Field(None, description="the value of the Host header")
    proxy_protocol: bool = Field(False, description="true if its `listen` has proxy_protocol, or false")


class HostVariables(BaseModel):
    """Every supported variable that is not a label."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    ansible_host: Annotated[str, AfterValidator(_address)] | None = Field(None, description="a host name or IP address")
    ansible_port: Annotated[int, _Number] | None = Field(None, ge=1, le=65535, description="a port from 1 to 65535")
    ansible_user: Annotated[str, AfterValidator(_user)] | None = Field(
        None, description="the name of a user on the host"
    )
    ansible_ssh_private_key_file: _Line | None = Field(None, description="the path of a private key on this machine")
    ansible_ssh_args: str | None = Field(None, description=_SSH_OPTIONS)
    ansible_ssh_common_args: str | None = Field(None, description=_SSH_OPTIONS)
    ansible_ssh_extra_args: str | None = Field(None, description=_SSH_OPTIONS)
    ansible_connection: Literal["ssh", "smart", "paramiko", "paramiko_ssh"] | None = Field(
        None, description="ssh (fleet supports no other connection)"
    )
    ansible_become: bool | None = Field(None, description="true or false")
    ansible_become_method: Literal["sudo", "doas"] | None = Field(None, description="sudo or doas")
    ansible_become_user: Literal["root"] | None = Field(None, description="root (the nginx master runs as root)")
    ansible_python_interpreter: Annotated[str, AfterValidator(_python)] | None = Field(
        None, description="an absolute path, a command such as python3, or auto"
    )
    nginx_binary: _File | None = Field(None, description="the absolute path of a file on the host")
    nginx_pid_file: _File | None = Field(None, description="the absolute path of a file on the host")
    nginx_config: _File | None = Field(None, description="the absolute path of a file on the host")
    nginx_prefix: _Folder | None = Field(None, description="the absolute path of a directory on the host, not /")
    fleet_probes: tuple[ProbeVariables, ...] | None = Field(
        None, description="a list of {url, status, contains, timeout_s, host_header, proxy_protocol}"
    )
    fleet_state_dir: _Folder | None = Field(None, description="the absolute path of a directory on the host, not /")
    fleet_known_hosts: _Line | None = Field(
        None, description="the path of a known_hosts file, relative to the inventory's directory"
    )
    fleet_ssh_config: _Line | None = Field(
        None, description="the path of an ssh_config file, relative to the inventory's directory, or none"
    )


KNOWN = tuple(HostVariables.model_fields)


def variable_problems(variables: Mapping[str, Variable]) -> Iterable[Problem]:
    """The problems of the variables of a group or host: unsupported names, and values that only Ansible can resolve."""
    for name, variable in variables.items():
        if not name or not name.isprintable():
            yield Problem(variable.origin, f"{name!r} is not a valid variable name; allowed: printable characters.")
        elif name in KNOWN or name in ALIASES or not name.startswith(("ansible_", "nginx_", "fleet_")):
            if any(mark in variable.text for mark in ("{{", "{%", "__ansible_vault")):
                kind = "vault" if "__ansible_vault" in variable.text else "Jinja"
                yield Problem(
                    variable.origin,
                    f"{name} contains {kind}, which fleet can't resolve.",
                    f"Let Ansible resolve it: {flatten_command(variable.origin.path)}, and use flat.yaml.",
                )
        else:
            yield _unsupported(name, variable.origin)


def _unsupported(name: str, origin: Origin) -> Problem:
    prefix = name.split("_")[0] + "_"
    allowed = [known for known in (*KNOWN, *ALIASES) if known.startswith(prefix)]
    # Ansible has many more variables than fleet supports: only a very similar name is likely a typing error.
    guess = did_you_mean(name, allowed, likeness=0.9 if prefix == "ansible_" else 0.6)
    if prefix != "ansible_":
        return Problem(origin, f"{name} is unknown{guess}; allowed: {', '.join(allowed)}.")
    flatten = flatten_command(origin.path)
    remedy = f"Remove it from the inventory, or from a copy that {flatten} writes."
    if any(word in name for word in ("pass", "secret", "token")):
        remedy = _SECRET_REMEDY
    elif name.startswith(("ansible_ssh_", "ansible_sftp_", "ansible_scp_")):
        remedy = f"Use ansible_host, ansible_port, ansible_user and a key instead, in a copy that {flatten} writes."
    return Problem(origin, f"fleet does not support {name}{guess}.", remedy)


def build_host(
    name: str, variables: Mapping[str, Variable], *, groups: tuple[str, ...], origin: Origin, problems: list[Problem]
) -> Host | None:
    """The host that the merged variables describe; `None`, with the errors added to `problems`, if they are invalid."""
    known, clashes = _canonical(variables)
    problems.extend(clashes)
    try:
        model = HostVariables.model_validate({key: variable.value for key, variable in known.items()})
    except ValidationError as error:
        problems.extend(_problems_of(error, known))
        return None
    given = given_arguments(known)
    problems.extend(given.problems)
    return Host(
        name=name,
        address=model.ansible_host or name,
        port=model.ansible_port,
        user=model.ansible_user,
        key_files=_key_files(model),
        known_hosts=_beside(known, "fleet_known_hosts", model.fleet_known_hosts),
        ssh_config=_ssh_config(model, known) or given.config,
        ssh_arguments=given.arguments,
        become=bool(model.ansible_become),
        become_method=model.ansible_become_method or "sudo",
        python=model.ansible_python_interpreter,
        groups=groups,
        labels=tuple(sorted((key, variable.text) for key, variable in variables.items() if _is_label(key))),
        layout=_layout(model),
        probes=tuple(Probe(**probe.model_dump()) for probe in model.fleet_probes or ()),
        where=str(origin),
    )


def _is_label(name: str) -> bool:
    return not name.startswith(("ansible_", "nginx_", "fleet_"))


def _canonical(variables: Mapping[str, Variable]) -> tuple[dict[str, Variable], list[Problem]]:
    """The supported variables under their current names, and a problem for each that is given twice with two values."""
    known = {key: variable for key, variable in variables.items() if key in KNOWN}
    clashes = []
    for alias, name in ALIASES.items():
        if alias not in variables:
            continue
        if name in known and known[name].text != variables[alias].text:
            clashes.append(Problem(variables[alias].origin, f"{alias} and {name} differ; keep only {name}."))
        known[name] = variables[alias]
    return known, clashes


def _problems_of(error: ValidationError, known: Mapping[str, Variable]) -> Iterable[Problem]:
    for detail in error.errors(include_url=False):
        name, *inner = detail["loc"]
        variable = known[str(name)]
        where = str(name) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner)
        description = HostVariables.model_fields[str(name)].description
        last = str(inner[-1]) if inner else ""
        if detail["type"] == "extra_forbidden":
            fields = list(ProbeVariables.model_fields)
            message = f"{where} is unknown{did_you_mean(last, fields)}; allowed: {', '.join(fields)}."
            yield Problem(variable.origin, message)
            continue
        if last in ProbeVariables.model_fields:
            description = ProbeVariables.model_fields[last].description
        if detail["type"] == "missing":
            yield Problem(variable.origin, f"{where} is missing; it must be {description}.")
            continue
        # A URL with a user in it may hold a password, which must not be printed. An abstract UNIX socket begins with @, too.
        given = str(detail["input"])
        has_user = "@" in given.replace("://unix:@", "://unix:")
        so = "contains a user" if has_user else f"is {repr(detail['input'])[:80]}"
        yield Problem(variable.origin, f"{where} {so}; allowed: {description}.")


def _layout(model: HostVariables) -> Layout:
    return Layout(
        binary=model.nginx_binary,
        pid_file=model.nginx_pid_file,
        config=model.nginx_config,
        prefix=model.nginx_prefix,
        state_dir=model.fleet_state_dir or Layout().state_dir,
    )


def _key_files(model: HostVariables) -> tuple[str, ...]:
    """The path of the key, as Ansible reads it: `~` is the home directory, a relative path starts at the current one."""
    key_file = model.ansible_ssh_private_key_file
    return () if key_file is None else (os.path.abspath(os.path.expanduser(key_file)),)


def _ssh_config(model: HostVariables, known: Mapping[str, Variable]) -> str | None:
    return "none" if model.fleet_ssh_config == "none" else _beside(known, "fleet_ssh_config", model.fleet_ssh_config)


def _beside(known: Mapping[str, Variable], name: str, path: str | None) -> str | None:
    """The absolute path of a variable's value, which is relative to the directory of the inventory that sets it."""
    if path is None:
        return None
    source = known[name].origin.path
    folder = source if source.is_dir() else source.parent
    return os.path.abspath(folder / Path(path).expanduser())
