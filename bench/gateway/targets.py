"""The things measured: how each is set up in front of the upstream, and asked for its version."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "lib"))
from services import Service, free_port  # noqa: E402

MODEL = "gpt-4o-mini"
LOAD = os.environ["FARTHING_BENCH_LOAD"]
FARTHING = os.environ["FARTHING_BENCH_FARTHING"]
LITELLM = os.environ["FARTHING_BENCH_LITELLM"]
# LiteLLM refuses to start without a master key of its own. Nothing here ever leaves the machine.
KEY = "sk-bench-0000000000000000"
HEADERS = [f"authorization: Bearer {KEY}"]


@dataclasses.dataclass
class Target:
    name: str
    address: str
    # The server whose CPU time is counted; none for the direct way.
    service: Service | None


def upstream(folder):
    """The fast upstream itself, as a service."""
    address = f"127.0.0.1:{free_port()}"
    service = Service("upstream", [LOAD, "upstream", address], f"http://{address}/", folder / "upstream.log")
    return address, service


def direct(_folder, to):
    return Target("direct", to, None)


def nginx(folder, to):
    """As lean as nginx gets: two workers, upstream connections kept open, chunks passed on at once."""
    address = f"127.0.0.1:{free_port()}"
    config = folder / "nginx.conf"
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(f"""
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
{temporary}
    upstream bench {{
        server {to};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        keepalive_requests 1000000000;
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
""")
    command = ["nginx", "-p", folder, "-e", folder / "nginx-error.log", "-c", config]
    return Target("nginx", address, Service("nginx", command, f"http://{address}/", folder / "nginx.log"))


def farthing(folder, to):
    """As shipped: journal and pricing on, one line per exchange on stderr."""
    address = f"127.0.0.1:{free_port()}"
    config = folder / "farthing.toml"
    config.write_text(f"""
listen = "{address}"
data_dir = "{data_dir(folder)}"

[upstreams.bench]
kind = "openai"
provider = "openai"
base_url = "http://{to}/v1"
""")
    command = [FARTHING, "serve", "--config", config]
    return Target("farthing", address, Service("farthing", command, f"http://{address}/readyz", folder / "farthing.log"))


def data_dir(folder):
    return folder / "farthing-data"


def litellm(folder, to):
    """One worker and no database: its own price map and cost callback, but nothing is kept."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(f"""
model_list:
  - model_name: {MODEL}
    litellm_params:
      model: openai/{MODEL}
      api_base: http://{to}/v1
      api_key: {KEY}
litellm_settings:
  telemetry: false
  request_timeout: 120
""")
    command = [LITELLM, "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"]
    service = Service(
        "litellm",
        [*command, "--telemetry", "False"],
        f"http://127.0.0.1:{port}/health/liveliness",
        folder / "litellm.log",
        seconds=180,
        environment={"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"},
    )
    return Target("litellm", f"127.0.0.1:{port}", service)


TARGETS = {"direct": direct, "nginx": nginx, "farthing": farthing, "litellm": litellm}


def version(name):
    """What is said of a target below the table."""
    if name == "direct":
        return None
    if name == "farthing":
        describe = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
        commit = subprocess.run(describe, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True)
        return f"farthing at {commit.stdout.strip() or 'an unknown commit'}"
    if name == "nginx":
        answer = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr
        return "nginx " + re.search(r"nginx/(\S+)", answer)[1]
    pip = pathlib.Path(LITELLM).with_name("pip")
    answer = subprocess.run([pip, "show", "litellm"], capture_output=True, text=True).stdout
    return "LiteLLM " + re.search(r"^Version: (\S+)", answer, re.M)[1]
