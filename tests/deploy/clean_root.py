"""A Dockerfile's steps without a container engine: each in its order in a root of its own that debootstrap makes.

The base image's stand-in is a minimal root of the same Debian, with Debian's own Python where the image has its. Every
command has mounts and processes of its own (unshare), which end with it: none is left in a root that is removed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.cloud_servers import installed

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = "python3,python3-venv,ca-certificates"
NETWORK = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL")
"""What steps are given of this machine's environment, as a container engine does with its proxies."""
OWN = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ENTER = """
set -e
root=$1; shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
for file in /etc/hosts /etc/resolv.conf; do touch "$root$file"; mount --bind "$file" "$root$file"; done
while [ "$1" != -- ]; do
  case $1 in
    bind) mkdir -p "$root$3"; mount --bind "$2" "$root$3"; shift 3;;
    bind-ro) mkdir -p "$root$3"; mount --bind "$2" "$root$3"; mount -o remount,bind,ro "$root$3"; shift 3;;
    tmpfs) mount -t tmpfs -o mode=1777 tmpfs "$root$2"; shift 2;;
    loopback) "$2" -c "$LOOPBACK"; shift 2;;
    read-only) mount -o remount,bind,ro "$root"; shift;;
    *) echo "unknown: $1" >&2; exit 125;;
  esac
done
shift
exec chroot "$root" "$@"
"""

LOOPBACK = """
import fcntl, socket, struct
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, up
"""


@dataclass(frozen=True)
class Image:
    """What an image has: its files below `root`, and what a container of it starts with."""

    root: Path
    env: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    user: str = "0"
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions in order, each with what follows it; lines that go on are joined, comments are gone."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in whole.splitlines())]


def build(dockerfile: Path, context: Path, folder: Path, images: Mapping[str, Image] | None = None) -> dict[str, Image]:
    """What the file makes of the context, by the names of its stages and `last`, below the folder.

    `images`: by name those that are there. Fails the test where a step fails or is one that this doesn't know.
    """
    stages, known, at, stage = dict[str, Image](), images or {}, Image(folder), "last"
    for number, (word, rest) in enumerate(instructions(dockerfile.read_text())):
        said = f"{dockerfile.name}, {word} {rest}"
        if word == "FROM":
            name, _, stage = rest.partition(" AS ")
            stage = stage or "last"
            source = stages.get(name) or known.get(name) or Image(_base(name))
            at = replace(source, root=folder / f"stage{number}")
            _copy_tree(source.root, at.root, "ownership")
        elif word == "ENV":
            at = replace(at, env={**at.env, **_variables(rest, at.env)})
        elif word == "WORKDIR":
            at = replace(at, workdir=os.path.join(at.workdir, rest))
            _inside(at.root, at.workdir).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            at = replace(at, user=rest)
        elif word == "RUN":
            assert not rest.startswith(("[", "--")), f"{said}: only a shell's commands are known"
            told = {name: os.environ[name] for name in NETWORK if name in os.environ}
            done = run(replace(at, env={**told, **at.env}), ["/bin/sh", "-c", rest], timeout=1500)
            assert done.returncode == 0, f"{said}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        elif word == "COPY":
            _copy(rest, at, context, stages)
        elif word in ("ENTRYPOINT", "CMD"):
            at = replace(at, **{word.lower(): tuple(json.loads(rest))})
        elif word not in ("EXPOSE", "VOLUME"):  # these are for whoever runs it
            pytest.fail(f"{said}: what this does is not known here")
        stages[stage] = stages["last"] = at
    return stages


