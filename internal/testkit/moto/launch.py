"""Runs moto's server until standard input ends, which it does at the latest when
the process that started this one dies. Prints the port, which the system chose.
The argument is a folder that is removed then."""

import os
import shutil
import sys
import threading
import urllib.request

from moto.awslambda.models import LambdaFunction
from moto.ec2.models.amis import AmiBackend
from moto.logs.models import LogEvent
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

CANONICAL = "099720109477"
load_amis = AmiBackend._load_amis


def load_amis_of_owners(backend):
    """moto calls every image amazon's own, so that a search with the wrong owner succeeds."""
    load_amis(backend)
    for ami in backend.amis.values():
        if ami.owner_id == CANONICAL:
            ami.owner_alias = None


AmiBackend._load_amis = load_amis_of_owners


def invoke_at_url(function, body, request_headers, response_headers):
    """Functions run in Docker, which tests do without: one that has INVOKE_URL in its environment is a server there."""
    url = function.environment_vars.get("INVOKE_URL")
    if url:
        urllib.request.urlopen(urllib.request.Request(url, data=body.encode()), timeout=60).close()
    return ""


LambdaFunction.invoke = invoke_at_url

make_log_event = LogEvent.__init__


def make_log_event_with_text_id(event, *args):
    """The ids of moto's events are numbers, those of CloudWatch's are texts of 56 digits."""
    make_log_event(event, *args)
    event.event_id = f"{event.event_id:056d}"


LogEvent.__init__ = make_log_event_with_text_id

server = make_server(
    "127.0.0.1",
    0,
    DomainDispatcherApplication(create_backend_app),
    threaded=True,
    request_handler=MotoRequestHandler,
)
os.environ["MOTO_PORT"] = str(server.server_port)  # for the requests that it sends to itself
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.buffer.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
os._exit(0)  # whatever is still being answered: nobody waits for it
