"""Gives every part of a farm a user of its own in Redis: `python deploy/redis/make_users.py FOLDER [--owner NAME] [--also LUA]`.

FOLDER is what deploy/secrets.sh made. For each user of users.acl it writes `USER.env`, which is `farm.env` with that user's name
and password in the address of Redis, and then `redis.acl` for all of them. What is there already is kept; a password is changed by
removing `USER.env` first. Run it again after every update of pianofarm, because a user's rights name the scripts by their digests,
and have Redis read the file (`ACL LOAD`). During a rolling update both versions work: --also names the folder of the other
version's scripts (common/pianofarm_common/ledger/lua).

--owner makes a user `producer.NAME`, who submits as that owner and sees that owner's jobs only; once made, it is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import kombu.transport.redis
import redis.lock

from pianofarm_common.ledger.scripts import sources

TEMPLATE = Path(__file__).with_name("users.acl")
URL = "PIANOFARM_REDIS_URL="

#: Its environment is `farm.env` itself.
OPERATOR = "pianofarm"

#: The scripts that Celery's transport runs to release its lock and to keep its tables; a kombu without one runs without it.
KOMBU_SCRIPTS = [
    redis.lock.Lock.LUA_RELEASE_SCRIPT,
    *(getattr(kombu.transport.redis, name, "") for name in ("REFRESH_BINDING", "SWEEP_BINDINGS")),
]


def digests(folders: Iterable[Path | None]) -> dict[str, list[str]]:
    """SHA-1 of every script by its name, one for each version."""
    texts: dict[str, list[str]] = {"kombu": [text for text in KOMBU_SCRIPTS if text]}
    for folder in folders:
        for name, text in sources(folder).items():
            texts.setdefault(name, []).append(text)
    return {
        name: list(dict.fromkeys(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for text in found))
        for name, found in texts.items()
    }


def filled(line: str, password: str, scripts: dict[str, list[str]]) -> str:
    """A line of users.acl for Redis."""

    def right(match: re.Match[str]) -> str:
        return " ".join(f"+evalsha|{digest}" for digest in scripts[match[1]])

    line = line.replace(" PASSWORD ", f" #{hashlib.sha256(password.encode()).hexdigest()} ")
    return re.sub(r"(?<= )@(\w+)", right, line)


def password_of(env: Path) -> str:
    """The password in an environment file's address of Redis."""
    for line in env.read_text().splitlines():
        if line.startswith(URL):
            return unquote(urlsplit(line.removeprefix(URL)).password or "")
    raise SystemExit(f"{env} has no {URL[:-1]}: deploy/secrets.sh makes it")


def for_owners(lines: Iterable[str], owners: Iterable[str]) -> Iterator[str]:
    """The lines of users.acl, those about an owner once for each of them."""
    for line in lines:
        if line.startswith("user "):
            yield from [re.sub(r"\bOWNER\b", owner, line) for owner in owners] if "OWNER" in line else [line]


def make_env(farm: str, user: str) -> str:
    """`farm.env` for another user, with a new password, and bound to the owner that the user is of."""
    _, is_bound, owner = user.partition("producer.")
    if is_bound:
        farm = f"{farm.rstrip()}\nPIANOFARM_OWNER={owner}\n"
    return re.sub(rf"(?m)^({URL}rediss?://)[^@\n]*@", rf"\g<1>{user}:{secrets.token_hex(24)}@", farm)


def write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".tmp")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
    part.chmod(mode)
    part.replace(path)


def main(arguments: list[str]) -> None:
    """Write the users' environments and the file of rights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--owner", action="append", default=[], help="who gets a producer's user of its own")
    parser.add_argument("--also", type=Path, action="append", default=[], help="scripts of another version")
    asked = parser.parse_args(arguments)
    farm = (asked.folder / "farm.env").read_text()
    scripts = digests([None, *asked.also])
    known = [env.name[len("producer.") : -len(".env")] for env in asked.folder.glob("producer.*.env")]
    owners = sorted({*known, *asked.owner})
    for owner in owners:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", owner):
            raise SystemExit(f"--owner {owner!r}: letters, digits, _ and - only, 64 at most, as in PIANOFARM_OWNER")
    lines = []
    for line in for_owners(TEMPLATE.read_text().splitlines(), owners):
        user, password = line.split()[1], ""
        if " PASSWORD " in line:
            env = asked.folder / ("farm.env" if user == OPERATOR else f"{user}.env")
            if not env.exists():
                # Open to others as all files in this closed folder are: containers read them under user ids of their own.
                write(env, make_env(farm, user), 0o644)
            password = password_of(env)
        lines.append(filled(line, password, scripts))
    write(asked.folder / "redis.acl", "\n".join(lines) + "\n", 0o644)
    print(f"users in {asked.folder / 'redis.acl'}: have Redis read it (ACL LOAD, or start it again)")


if __name__ == "__main__":
    main(sys.argv[1:])
