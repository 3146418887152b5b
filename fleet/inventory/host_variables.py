"""The variables that fleet reads, and what is allowed in each; the descriptions are part of the error messages.

Only this module uses pydantic. It is imported where `host_values.py:plain_values` does not take a host's values.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fleet.inventory.host_values import (
    CONNECTIONS,
    HostValues,
    absolute,
    address,
    file,
    one_line,
    python,
    user,
    without_collection,
)
from fleet.inventory.nearest import did_you_mean
from fleet.inventory.tree import Problem, Variable
from fleet.onhost.nginx.probe_target import read_target
from fleet.onhost.protocol import Probe

_SSH_OPTIONS = "options of ssh, as text: -o, -J, -F, -i, -p, -l, -4, -6"


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")
    return value


def _url(text: str) -> str:
    read_target(one_line(text))
    return text


_Number = BeforeValidator(_not_a_bool)
_Plugin = BeforeValidator(without_collection)
_File = Annotated[str, AfterValidator(file)]
_Folder = Annotated[str, AfterValidator(absolute)]
_Line = Annotated[str, AfterValidator(one_line)]


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

    ansible_host: Annotated[str, AfterValidator(address)] | None = Field(None, description="a host name or IP address")
    ansible_port: Annotated[int, _Number] | None = Field(None, ge=1, le=65535, description="a port from 1 to 65535")
    ansible_user: Annotated[str, AfterValidator(user)] | None = Field(
        None, description="the name of a user on the host"
    )
    ansible_ssh_private_key_file: _Line | None = Field(None, description="the path of a private key on this machine")
    ansible_ssh_args: str | None = Field(None, description=_SSH_OPTIONS)
    ansible_ssh_common_args: str | None = Field(None, description=_SSH_OPTIONS)
    ansible_ssh_extra_args: str | None = Field(None, description=_SSH_OPTIONS)
    ansible_connection: str | None = Field(None, description=CONNECTIONS)
    ansible_become: bool | None = Field(None, description="true or false")
    ansible_become_method: Annotated[Literal["sudo", "doas"], _Plugin] | None = Field(None, description="sudo or doas")
    ansible_become_user: Literal["root"] | None = Field(None, description="root (the nginx master runs as root)")
    ansible_python_interpreter: Annotated[str, AfterValidator(python)] | None = Field(
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


def checked(known: Mapping[str, Variable], spelt: Mapping[str, str]) -> tuple[HostValues | None, tuple[Problem, ...]]:
    """The values, or `None` and what is wrong with them. `spelt` has the name that the inventory uses for each."""
    try:
        model = HostVariables.model_validate({key: variable.value for key, variable in known.items()})
    except ValidationError as error:
        return None, tuple(_problems_of(error, known, spelt))
    values = {name: getattr(model, name) for name in known}
    if model.fleet_probes is not None:
        values["fleet_probes"] = tuple(Probe(**probe.model_dump()) for probe in model.fleet_probes)
    return HostValues(**values), ()


def _problems_of(error: ValidationError, known: Mapping[str, Variable], spelt: Mapping[str, str]) -> Iterable[Problem]:
    for detail in error.errors(include_url=False):
        name, *inner = detail["loc"]
        variable = known[str(name)]
        where = spelt[str(name)] + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner)
        description = HostVariables.model_fields[str(name)].description
        last = str(inner[-1]) if inner else ""
        if detail["type"] == "extra_forbidden":
            fields = list(ProbeVariables.model_fields)
            message = f"{where} is unknown{did_you_mean(last, fields)}; allowed: {', '.join(fields)}."
            yield Problem(variable.origin, message, variable=str(name))
            continue
        if last in ProbeVariables.model_fields:
            description = ProbeVariables.model_fields[last].description
        if detail["type"] == "missing":
            yield Problem(variable.origin, f"{where} is missing; it must be {description}.", variable=str(name))
            continue
        # A URL with a user in it may hold a password, which must not be printed. An abstract UNIX socket begins with @, too.
        given = str(detail["input"])
        has_user = "@" in given.replace("://unix:@", "://unix:")
        so = "contains a user" if has_user else f"is {repr(detail['input'])[:80]}"
        yield Problem(variable.origin, f"{where} {so}; allowed: {description}.", variable=str(name))
