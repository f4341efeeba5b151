"""The things measured: how each is set up in front of the upstream, and asked for its version."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess

from farthing import Gateway
from page import commit
from services import Service, free_port

MODEL = "gpt-4o-mini"
LOAD = os.environ["FARTHING_BENCH_LOAD"]
FARTHING = os.environ["FARTHING_BENCH_FARTHING"]
LITELLM = os.environ["FARTHING_BENCH_LITELLM"]
PORTKEY = pathlib.Path(os.environ["FARTHING_BENCH_PORTKEY"])
# LiteLLM refuses to start without a master key of its own. Nothing here ever leaves the machine.
KEY = "sk-bench-0000000000000000"
# Those that the machine gives us: with pinning, load and upstream have the first, a target the last.
CORES = sorted(os.sched_getaffinity(0))


@dataclasses.dataclass
class Target:
    name: str
    address: str
    # The server whose CPU time is counted; none for the direct way.
    service: Service | None
    # What a client has to send along.
    headers: list[str] = dataclasses.field(default_factory=lambda: [f"authorization: Bearer {KEY}"])
    # Where it keeps what it metered.
    data_dir: pathlib.Path | None = None


def on(core, command):
    """The command, kept on one core if one is named."""
    return command if core is None else ["taskset", "--cpu-list", str(core), *command]


def upstream(folder, core):
    """The fast upstream itself, as a service."""
    address = f"127.0.0.1:{free_port()}"
    command = on(core, [LOAD, "upstream", address])
    return address, Service("upstream", command, f"http://{address}/", folder / "upstream.log")


def start(stack, name, folder, to, core):
    """A target, running until the stack is left."""
    target = TARGETS[name](folder, to)
    if target.service:
        target.service.command = on(core, target.service.command)
        stack.enter_context(target.service)
    return target


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
events {{ worker_connections 8192; }}
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
    gateway = Gateway(FARTHING, folder, f"""
[upstreams.bench]
kind = "openai"
provider = "openai"
base_url = "http://{to}/v1"
""")
    return Target("farthing", gateway.listens, gateway.service, data_dir=gateway.data_dir)


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


def portkey(folder, to):
    """As its package starts, but for the address: it has no option for one and would listen on all."""
    port = free_port()
    loopback = folder / "loopback.cjs"
    loopback.write_text("""
const { Server } = require("node:net");
const { listen } = Server.prototype;
Server.prototype.listen = function (first, ...rest) {
  const port = typeof first === "object" ? first.port : first;
  return listen.call(this, { port, host: "127.0.0.1" }, rest.find((one) => typeof one === "function"));
};
""")
    server = PORTKEY / "node_modules/@portkey-ai/gateway/build/start-server.js"
    command = ["node", "--require", loopback, server, f"--port={port}", "--headless"]
    address = f"127.0.0.1:{port}"
    service = Service(
        "portkey", command, f"http://{address}/", folder / "portkey.log", environment={"NODE_ENV": "production"}
    )
    target = Target("portkey", address, service)
    target.headers += ["x-portkey-provider: openai", f"x-portkey-custom-host: http://{to}/v1"]
    return target


TARGETS = {"direct": direct, "nginx": nginx, "farthing": farthing, "portkey": portkey, "litellm": litellm}


def version(name):
    """What is said of a target below the table."""
    if name == "direct":
        return None
    if name == "farthing":
        return commit()
    if name == "nginx":
        answer = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr
        return "nginx " + re.search(r"nginx/(\S+)", answer)[1]
    if name == "portkey":
        package = json.loads((PORTKEY / "node_modules/@portkey-ai/gateway/package.json").read_text())
        node = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
        return f"Portkey {package['version']} on Node {node.removeprefix('v')}"
    python = pathlib.Path(LITELLM).with_name("python")
    tell = "import importlib.metadata as m, platform as p; print(m.version('litellm'), 'on Python', p.python_version())"
    return "LiteLLM " + subprocess.run([python, "-c", tell], capture_output=True, text=True).stdout.strip()
