"""`farthing serve` as a service, and what the program says of its data meanwhile."""

import subprocess

from services import Service, free_port


class Gateway:
    """`farthing serve` with these settings (TOML), and a data directory of its own."""

    def __init__(self, program, folder, settings):
        self.program, self.data_dir = program, folder / "farthing-data"
        self.listens = f"127.0.0.1:{free_port()}"
        self.address = f"http://{self.listens}"
        config = folder / "farthing.toml"
        config.write_text(f'listen = "{self.listens}"\ndata_dir = "{self.data_dir}"\n{settings}')
        command = [program, "serve", "--config", config]
        self.service = Service("farthing", command, f"{self.address}/readyz", folder / "farthing.log")


def ask(program, data_dir, *arguments):
    """What a command prints of this data."""
    command = [str(part) for part in [program, *arguments, "--data-dir", data_dir]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
