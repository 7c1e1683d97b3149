"""Carries out a Dockerfile's instructions without Docker: each stage is a folder, RUN is a chroot into it.

A base image is a folder that debootstrap made. Needs root, util-linux's unshare and Debian's packages.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

CHROOT = (
    'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && root=$1 user=$2 && shift 2 && '
    'exec chroot --userspec "$user" "$root" "$@"'
)
OF_THE_NETWORK = ("PIP_CERT", "PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy")


@dataclass
class Stage:
    """A root and what instructions have said of it so far."""

    root: Path
    name: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0"
    entry: list[str] = field(default_factory=list)

    def run(self, words: Sequence[str], timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command in it as its user, in its folder, with its environment and the machine's way to the network."""
        user, home = _user(self.root, self.user)
        told = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home}
        told |= {name: value for name in OF_THE_NETWORK if (value := os.environ.get(name))} | self.environment
        inside = ["/usr/bin/env", "-i", "-C", self.folder, *(f"{name}={value}" for name, value in told.items()), *words]
        line = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CHROOT, "sh", str(self.root), user]
        return subprocess.run([*line, *inside], capture_output=True, text=True, timeout=timeout, check=False)


def instructions(text: str) -> list[tuple[str, str]]:
    """Its instructions in order, each with what follows it; lines that go on are joined, comments are gone."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in whole.splitlines())]


def build(dockerfile: Path, context: Path, bases: Mapping[str, Path], place: Path) -> Stage:
    """The last stage of a Dockerfile, all of whose instructions were carried out below `place`.

    Raises AssertionError with what was said where a RUN ends otherwise than with 0.
    """
    stages: list[Stage] = []
    for word, rest in instructions(dockerfile.read_text()):
        if word == "FROM":
            image, name = (*re.split(r"\s+AS\s+", rest, flags=re.IGNORECASE), "")[:2]
            known = next((stage for stage in stages if stage.name == image), None)
            root = place / str(len(stages))
            subprocess.run(["cp", "-a", "--reflink=auto", known.root if known else bases[image], root], check=True)
            stages.append(Stage(root, name, dict(known.environment if known else {})))
        else:
            _carry_out(word, rest, stages, context)
    return stages[-1]


def _carry_out(word: str, rest: str, stages: list[Stage], context: Path) -> None:
    stage = stages[-1]
    if word == "ENV":
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            stage.environment[name] = Template(value).safe_substitute(
                {"PATH": "/usr/local/bin:/usr/bin:/bin", **stage.environment}
            )
    elif word == "WORKDIR":
        stage.folder = os.path.join(stage.folder, rest)
        _inside(stage, stage.folder).mkdir(parents=True, exist_ok=True)
    elif word == "USER":
        stage.user = rest
    elif word == "ENTRYPOINT":
        stage.entry = json.loads(rest)
    elif word == "COPY":
        _copy(rest.split(), stage, stages, context)
    elif word == "RUN":
        done = stage.run(["/bin/sh", "-c", rest])
        assert done.returncode == 0, (
            f"RUN {rest}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        )
    else:
        assert word == "CMD", f"{word} is an instruction that this doesn't know"


def _copy(words: list[str], stage: Stage, stages: list[Stage], context: Path) -> None:
    start = context
    if words[0].startswith("--from="):
        start = next(other.root for other in stages if other.name == words.pop(0).removeprefix("--from="))
    *sources, target = words
    goal = _inside(stage, os.path.join(stage.folder, target))
    for source in sources:
        found = start / source.lstrip("/")
        if found.is_dir():
            shutil.copytree(
                found, goal, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            to = goal / found.name if target.endswith(("/", ".")) else goal
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, to)


def _inside(stage: Stage, path: str) -> Path:
    return stage.root / path.lstrip("/")


def _user(root: Path, named: str) -> tuple[str, str]:
    """`uid:gid` and the home of a user of that root, by name or number; an unknown number has no home."""
    for line in (root / "etc" / "passwd").read_text().splitlines():
        name, _, uid, gid, _, home, _ = line.split(":")
        if named in (name, uid):
            return f"{uid}:{gid}", home
    return f"{named}:{pwd.getpwuid(0).pw_gid}", "/"
