"""`python -m deeper_assets_tests.chat_server`: the offline chat model as a server, to try the client with."""

import os
import sys
from functools import partial

import click

from deeper_assets.method.exceptions import DeeperError
from deeper_assets_tests.chat_server.faults import Faults

try:
    from deeper_assets_tests.chat_server.app import Manner, serve
except ModuleNotFoundError as error:
    sys.exit(f"chat_server: there is no {error.name}; it comes with pip install -e '.[test]'")


@click.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free.")
@click.option("--latency", default=0.0, type=click.FloatRange(min=0), help="Seconds until an answer.")
@click.option(
    "--faults",
    default="0",
    metavar="SHARE|KIND=SHARE,...",
    show_default=True,
    help="Requests that meet a fault.",
)
@click.option("--requests-per-second", type=click.FloatRange(min=0, min_open=True), help="More get a 429.")
@click.option("--batch-seconds", default=2.0, show_default=True, type=click.FloatRange(min=0))
@click.option("--no-schemas", is_flag=True, help="Do not know structured output.")
@click.option("--key-env", metavar="VARIABLE", help="Ask for the key in this environment variable.")
@click.option("--seed", default=0, show_default=True, help="Another seed, other requests meet faults.")
def main(
    port: int,
    latency: float,
    faults: str,
    requests_per_second: float | None,
    batch_seconds: float,
    no_schemas: bool,
    key_env: str | None,
    seed: int,
) -> None:
    """Serve the offline chat model over OpenAI's protocol, with faults on request.

    For trying the client without a key, and for seeing what it does when a server misbehaves. Faults are
    decided by the request, its number of tries and the seed. A SHARE (0 to 1) is spread over all kinds: 15 %
    rate_limited (429), 8 % error_at_once (500), 8 % error_late (503 after the latency), 12 % dropped, 1 %
    hanging, 1 % trickling, 3 % bomb (of gzip), 6 % misshapen, 3 % miscounted, 3 % redirected, and, at every
    try of the same request, 10 % each rejected (400), refused, filtered and cut. Of a batch's lines 0.6 SHARE
    fail, of batches 0.5 SHARE expire and 0.5 SHARE fail. GET /stats says what came.
    """
    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        raise DeeperError(f"--key-env {key_env}: this environment variable holds no key; set it first")
    given = Faults.parse(faults, seed)
    manner = Manner(latency, given, requests_per_second, batch_seconds, not no_schemas, key)
    serve(manner, port, partial(_say_how_to_use, key_env))


def _say_how_to_use(key_env: str | None, url: str) -> None:
    key = f" DEEPER_CHAT__KEY_ENV={key_env}" if key_env else ""
    click.echo(
        f"The offline chat model answers at {url}/v1; Ctrl-C stops it, {url}/stats has counts. Use it:"
    )
    click.echo(f"DEEPER_PROFILE=local DEEPER_CHAT__BASE_URL={url}/v1{key} deeper run")


if __name__ == "__main__":
    try:
        main()
    except DeeperError as error:
        sys.exit(f"chat_server: {error}")
