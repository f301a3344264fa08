"""The built site in a browser, as a newcomer uses it; ``make test-docs`` builds it first."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGES = ["index", "guide", "api/skhier.HierarchicalSlopesRegressor", "gallery/plot_sleepstudy"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site():
    if not (SITE / "index.html").exists():
        pytest.skip("the site is not built; `make docs` does")
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs Chromium and chromedriver (Debian: apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.implicitly_wait(20)
    yield chrome
    chrome.quit()


def test_search_for_interval_leads_to_a_page_about_it(site, browser):
    browser.get(f"{site}/index.html")
    browser.execute_script("document.querySelector('.search-button__button').click()")
    field = browser.find_element(
        "css selector",
        "dialog input[type=search], .search-button__search-container input[type=search]",
    )
    field.send_keys("interval")
    field.submit()
    hit = browser.find_element("css selector", "#search-results ul.search li a")
    browser.get(hit.get_attribute("href"))
    text = browser.find_element("css selector", "article").text
    assert "interval" in text.lower()
    assert browser.title


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("page", PAGES)
def test_page_is_no_wider_than_the_window(site, browser, page, width):
    # a window is never narrower than some 500 px; an emulated one is
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(f"{site}/{page}.html")
    widest = browser.execute_script("return document.documentElement.scrollWidth")
    assert widest <= width
