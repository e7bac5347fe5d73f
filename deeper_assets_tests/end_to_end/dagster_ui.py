"""`deeper ui` over a home, and a person in front of it."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from deeper_assets_tests.command import command
from deeper_assets_tests.conftest import REPOSITORY

PATIENCE = 120
"""Seconds that a page or a run may take before the test gives up."""


@contextmanager
def opened(home: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """`deeper ui` over a home, by its address; it and its children end with the block.

    On a port of its own: another test's may look for the usual one at the same moment.
    """
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        call = command("ui", "--home", home, "--port", free.getsockname()[1])
    with (home.parent / "ui.log").open("w") as log:
        process = subprocess.Popen(call, env=dict(variables), stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split(" ")[0]
            assert address.startswith("http://127.0.0.1:"), (home.parent / "ui.log").read_text()
            yield address
        finally:
            process.terminate()
            assert process.wait(60) == 0


def ask(server: str, query: str, **variables: Any) -> Any:
    """What the server's GraphQL says, as its pages ask it."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(
        f"{server}/graphql", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
        answer = json.load(reply)
    assert "errors" not in answer, answer["errors"]
    return answer["data"]


def runs(server: str) -> list[dict[str, Any]]:
    """All runs, the latest first."""
    fields = "id jobName status parentRunId"
    query = f"{{ runsOrError {{ ... on Runs {{ results {{ {fields} }} }} }} }}"
    results: list[dict[str, Any]] = ask(server, query)["runsOrError"]["results"]
    return results


def messages(server: str, run: str) -> str:
    """What a run's events say."""
    query = (
        "query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection"
        " { events { ... on MessageEvent { message } } } } }"
    )
    return " ".join(event["message"] for event in ask(server, query, id=run)["logsForRun"]["events"])


class Person:
    """Someone in front of the page: looks for what it says, clicks, takes pictures."""

    def __init__(self, browser: webdriver.Chrome, server: str):
        self.browser = browser
        self.server = server
        self.pictures = Path(os.environ.get("DEEPER_TEST_ARTIFACTS", REPOSITORY / "test-artifacts"))
        self.pictures.mkdir(parents=True, exist_ok=True)

    def goes_to(self, path: str) -> None:
        self.browser.get(self.server + path)

    def sees(self, text: str, exactly: bool = True, first: bool = False) -> WebElement:
        """What shows this text; the last such thing on the page, which is where menus and dialogs stand."""
        test = f"normalize-space(.)='{text}'" if exactly else f"contains(normalize-space(.), '{text}')"

        def shown(browser: webdriver.Chrome) -> WebElement | None:
            showing = browser.find_elements(By.XPATH, f"//*[{test} and not(*[{test}])]")
            ordered = showing if first else reversed(showing)
            return next((one for one in ordered if one.is_displayed()), None)

        return WebDriverWait(self.browser, PATIENCE).until(shown, f"'{text}' on {self.browser.current_url}")

    def clicks(self, text: str, first: bool = False) -> None:
        def click(_: webdriver.Chrome) -> bool:
            self.sees(text, first=first).click()
            return True

        ignored = (Exception,)  # the page redraws itself while it loads
        WebDriverWait(self.browser, PATIENCE, ignored_exceptions=ignored).until(click, f"click on '{text}'")

    def picture(self, name: str) -> None:
        self.browser.save_screenshot(str(self.pictures / f"{name}.png"))


def dagster(variables: dict[str, str], *arguments: str) -> None:
    """Calls Dagster's command. What `job launch` and `backfill` queue, the daemon of the running UI does."""
    called = [str(Path(sys.executable).with_name("dagster")), *arguments]
    done = subprocess.run(called, cwd=REPOSITORY, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def wait_for(home: Path, done: Callable[[], bool], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, (home.parent / "ui.log").read_text()
        time.sleep(1)
