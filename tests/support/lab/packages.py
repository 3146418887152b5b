"""Debian packages for lab hosts: nginx's own with a higher version and another binary, and one that is nobody's concern.

nginx's is built again from what is installed on this machine, as dpkg-repack does, so that it has the maintainer's scripts
and no network is needed.
"""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet.lab.hosts.dpkg import DATABASE
from fleet.lab.hosts.lab_host import LabHost

NGINX, COMMON = "nginx", "nginx-common"
OFFERED = "/srv/packages"
INFO = DATABASE / "info"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config", "templates", "triggers", "conffiles")
NOT_IN_CONTROL = re.compile(r"^(?:Status|Conffiles|Config-Version):.*\n(?: .*\n)*", re.MULTILINE)
# Debian 13 asks for the very same version of both packages.
SAME_VERSION = re.compile(r"(nginx-common) \((?:=|<<|>=) [^)]*\)")


def repack(package: str, suffix: str, folder: Path, *, binary: Path | None = None) -> Path:
    """The installed `package` of nginx, its version followed by `suffix`, with `binary` as its /usr/sbin/nginx."""
    with TemporaryDirectory() as temporary:
        tree = Path(temporary)
        files = [Path(line) for line in (INFO / f"{package}.list").read_text().splitlines() if line != "/."]
        for source in files:
            _copy(source, tree / source.relative_to("/"))
        if binary is not None:
            shutil.copyfile(binary, tree / "usr/sbin/nginx")
            (tree / "usr/sbin/nginx").chmod(0o755)
        shown = subprocess.run(["dpkg-query", "--status", package], capture_output=True, text=True, check=True).stdout
        control = SAME_VERSION.sub(r"\1", NOT_IN_CONTROL.sub("", shown))
        control = re.sub(r"^(Version: .*)$", rf"\g<1>{suffix}", control, flags=re.MULTILINE)
        for name in SCRIPTS:
            _copy(INFO / f"{package}.{name}", tree / "DEBIAN" / name)
        return _build(tree, control, folder)


def unrelated(folder: Path, version: str = "1.0") -> Path:
    """A package that has nothing to do with nginx."""
    with TemporaryDirectory() as temporary:
        document = Path(temporary, "usr/share/doc/lab-unrelated/README")
        document.parent.mkdir(parents=True)
        document.write_text("Nothing to see.\n")
        control = (
            f"Package: lab-unrelated\nVersion: {version}\nArchitecture: all\nMaintainer: The lab <root@localhost>\n"
            "Description: a package that has nothing to do with nginx\n"
        )
        return _build(Path(temporary), control, folder)


def send(host: LabHost, package: Path) -> str:
    """Put the file of a package on the host; its path there."""
    target = f"/root/{package.name}"
    done = host.exec(["/bin/sh", "-euc", f"cat >{target}"], input=package.read_bytes())
    assert done.returncode == 0, done.stderr
    return target


def install(host: LabHost, *packages: Path) -> str:
    """`dpkg -i` of these packages on the host; what it says."""
    paths = " ".join(send(host, package) for package in packages)
    return host.sh(f"DEBIAN_FRONTEND=noninteractive dpkg --install {paths} 2>&1", timeout_s=120)


def offer(host: LabHost, *packages: Path) -> None:
    """apt on the host knows these packages, from a folder of its own, and no others that are not installed."""
    stanzas = []
    for package in packages:
        content = package.read_bytes()
        fields = subprocess.run(
            ["dpkg-deb", "--field", str(package)], capture_output=True, text=True, check=True
        ).stdout
        about = f"Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
        stanzas.append(fields.rstrip("\n") + "\n" + about)
        host.sh(f"mkdir -p {OFFERED} && mv {send(host, package)} {OFFERED}/")
    done = host.exec(["/bin/sh", "-euc", f"cat >{OFFERED}/Packages"], input="\n".join(stanzas).encode())
    assert done.returncode == 0, done.stderr
    host.sh(f"echo 'deb [trusted=yes] file:{OFFERED} ./' >/etc/apt/sources.list && apt-get -q update", timeout_s=120)


def installed_version(host: LabHost, package: str = NGINX) -> str:
    return host.sh(f"dpkg-query --show --showformat '${{Version}}' {package}")


def _copy(source: Path, target: Path) -> None:
    """A file, link or folder as it is; what is not here, as pages in /usr/share/doc on slim machines, is left out."""
    is_merged = source.is_symlink() and source.parent == Path("/")  # /lib is a folder to a package
    if source.is_file() or (source.is_symlink() and not is_merged):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    elif source.is_dir():
        target.mkdir(parents=True, exist_ok=True)


def _build(tree: Path, control: str, folder: Path) -> Path:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n"
        for path in files
        if not path.is_relative_to(tree / "DEBIAN")
    ]
    about = tree / "DEBIAN"
    about.mkdir(exist_ok=True)
    about.chmod(0o755)
    (about / "control").write_text(control)
    (about / "md5sums").write_text("".join(sums))
    built = ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", str(tree), str(folder)]
    said = subprocess.run(built, capture_output=True, text=True, check=True).stdout
    return Path(said.split("'")[3])
