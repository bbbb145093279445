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


@pytest.fixture
def faults(page: Page) -> list[str]:
    """What goes wrong on the page: requests to elsewhere, errors, and what its security policy forbids."""
    faults: list[str] = []
    page.on("request", lambda request: faults.append(request.url) if "//127.0.0.1:" not in request.url else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    return faults


NAME = "Ünï </title><script>alert('forged')</script> 🚀"
in_process = pytest.mark.parametrize("installed", variants(["file"], ["background"]), indirect=True)


@in_process
def test_example_can_be_tried_on_the_page(installed: Installed, tmp_path: Path, page: Page, faults: list[str]) -> None:
    with serve(installed, tmp_path, SERVICE_NAME=NAME) as service:
        page.goto(f"{service.url}/docs")
        operation = page.locator(".opblock", has_text="Write a log line")
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_placeholder("message").fill("from the page")
        operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table tbody")
        expect(answer.locator(".response-col_status").first).to_contain_text("200")
        expect(answer).to_contain_text("Log task has been scheduled")
        service.expect("log", "from the page")
        assert page.title() == NAME

    assert faults == []


@in_process
def test_page_for_reading(installed: Installed, tmp_path: Path, page: Page, faults: list[str]) -> None:
    with serve(installed, tmp_path, SERVICE_NAME=NAME) as service:
        page.goto(f"{service.url}/redoc")
        page.get_by_placeholder("Search").fill("notification")
        expect(page.locator("[role=search]")).to_contain_text("Send a notification")
        assert page.title() == NAME

    # ReDoc asks for its maker's logo, which the policy keeps it from loading.
    assert [fault for fault in faults if "https://cdn.redoc.ly/redoc/logo-mini.svg" not in fault] == []
