"""The docs pages in a real Chromium: they work, and nothing they load comes from another machine."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.fixtures.servers import RunningServer

CHROMIUM = shutil.which("chromium")
PASSWORD = "SecurePass123"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="Chromium is not installed: the docs pages were not tried in a browser."
    ),
]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    # Chromium's own sandbox does not start for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    page = await browser.new_page(viewport={"width": 1280, "height": 1400})
    yield page
    await page.close()


class Observed:
    """What a page asked for, and what it complained about."""

    def __init__(self, page: Page) -> None:
        self.hosts: set[str | None] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.mark.parametrize(
    ("path", "shows"), [("/api/docs", "#operations-tag-認證_Authentication"), ("/api/redoc", "h1")]
)
async def test_a_docs_page_loads_from_this_server_only(
    path: str, shows: str, page: Page, shared_server: RunningServer
) -> None:
    observed = Observed(page)
    await page.goto(f"{shared_server.url}{path}")
    await page.wait_for_selector(shows)
    await page.wait_for_load_state("networkidle")
    # Scripts and styles made inside the page have no host.
    assert (observed.hosts - {""}, observed.complaints) == ({urlsplit(shared_server.url).netloc}, [])


@pytest.fixture
def swagger_user(shared_server: RunningServer) -> str:
    username = "swagger_user"
    body = {"username": username, "email": "swagger@example.com", "password": PASSWORD}
    httpx.post(f"{shared_server.url}/api/auth/register", json=body).raise_for_status()
    return username


async def test_authorize_and_create_a_record_from_swagger(
    page: Page, shared_server: RunningServer, swagger_user: str
) -> None:
    observed = Observed(page)
    await page.goto(f"{shared_server.url}/api/docs")
    await page.click(".btn.authorize")
    await page.fill("#oauth_username", swagger_user)
    await page.fill("#oauth_password", PASSWORD)
    await page.click(".modal-ux .auth-btn-wrapper .authorize")
    await expect(page.locator(".modal-ux")).to_contain_text("Logout")
    await page.click(".modal-ux .btn-done")

    operation = page.locator("[id^='operations-'][id$='create_data']")
    await operation.locator(".opblock-summary").click()
    await operation.locator(".execute").click()
    await expect(operation.locator(".live-responses-table tbody .response-col_status")).to_contain_text("201")
    answer = await operation.locator(".live-responses-table tbody .response-col_description").inner_text()
    record_id = re.search(r'"id":\s*(\d+)', answer)
    assert record_id is not None
    stored = httpx.get(f"{shared_server.url}/api/data/{record_id[1]}").json()
    refused = [complaint for complaint in observed.complaints if "Content Security Policy" in complaint]
    assert (stored["name"], refused) == ("ETL 資料處理任務", [])
