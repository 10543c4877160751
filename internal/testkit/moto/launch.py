"""Runs moto's server until standard input ends, which it does at the latest when
the process that started this one dies. Prints the port, which the system chose.
The argument is a folder that is removed then."""

import os
import shutil
import sys
import threading

from moto.ec2.models.amis import AmiBackend
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
