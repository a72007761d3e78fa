"""The page at `/`, in a real browser with an invented microphone; what needs one skips where there is none."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra `server`")

from serving import encoded, model_folder, serving, speech_like
from tiny_model import LABELS

from unheard.server.page import FOLDER, TYPES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LONG = encoded(np.concatenate([speech_like(5.0, seed=2), np.zeros(4 * 16_000, np.float32), speech_like(4.5, seed=3)]))
CALL = encoded(np.stack([speech_like(4.0, seed=4), speech_like(4.0, seed=5)], axis=1), format="FLAC")


def test_nothing_on_the_page_comes_from_elsewhere() -> None:
    files = {file.name: file.read_text() for file in FOLDER.iterdir() if file.suffix in TYPES}
    for name, text in files.items():
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, name
        named = re.findall(r"""(?:src|href)="([^":]+)"|from "\./([^"]+)"|addModule\("([^"]+)"\)""", text)
        missing = {word for words in named for word in words if word} - {*files, "docs", "openapi.json"}
        assert not missing, name
        assert "innerHTML" not in text
        assert not re.search(r"\son\w+=|style=", text), f"{name}: the content security policy forbids these"


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("microphone") / "speech.wav"
    file.write_bytes(encoded(speech_like(10.0, seed=8, rate=48_000), 48_000))
    return file


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    flags = [
        "--no-sandbox",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
    ]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(model_folder(tmp_path_factory.mktemp("served") / "tiny"), "--max-megabytes", "1") as (address, _):
        yield address


class Window:
    """A page of the server, and what it asked for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1000, "height": 800}, **options})
        self.page = self.context.new_page()
        self.asked: list[Any] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.wrong.append(said.text))
        self.address = address

    def open(self) -> Window:
        self.page.goto(self.address)
        self.page.wait_for_selector("#model:not(:empty)")
        return self

    def give(self, body: bytes, name: str = "clip.wav") -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": body})

    def headline(self) -> str:
        self.page.wait_for_selector("#result:not([hidden])")
        return str(self.page.inner_text("#result-title"))

    def trouble(self) -> str:
        self.page.wait_for_selector("#trouble:not([hidden])")
        return " ".join(self.page.inner_text("#trouble").split())

    def until(self, true: str) -> None:
        """Waits for a JavaScript expression; playwright's own way needs `eval`, which the page forbids."""
        for _ in range(400):  # a machine with other work takes its time
            if self.page.evaluate(true):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {true}")

    def uploads(self) -> list[bytes]:
        return [request.post_data_buffer for request in self.asked if request.method == "POST"]


@pytest.fixture
def window(browser: Any, address: str) -> Iterator[Window]:
    window = Window(browser, address)
    yield window
    window.context.close()


