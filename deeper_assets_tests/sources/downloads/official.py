"""The official addresses, answered here: a proxy that is given every https request, and its certificate."""

import shutil
import ssl
import subprocess
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from deeper_assets_tests.sources.downloads.file_server import FileServer, Handler, Responder
from deeper_assets_tests.threads import served

HOSTS = ("files.grouplens.org", "mcauleylab.ucsd.edu")


def certificate(folder: Path) -> Path:
    """A certificate of all hosts, with its key, in one file; the test is skipped where it cannot be made."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH: it makes the certificate of the server")
    path = folder / "certificate.pem"
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    subprocess.run(
        [*make.split(), "-addext", f"subjectAltName={names}", "-keyout", path, "-out", folder / "public.pem"],
        check=True,
        capture_output=True,
    )
    with path.open("ab") as file:
        file.write((folder / "public.pem").read_bytes())
    return path


class _Proxy(Handler):
    """Answers in the place of the host that a tunnel is asked to."""

    server: "OfficialAddresses"

    def do_CONNECT(self) -> None:  # noqa: N802 - http.server calls it so
        self.server.tunnels.append(self.path)
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):  # a client that does not trust the certificate goes away
            self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
            self.handle_one_request()
        self.close_connection = True


class OfficialAddresses(FileServer):
    """What a process sees as the internet, by its environment `variables`."""

    def __init__(self, folder: Path, *responders: Responder) -> None:
        super().__init__(*responders)
        self.RequestHandlerClass = _Proxy
        self.tunnels: list[str] = []
        pem = certificate(folder)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.variables = {"HTTPS_PROXY": self.address(""), "SSL_CERT_FILE": str(folder / "public.pem")}


def official_addresses(folder: Path, *responders: Responder) -> AbstractContextManager[OfficialAddresses]:
    """The proxy, until the block ends."""
    return served(OfficialAddresses(folder, *responders))
