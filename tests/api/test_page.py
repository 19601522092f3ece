"""The page of `make serve`, in a real browser."""

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from served import Api, serving

from local.studio import Execution

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

# Not every developer has Debian's browser; .ci/run installs it, so that there the page is always looked at.
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
        "--window-size=1400,2400",
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
        self.driver = driver
        # A table's rows are replaced when something has changed, maybe while a test looks at them.
        self._wait = WebDriverWait(driver, 20, ignored_exceptions=[StaleElementReferenceException])
        driver.get(url)
        self.find("#operations-Commands-conversationEnded")

    def find(self, selector: str) -> WebElement:
        """The first such element, as soon as there is one."""
        return self._wait.until(
            lambda driver: next(iter(driver.find_elements("css selector", selector)), None)
        )

    def wait_for(self, selector: str, text: str) -> None:
        """Until such an element has the text in it."""
        self._wait.until(
            lambda driver: any(text in one.text for one in driver.find_elements("css selector", selector)),
            f"no {text!r} in {selector}",
        )

    def text(self, selector: str) -> str:
        """What the first such element shows."""
        return self._wait.until(
            lambda driver: next((one.text for one in driver.find_elements("css selector", selector)), "")
        )

    def click(self, selector: str, text: str) -> None:
        """Click such an element with this text, whenever there is one."""

        def clicked(driver: webdriver.Chrome) -> bool:
            for one in driver.find_elements("css selector", selector):
                if one.text == text:
                    one.click()
                    return True
            return False

        self._wait.until(clicked)

    def try_out(self, operation: str) -> None:
        """Execute an operation of the API with the description's own example."""
        self.find(f"#operations-Commands-{operation} .opblock-summary-control").click()
        self.find(f"#operations-Commands-{operation} .btn.execute").click()
        self.wait_for(f"#operations-Commands-{operation} .live-responses-table .response-col_status", "200")


@pytest.fixture
def page(api: Api, chromium: webdriver.Chrome) -> Page:
    return Page(chromium, api.url)


@pytest.fixture
def execution(api: Api) -> Execution:
    """The Execution of the description's example, active again."""
    executions = api.behind.studio.executions
    before = executions.get("FW5e1f0c9a7b3d4e2f8a6c0b1d2e3f4a5b", "FNb34180fe8141086f0b56b3810cb2c44a")
    executions.delete(before.flow_sid, before.sid)
    return executions.add(before.flow_sid, before.sid, date_created=before.date_created)


@pytest.mark.parametrize("way", ["HTTP", "Webhook"])
def test_a_button_ends_an_execution(page: Page, execution: Execution, way: str) -> None:
    """The table shows it ended, and the last request is shown with its answer, and a webhook's signature."""
    page.wait_for(f"#{execution.sid} .active", "active")
    page.click(f"#{execution.sid} button", way)
    page.wait_for(f"#{execution.sid} .ended", "ended")
    page.wait_for("#exchange", "200 application/json")
    assert ("webhook-signature: v1," in page.text("#exchange")) == (way == "Webhook")
    assert execution.status == "ended"


def test_a_new_execution_appears(page: Page, api: Api) -> None:
    """There is always another one to try with."""
    before = len(page.driver.find_elements("css selector", "#executions tr"))
    page.find("#new").click()
    page.wait_for("#executions .active", "active")
    assert len(page.driver.find_elements("css selector", "#executions tr")) == before + 1
    assert len(api.behind.studio.executions) == before + 1


def test_what_happens_elsewhere_is_shown(page: Page, execution: Execution, api: Api) -> None:
    """The table follows Twilio's side by itself."""
    page.wait_for(f"#{execution.sid} .active", "active")
    api.behind.studio.executions.end(execution.flow_sid, execution.sid)
    page.wait_for(f"#{execution.sid} .ended", "ended")


def test_an_outcome_appears(page: Page, execution: Execution) -> None:
    """What is ended from the page, or from anywhere else, is soon in the list of outcome events."""
    page.find(f"#{execution.sid} button").click()
    page.wait_for("#outcomes .ConversationEnded", "ConversationEnded")
    page.wait_for("#outcomes .sid", f"{execution.sid} ended")


def test_a_source_tells_what_became_of_its_event(page: Page) -> None:
    """The sample of a source is taken, queued, and carried out; the list of sources follows."""
    page.wait_for("#source-zendesk", "Send")
    page.find("#source-zendesk button").click()
    page.wait_for("#source-zendesk .payload", '"ticket_id": "48151"')
    page.wait_for("#source-zendesk", "202 accepted")
    page.wait_for("#source-zendesk .lines", "conversation_ended: ")


@pytest.mark.parametrize("operation", ["endConversation", "conversationEnded"])
def test_the_api_can_be_tried(page: Page, execution: Execution, operation: str) -> None:
    """From its own description, which names this server, and with a signature where one is needed."""
    page.try_out(operation)
    page.wait_for(f"#{execution.sid} .ended", "ended")
    assert execution.status == "ended"


def test_nothing_comes_from_elsewhere(page: Page, api: Api) -> None:
    """All that the page loads is from this machine, and the browser has nothing to complain of."""
    loaded = page.driver.execute_script(
        "return performance.getEntriesByType('resource').map((one) => one.name)"
    )
    assert {"swagger-ui-bundle.js", "openapi.yaml"} <= {one.rpartition("/")[2] for one in loaded}
    assert {urlsplit(one).netloc for one in loaded if not one.startswith("data:")} == {
        urlsplit(api.url).netloc
    }
    assert page.driver.get_log("browser") == []