def test_a_file_becomes_an_answer(window: Window, tmp_path: Path) -> None:
    window.open().give(LONG, 'a, "b".wav')
    assert re.fullmatch(r"(Angry|Happy|Neutral|Sad) \(\d+\s%\)", window.headline())
    page = window.page
    assert window.uploads() == [LONG]  # the very bytes: the answer is that of every other way to ask
    page.get_by_text("As a table").click()
    rows = page.locator("#segments tbody tr").all_inner_texts()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    download.value.save_as(tmp_path / "answer.json")
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["file"] == 'a, "b".wav'
    assert len(rows) == len(answer["segments"]) >= 3
    assert any("no speech" in row for row in rows)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "answer.csv")
    with (tmp_path / "answer.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in table] == ['a, "b".wav'] * len(rows)
    assert [row["label"] or None for row in table] == [segment["label"] for segment in answer["segments"]]
    assert all(request.url.startswith((window.address, "blob:")) for request in window.asked)
    assert window.wrong == []


def test_the_charts_show_the_segments(window: Window) -> None:
    window.open().give(LONG)
    window.headline()
    drawn = window.page.evaluate(
        """(names) => { const canvas = document.querySelector("#charts canvas"), {width, height} = canvas;
        const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data, colours = new Set();
        for (let at = 0; at < pixels.length; at += 4) if (pixels[at + 3] === 255)
          colours.add(`${pixels[at]},${pixels[at + 1]},${pixels[at + 2]}`);
        const emotions = names.map((name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`));
        return emotions.map((hex) => [1, 3, 5].map((at) => parseInt(hex.trim().slice(at, at + 2), 16)).join())
          .filter((colour) => colours.has(colour)).length; }""",
        LABELS,
    )
    assert drawn == len(LABELS)


def test_by_keyboard_alone(window: Window) -> None:
    page = window.open().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "record"
    window.give(LONG)
    window.headline()
    assert page.evaluate("document.activeElement.id") == "result"  # a screen reader goes on with the answer
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "play"
    page.keyboard.press("Tab")
    slider = page.get_by_role("slider", name="Position in the recording")
    assert slider.evaluate("(canvas) => canvas === document.activeElement")
    for key, second in (
        ("ArrowRight", "1.0"),
        ("PageUp", "6.0"),
        ("ArrowLeft", "5.0"),
        ("End", "13.5"),
        ("Home", "0.0"),
    ):
        page.keyboard.press(key)
        assert slider.get_attribute("aria-valuenow") == second
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "7.0 of 13.5 seconds: no answer"
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    window.until("Number(document.querySelector('#charts canvas').getAttribute('aria-valuenow')) > 7.2")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Play").wait_for()


def test_a_click_seeks(window: Window) -> None:
    window.open().give(LONG)
    window.headline()
    canvas = window.page.locator("#charts canvas")
    box = canvas.bounding_box()
    window.page.mouse.click(box["x"] + box["width"] - 1, box["y"] + 40)
    assert float(canvas.get_attribute("aria-valuenow")) == pytest.approx(13.5, abs=0.1)


def test_a_play_that_a_pause_interrupts(window: Window) -> None:
    window.open().give(LONG)
    window.headline()
    window.page.evaluate("() => { const play = document.getElementById('play'); play.click(); play.click(); }")
    window.page.wait_for_timeout(200)
    assert window.page.get_by_role("button", name="Play", exact=True).is_enabled()


@pytest.mark.parametrize("worklet", [True, False])
def test_the_microphone(window: Window, worklet: bool) -> None:
    if not worklet:
        window.page.add_init_script("delete BaseAudioContext.prototype.audioWorklet")
    page = window.open().page
    began = time.monotonic()
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_text("Recording. Press Stop").wait_for()
    window.until("/^0:0[2-9]/.test(document.getElementById('mic-hint').textContent)")
    shown = float(page.inner_text("#mic-hint").removeprefix("0:"))
    page.get_by_role("button", name="Stop").click()
    assert re.match(r"(Angry|Happy|Neutral|Sad) ", window.headline())
    passed = time.monotonic() - began
    (wav,) = window.uploads()
    assert wav[:4] == b"RIFF"
    assert np.frombuffer(wav[22:28], "<u2").tolist() == [1, 16_000, 0]  # channels, rate
    samples = np.frombuffer(wav[44:], "<i2") / 32768
    # all that the clock, which rounds, had counted, and no more than there was time for, however slow the machine
    assert shown - 0.06 <= len(samples) / 16_000 < passed
    assert samples.std() == pytest.approx(speech_like(10.0, seed=8).std(), rel=0.5)
    assert [said for said in window.wrong if "ScriptProcessorNode is deprecated" not in said] == []


def test_no_microphone(window: Window) -> None:
    window.page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))"
    )
    window.open().page.get_by_role("button", name="Record", exact=True).click()
    assert window.trouble().startswith("The microphone is not allowed.")
    assert window.page.get_by_role("button", name="Record", exact=True).is_enabled()


def test_what_only_the_browser_can_read_is_sent_as_wav(window: Window) -> None:
    page = window.open().page
    webm = page.evaluate(
        """async () => { const context = new AudioContext(), tone = context.createOscillator(), pieces = [];
        const out = context.createMediaStreamDestination(); tone.connect(out); tone.start();
        const recorder = new MediaRecorder(out.stream, { mimeType: "audio/webm" });
        recorder.ondataavailable = (event) => pieces.push(event.data); recorder.start();
        await new Promise((done) => setTimeout(done, 800)); recorder.stop();
        await new Promise((done) => { recorder.onstop = done; });
        const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
        return btoa(String.fromCharCode(...bytes)); }"""
    )
    window.give(base64.b64decode(webm), "tone.webm")
    window.headline()
    assert window.uploads()[0][:4] == b"RIFF"


def test_abstention(window: Window) -> None:
    window.open().give(encoded(np.zeros(32_000, np.float32)))
    assert window.headline() == "No answer: silence"