def run(
    image: Image,
    command: Sequence[str],
    *,
    mounts: Sequence[Sequence[str]] = (),
    online: bool = True,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a command in the image as its user. `mounts`: (kind, …), as ENTER knows them. Not online it has loopback alone.

    Whoever isn't root has no capability and gets none, as a pod of Kubernetes' restricted kind.
    """
    uid, gid, home = _user(image)
    drop = [] if uid == "0" else ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    told = [f"{name}={value}" for name, value in {"HOME": home, **image.env}.items()]
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *drop]
    within = [*become, "env", "-i", f"--chdir={image.workdir}", *told, *command]
    words = [word for mount in mounts for word in mount] + ([] if online else ["loopback", sys.executable])
    whole = [*OWN, *([] if online else ["--net"]), "sh", "-c", ENTER, "sh", str(image.root), *words, "--", *within]
    return subprocess.run(
        whole, capture_output=True, text=True, timeout=timeout, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, "PATH": f"{os.environ['PATH']}:{PATH}", "LOOPBACK": LOOPBACK},
    )  # fmt: skip


def remove(folder: Path) -> None:
    """Remove what was built there, once nothing is mounted in it."""
    left = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f"{folder}/" in line]
    assert left == [], f"mounted still: {left}"
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


def _base(name: str) -> Path:
    """A minimal root of the Debian of python:X-slim-RELEASE, made once."""
    found = re.fullmatch(r"python:[\d.]+-slim-([a-z]+)", name)
    assert found is not None, f"FROM {name}: there is a stand-in for python:X-slim-RELEASE only"
    release, certificates = found[1], Path("/usr/local/share/ca-certificates")
    make = [*_debootstrap(), "--variant=minbase", f"--include={PACKAGES}", release, "{}", _mirror()]
    finish = [
        "chmod 755 {0}",
        *(f"ln -s /usr/bin/python3 {{0}}/usr/local/bin/{name}" for name in ("python", "python3")),
    ]
    if [*certificates.glob("*.crt")]:  # what the machine trusts beside the rest, where it has a proxy of its own
        finish.append(f"cp {certificates}/*.crt {{0}}{certificates}")
    finish.append("chroot {0} update-ca-certificates")
    begin = "mkdir -p {0}/etc/dpkg/dpkg.cfg.d && echo force-unsafe-io >{0}/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
    steps = (["sh", "-c", begin], [*OWN, *make], ["sh", "-c", " && ".join(finish)])
    return installed(f"debian-{release}", *steps, patience=1500)


def _debootstrap() -> list[str]:
    if found := shutil.which("debootstrap", path=f"{os.environ['PATH']}:{PATH}"):
        return [found]
    fetch = "cd {} && apt-get download debootstrap && dpkg -x debootstrap*.deb ."
    there = installed("debootstrap", ["sh", "-c", fetch])
    return ["env", f"DEBOOTSTRAP_DIR={there}/usr/share/debootstrap", "sh", str(there / "usr/sbin/debootstrap")]


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    fields = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    listed = ["apt-get", "indextargets", "--format", "$(SITE)", *fields]
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    if not found:
        pytest.skip("no mirror of Debian is among this machine's apt sources")
    return found[0]


def _user(image: Image) -> tuple[str, str, str]:
    """The ids of the image's user, and its home."""
    listed = (line.split(":") for line in (image.root / "etc/passwd").read_text().splitlines())
    for name, _, uid, gid, _, home, _ in listed:
        if image.user in (name, uid):
            return uid, gid, home
    assert image.user.isdecimal(), f"USER {image.user}: no such user"
    return image.user, "0", "/"


def _variables(text: str, known: Mapping[str, str]) -> dict[str, str]:
    pairs = dict(word.split("=", 1) for word in shlex.split(text))
    return {
        name: re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ""), value) for name, value in pairs.items()
    }


def _copy(text: str, at: Image, context: Path, stages: Mapping[str, Image]) -> None:
    """COPY as root, whole folders by what is in them."""
    words = text.split()
    options, names = [word for word in words if word.startswith("--")], [w for w in words if not w.startswith("--")]
    assert all(option.startswith("--from=") for option in options), f"COPY {text}: only --from is known"
    source = stages[options[0].removeprefix("--from=")].root if options else context
    *given, target = names
    goal = _inside(at.root, os.path.join(at.workdir, target))
    for one in (_inside(source, name) for name in given):
        into = goal / one.name if one.is_file() and (target.endswith("/") or len(given) > 1) else goal
        into.parent.mkdir(parents=True, exist_ok=True)
        if one.is_dir():
            _copy_tree(one, into)
        else:
            shutil.copy(one, into)


def _copy_tree(source: Path, goal: Path, *kept: str) -> None:
    goal.mkdir(parents=True, exist_ok=True)
    preserve = "--preserve=" + ",".join(["mode", "timestamps", "links", "xattr", *kept])
    subprocess.run(["cp", "-R", "-d", "--reflink=auto", preserve, f"{source}/.", str(goal)], check=True)


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
