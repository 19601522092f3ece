"""The page of `make serve`, in a real browser."""

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait
from served import Api, serving

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

# Not every developer has Debian's browser; .ci/run installs it.
pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver (chromium-driver)"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    # Root has no sandbox, and containers have little shared memory; nothing here leaves the machine.
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1280,2400",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


class Page:
    """What a person does there."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url
        # Rows are replaced when something has changed, maybe while a test looks at them.
        self._wait = WebDriverWait(driver, 20, ignored_exceptions=[StaleElementReferenceException])
        driver.get("about:blank")
        driver.get(url)

    def see(self, selector: str, text: str) -> None:
        """Wait for such an element with the text in it."""
        self._wait.until(
            lambda driver: any(text in one.text for one in driver.find_elements("css selector", selector)),
            f"no {text!r} in {selector}",
        )

    def click(self, selector: str, text: str = "") -> None:
        """Click such an element with this text, as soon as there is one."""

        def clicked(driver: webdriver.Chrome) -> bool:
            for one in driver.find_elements("css selector", selector):
                if text in one.text:
                    one.click()
                    return True
            return False

        self._wait.until(clicked, f"no {selector} to click")

    def add_customer(self) -> str:
        """Add a stuck customer; the SID of the Execution."""
        self.see("#customers .active", "stuck")
        before = {one.get_attribute("id") for one in self.items}
        self.click("#new")
        self._wait.until(lambda _: len(self.items) == len(before) + 1)
        (sid,) = {one.get_attribute("id") for one in self.items} - before
        assert sid
        return sid

    @property
    def items(self) -> list[webdriver.remote.webelement.WebElement]:
        return self.driver.find_elements("css selector", "#customers .item")


@pytest.fixture
def page(api: Api, chromium: webdriver.Chrome) -> Page:
    return Page(chromium, api.url)


def test_customers_are_stuck(page: Page) -> None:
    """It begins with a few customers, each with an address and an age of its own."""
    page.see("#customers .active", "stuck for 3 days")
    contacts = [one.text.split("\n")[0] for one in page.items]
    assert 5 <= len(set(contacts)) == len(contacts) <= 8


@pytest.mark.parametrize("way", ["End", "Webhook"])
def test_a_button_ends_an_execution(page: Page, way: str) -> None:
    """The Execution ends; the request, its response, Twilio's part and the outcome event are beside it."""
    sid = page.add_customer()
    page.click(f"#{sid} button", way)
    page.see(f"#{sid} .ended", "ended")
    page.see("#last .good", "200")
    page.see("#last .response", '"status": "ended"')
    page.see("#last .twilio", f"{sid}  200")
    page.see("#outcomes .sid", f"{sid} ended")
    page.click("#last details summary")
    page.see(
        "#last .headers", "webhook-signature: v1," if way == "Webhook" else "content-type: application/json"
    )


def test_what_happens_elsewhere_appears(page: Page, api: Api) -> None:
    """The page follows Twilio by itself."""
    sid = page.add_customer()
    (execution,) = [one for one in api.stand_ins.studio.executions.all() if one.sid == sid]
    api.stand_ins.studio.executions.end(execution.flow_sid, sid)
    page.see(f"#{sid} .ended", "ended")


def test_a_source_shows_its_mapping(page: Page) -> None:
    """A sample is accepted, queued and carried out; what was mapped and ignored, and why, is there."""
    page.click("#source-ticketing button")
    page.see("#source-ticketing .good", "202 accepted")
    page.see("#source-ticketing .explained", '"contact": "+15005550107"')
    page.see("#source-ticketing .explained", "`when`")
    page.see("#source-ticketing .became", "conversation_ended: 1 ended, conversation_ended: 1 ended")


def test_a_fault_is_switched_on_and_off(page: Page) -> None:
    """While Twilio rejects the credentials, an Execution stays; then it ends."""
    sid = page.add_customer()
    page.click("#fault-rejected")
    page.click(f"#{sid} button", "End")
    page.see("#last .bad", "502")
    page.click("#fault-rejected")
    page.click(f"#{sid} button", "End")
    page.see(f"#{sid} .ended", "ended")


@pytest.mark.parametrize("operation", ["endConversation", "conversationEnded"])
def test_the_api_can_be_tried(page: Page, operation: str) -> None:
    """On its own tab, with the description's example, which names this server, and a signature if needed."""
    page.click("[data-tab=api]")
    page.click(f"#operations-Commands-{operation} .opblock-summary-control")
    page.click(f"#operations-Commands-{operation} .btn.execute")
    page.see(f"#operations-Commands-{operation} .live-responses-table .response-col_status", "200")


@pytest.mark.parametrize("width", [1280, 420])
def test_it_fits(page: Page, width: int) -> None:
    """No part of either tab is wider than the screen."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.see("#customers .active", "stuck")
        for tab in ("try", "api"):
            page.click(f"[data-tab={tab}]")
            page.see(f"#{tab}", "webhook")
            assert page.driver.execute_script("return document.documentElement.scrollWidth") == width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_comes_from_elsewhere(page: Page, api: Api) -> None:
    """All that the page loads is from this machine, and the browser logs no error."""
    page.driver.get_log("browser")
    page.click("[data-tab=api]")
    page.see("#api", "/webhooks/{source}")
    loaded = page.driver.execute_script(
        "return performance.getEntriesByType('resource').map((one) => one.name)"
    )
    assert {"swagger-ui-bundle.js", "openapi.yaml"} <= {one.rpartition("/")[2] for one in loaded}
    assert {urlsplit(one).netloc for one in loaded if not one.startswith("data:")} == {
        urlsplit(api.url).netloc
    }
    assert page.driver.get_log("browser") == []