def test_a_call(window: Window) -> None:
    page = window.open().page
    page.get_by_text("Options").click()
    page.get_by_label("Channel").select_option("each")
    window.give(CALL, "call.flac")
    assert re.fullmatch(r"Left: \w+ \(\d+\s%\) · Right: \w+ \(\d+\s%\)", window.headline())
    assert page.locator("#charts canvas").count() == 2
    assert re.search(r" long, speech: left 0:\d\d\.\d, right 0:\d\d\.\d", page.inner_text("#result-notes"))


def test_a_voice(window: Window) -> None:
    page = window.open().page
    page.get_by_text("Options").click()
    page.get_by_label("Other recordings of the same speaker").set_input_files(
        [{"name": f"{seed}.wav", "mimeType": "", "buffer": encoded(speech_like(2.0, seed=seed))} for seed in (6, 7)]
    )
    page.get_by_text("Answers are adapted to the speaker of 2 clips.").wait_for()
    window.give(LONG)
    window.headline()
    assert "adapted to a speaker known from 2 utterances" in page.inner_text("#result-notes")
    page.get_by_role("button", name="Forget this speaker").click()
    window.give(encoded(speech_like(2.0)))
    window.until("!document.getElementById('result-notes').textContent.includes('adapted')")


def test_errors(window: Window) -> None:
    window.open().give(b"nonsense", "x.wav")
    assert window.trouble().startswith("x.wav: cannot be read as audio (Format not recognised)")
    window.give(b"\x00" * 1_000_001, "big.bin")
    window.until("document.getElementById('trouble').textContent.includes('big.bin')")
    assert window.trouble() == (
        "big.bin: this file is larger than the server takes. Send at most 15 minutes or 1 MB at once."
    )
    assert len(window.uploads()) == 1  # the second was not even sent
    assert not window.page.get_by_role("button", name="Try again").is_visible()


def test_a_large_file_is_made_small(window: Window) -> None:
    large = encoded(np.stack([speech_like(4.0, rate=48_000)] * 2, axis=1), 48_000, subtype="PCM_24")
    assert len(large) > 1_000_000
    window.open().give(large, "large.wav")
    window.headline()
    assert len(window.uploads()[0]) == 44 + 4 * 32_000


def test_a_busy_server_and_one_that_is_gone(window: Window) -> None:
    said = {"what": "the server has as much to do as it takes at once", "mend": "Try again in a few seconds."}
    window.open().page.route("**/predict*", lambda route: route.fulfill(status=429, json=said))
    window.give(LONG, "clip.wav")
    assert window.trouble().startswith("clip.wav: the server has as much to do as it takes at once. Try again in")
    window.page.unroute("**/predict*")
    window.page.route("**/predict*", lambda route: route.abort())
    window.page.get_by_role("button", name="Try again").click()
    window.page.get_by_text("the server does not answer").wait_for()
    window.page.unroute("**/predict*")
    window.page.get_by_role("button", name="Try again").click()
    assert window.headline()
    assert not window.page.locator("#trouble").is_visible()


def test_the_card(window: Window) -> None:
    page = window.open().page
    page.get_by_role("button", name="Model card").click()
    assert "Licence: CC BY-NC-SA 4.0" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0


def test_what_to_know_is_said(window: Window) -> None:
    text = window.open().page.inner_text("main")
    for said in ("Nothing is kept", "not of what a person feels", "Not for decisions", "CC BY-NC-SA 4.0", "AI Act"):
        assert said in text


def test_a_phone_in_the_dark(browser: Any, address: str) -> None:
    window = Window(browser, address, viewport={"width": 360, "height": 700}, has_touch=True, color_scheme="dark")
    window.open().give(LONG, "a" * 120 + ".wav")
    window.headline()
    window.page.get_by_text("As a table").click()
    window.page.get_by_text("Options").click()
    assert window.page.evaluate("document.documentElement.scrollWidth") == 360
    assert window.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    window.context.close()


class Elsewhere(BaseHTTPRequestHandler):
    """Another site on this machine, as a development server is."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_another_site_gets_nothing(window: Window, mode: str) -> None:
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere:
        Thread(target=elsewhere.serve_forever, daemon=True).start()
        window.page.goto(f"http://127.0.0.1:{elsewhere.server_port}/")
        ask = "([address, mode]) => fetch(address, { mode }).then(() => 'an answer', () => 'nothing')"
        assert window.page.evaluate(ask, [f"{window.address}health", mode]) == "nothing"
        assert window.page.evaluate(ask, [f"http://127.0.0.1:{elsewhere.server_port}/", mode]) == "an answer"
        elsewhere.shutdown()
