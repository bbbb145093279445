"""The page at /docs works in a browser, also where the internet is closed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Installed, variants
from playwright.sync_api import Page, expect, sync_playwright
from serving import serve


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a Chromium that reaches nothing but this machine."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no chromium on the PATH")
    with sync_playwright() as playwright:
        # Its sandbox refuses to run as root, as CI often does, and shared memory is short in containers.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser.new_page()
        browser.close()


@pytest.mark.parametrize("installed", variants(["file"], ["background"]), indirect=True)
def test_example_can_be_tried_on_the_page(installed: Installed, tmp_path: Path, page: Page) -> None:
    elsewhere: list[str] = []
    failed: list[str] = []
    with serve(installed, tmp_path, SERVICE_NAME="Ünï </title> 🚀") as service:
        here = f"http://127.0.0.1:{service.port}/"
        page.on(
            "request",
            lambda request: elsewhere.append(request.url) if not request.url.startswith((here, "data:")) else None,
        )
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(f"{here}docs")
        operation = page.locator(".opblock", has_text="Write a log line")
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_placeholder("message").fill("from the page")
        operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table tbody")
        expect(answer.locator(".response-col_status").first).to_contain_text("200")
        expect(answer).to_contain_text("Log task has been scheduled")
        service.expect("log", "from the page")

    assert elsewhere == []
    assert failed == []
