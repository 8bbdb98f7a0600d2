"""Headless Chromium for tests of pages, and the page as a person uses it."""

import io
import shutil
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "disable-dev-shm-usage",
    "window-size=1280,1000",
)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}


def open_browser(profile):
    """A browser that keeps what it stores in ``profile``; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="no driver of browsers: pip install selenium"
    )
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


class Page:
    """The page of task=demo as a person uses it."""

    def __init__(self, browser, address):
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser, self.css, self.wait = browser, By.CSS_SELECTOR, WebDriverWait(browser, 300)
        self.soon = WebDriverWait(browser, 15)
        self.do = browser.execute_script
        browser.get(address)

    def all(self, selector):
        return self.browser.find_elements(self.css, selector)

    def one(self, selector):
        return self.wait.until(lambda _: self.all(selector), f"no {selector}")[0]

    def text(self, selector):
        return self.do("return document.querySelector(arguments[0])?.innerText || ''", selector)

    def says(self, words, place="#note"):
        self.wait.until(
            lambda _: words in self.text(place),
            f"{words!r} is not on the page: {self.text(place)}",
        )

    def click(self, selector):
        """Click what may be scrolled away."""
        element = self.one(selector)
        self.do("arguments[0].scrollIntoView({block: 'center'})", element)
        self.do("arguments[0].click()", element)

    def drag(self, selector, pixels):
        """Move what can be dragged to the right, or with less than 0 to the left."""
        from selenium.webdriver import ActionChains

        element = self.one(selector)
        self.do("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.browser).drag_and_drop_by_offset(element, pixels, 0).perform()

    def press_again(self, button, place):
        """Click what was clicked a moment ago: a page that still answers lets a click go by."""
        before = self.text(place)

        def answered(_):
            self.click(button)
            patience = time.monotonic() + 3
            while self.text(place) == before and time.monotonic() < patience:
                time.sleep(0.1)
            return self.text(place) != before

        self.wait.until(answered, f"nothing new: {before}")

    def tab(self, title):
        """Open a part of the page."""
        script = (
            "for (const tab of document.querySelectorAll('[role=tab]'))"
            " if (tab.innerText.trim() === arguments[0]) { tab.click(); return true }"
        )
        self.wait.until(lambda _: self.do(script, title), f"no tab {title}")

    def as_on_a_phone(self):
        """From now on the window is 390 pixels wide."""
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)

    def fits(self):
        """Nothing makes the page wider than its window."""
        script = "return [document.documentElement.scrollWidth, window.innerWidth]"
        self.soon.until(
            lambda _: (size := self.do(script))[0] <= size[1],
            f"the page is wider than its window: {self.do(script)}",
        )

    def fill(self, box, text):
        """Type into a text box, in place of what is there."""
        field = self.wait.until(
            lambda _: [e for e in self.all(f"#{box} textarea, #{box} input") if e.is_displayed()],
            f"no box {box}",
        )[0]
        field.clear()
        field.send_keys(text)

    def sources(self, place):
        return self.do(
            "return [...document.querySelectorAll(arguments[0])].map(img => img.src)",
            f"#{place} img",
        )

    def fetch(self, address):
        """A picture of the page, and its file's size."""
        with urllib.request.urlopen(address, timeout=20) as stream:
            return np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB"))

    def download(self, button, folder):
        """Press a button that gives a file; its path."""
        where = {"behavior": "allow", "downloadPath": str(folder)}
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
        self.click(button)
        [file] = self.wait.until(lambda _: list(folder.glob("*.png")), "nothing came down")
        return file

    def picture(self, place, number=0):
        return self.fetch(self.sources(place)[number])

    def after(self):
        """The edited picture: the right one of the two that are compared."""
        return self.picture("compare", 1)

    def press(self):
        """Edit, and wait for another picture than the one before."""
        before = self.sources("compare")
        self.one("#button").click()
        self.wait.until(
            lambda _: len(now := self.sources("compare")) == 2 and now[1:] != before[1:],
            f"no picture: {self.text('#note')}",
        )
