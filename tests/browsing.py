"""A page of the server in a browser, for its tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def file(body: bytes, name: str = "clip.wav") -> dict[str, Any]:
    return {"name": name, "mimeType": "", "buffer": body}


class Window:
    """A page of the server, and what it asked for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1000, "height": 800}, **options})
        self.page, self.address = self.context.new_page(), address
        self.asked: list[Any] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.wrong.append(said.text))

    def open(self) -> Window:
        self.page.goto(self.address)
        self.page.wait_for_selector("#model:not(:empty)")
        return self

    def give(self, body: bytes, name: str = "clip.wav") -> None:
        self.page.set_input_files("#file", file(body, name))

    def answer(self, body: bytes, name: str = "clip.wav") -> str:
        self.give(body, name)
        return self.headline()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.id"))

    def headline(self) -> str:
        self.page.wait_for_selector("#result:not([hidden])")
        return str(self.page.inner_text("#result-title"))

    def trouble(self) -> str:
        self.page.wait_for_selector("#trouble:not([hidden])")
        return " ".join(self.page.inner_text("#trouble").split())

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def until(self, true: str) -> None:
        """Waits for a JavaScript expression; playwright's own way needs `eval`, which the page forbids."""
        for _ in range(400):  # a machine with other work takes its time
            if self.page.evaluate(true):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {true}")

    def done(self) -> None:
        self.until("document.getElementById('working').hidden")

    def notes(self, text: str, there: bool = True) -> None:
        """Waits until the notes on the result have this text, or no longer."""
        self.until(f"document.getElementById('result-notes').textContent.includes('{text}') === {str(there).lower()}")

    def saved(self, button: str) -> bytes:
        """What a button downloads."""
        with self.page.expect_download() as download:
            self.button(button).click()
        return Path(download.value.path()).read_bytes()

    def position(self) -> float:
        return float(self.page.locator(".track").first.get_attribute("aria-valuenow"))

    def uploads(self) -> list[bytes]:
        return [request.post_data_buffer for request in self.asked if request.method == "POST"]
