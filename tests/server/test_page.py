"""The page at `/`, in Chromium with an invented microphone; without Chromium these tests are skipped."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Window, file
from serving import model_folder, serving, speech_like
from sounds import encoded
from tiny_model import LABELS

from unheard.samples import samples
from unheard.server.app import PAGE, TYPES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = next(filter(Path.is_file, map(Path, (os.environ.get("AXE_CORE", "-"), "node_modules/axe-core/axe.min.js"))), None)
LONG = encoded(np.concatenate([speech_like(5.0, seed=2), np.zeros(4 * 16_000, np.float32), speech_like(4.5, seed=3)]))
SILENCE = encoded(np.zeros(32_000, np.float32))
CALL = encoded(np.stack([speech_like(4.0, seed=4), speech_like(4.0, seed=5)], axis=1), format="FLAC")


def test_nothing_on_the_page_comes_from_elsewhere() -> None:
    files = {file.name: file.read_text() for file in PAGE.iterdir() if file.suffix in TYPES}
    for name, text in files.items():
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, name
        named = re.findall(r"""(?:src|href)="([^":]+)"|from "\./([^"]+)"|addModule\("([^"]+)"\)""", text)
        missing = {word for words in named for word in words if word} - {*files, "docs", "openapi.json"}
        assert not missing, name
        assert "innerHTML" not in text
        assert not re.search(r"\son\w+=|style=", text), f"{name}: the content security policy forbids these"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    microphone = tmp_path_factory.mktemp("microphone") / "speech.wav"
    microphone.write_bytes(encoded(speech_like(10.0, seed=8, rate=48_000), 48_000))
    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream"]
    flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}"]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(model_folder(tmp_path_factory.mktemp("served") / "tiny"), "--max-megabytes", "1") as (address, _):
        yield address


@pytest.fixture
def window(browser: Any, address: str) -> Iterator[Window]:
    window = Window(browser, address)
    yield window.open()
    window.context.close()


def test_a_file_becomes_an_answer(window: Window) -> None:
    assert re.match(r"(Angry|Happy|Neutral|Sad) \(\d+\s%\)|Mixed: |Uncertain: ", window.answer(LONG, 'a, "b".wav'))
    assert window.uploads() == [LONG]  # the very bytes: the answer is that of every other way to ask
    window.page.get_by_text("Segments: listen").click()
    rows = window.page.locator("#segments tbody tr").count()
    answer = json.loads(window.saved("JSON"))
    table = list(csv.DictReader(window.saved("CSV").decode().splitlines()))
    assert answer["file"] == 'a, "b".wav'
    assert rows == len(table) == len(answer["segments"]) >= 3
    assert {row["abstained"] for row in table} == {"", "no speech"}
    assert [row["file"] for row in table] == ['a, "b".wav'] * rows
    assert [row["label"] or None for row in table] == [segment["label"] for segment in answer["segments"]]
    assert all(request.url.startswith((window.address, "blob:")) for request in window.asked)
    assert window.wrong == []


def test_what_to_know_the_card_and_samples_on_one_click_that_print(window: Window) -> None:
    page, text = window.page, window.page.inner_text("main")
    for said in ("Nothing is kept", "not of what a person feels", "Not for decisions", "CC BY-NC-SA 4.0", "AI Act"):
        assert said in text
    window.button("Model card").click()
    assert "Licence: CC BY-NC-SA 4.0" in page.get_by_role("dialog").inner_text()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    page.get_by_role("button", name="Angry, English").click()
    window.headline()
    assert "an actor was asked to sound angry" in window.page.inner_text("#result-notes")
    assert window.uploads() == [next(one for one in samples() if one.file == "angry-en.ogg").path.read_bytes()]
    window.page.emulate_media(media="print")
    shown = [
        window.page.locator(name).is_visible() for name in ("#ask", "#play", "#as-json", "#result-title", ".track")
    ]
    assert shown == [False, False, False, True, True]
    assert window.page.locator("#model").is_visible()


def test_the_timeline(window: Window) -> None:
    faster = "function () { this.playbackRate = 3; return play.call(this); }"  # than people listen
    window.page.add_init_script(f"const {{ play }} = Audio.prototype; Audio.prototype.play = {faster}")
    window.open().answer(LONG)
    page, track = window.page, window.page.locator(".track")
    shown = page.eval_on_selector_all(".segment", "all => all.map((one) => one.getAttribute('fill'))")
    assert set(shown) >= {"url(#emotion-none)"}
    assert page.locator(".area").count() == len(LABELS)
    patterns = page.eval_on_selector_all("#patterns path", "all => all.map((one) => one.getAttribute('d'))")
    assert len(set(patterns[: len(LABELS)])) == len(LABELS)  # known without colour
    assert page.locator(".gutter text", has_text="100").count() == len(LABELS)  # the scale
    box = track.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60)
    assert page.inner_text(".readout").startswith("0:06.0 to 0:07.0: no speech")
    page.mouse.click(box["x"] + box["width"] - 1, box["y"] + 60)  # on the waveform: seeks
    assert window.position() == pytest.approx(13.5, abs=0.1)
    page.mouse.click(box["x"] + 0.1 * box["width"], box["y"] + 10)  # on a segment: plays it, to its end
    end = json.loads(window.saved("JSON"))["segments"][0]["end"]
    window.button("Pause").wait_for()
    window.button("Play").wait_for(timeout=20_000)
    assert window.position() == pytest.approx(end, abs=0.1)
    for _ in range(2):
        window.button("Zoom in").click()
    assert window.button("Zoom in").is_disabled()  # five seconds in view
    assert track.bounding_box()["width"] == pytest.approx(box["width"] * 13.5 / 5, abs=2)
    window.button("All").click()
    assert track.bounding_box()["width"] == box["width"]


def test_by_keyboard_alone(window: Window) -> None:
    page = window.page
    for name in ("file", "record"):
        window.press("Tab")
        assert window.focused() == name
    window.answer(LONG)
    assert window.focused() == "result"  # a screen reader goes on with the answer
    for name in ("play", "zoom-in"):
        window.press("Tab")
        assert window.focused() == name
    window.press("Tab")
    slider = page.get_by_role("slider", name="Position in the recording")
    assert slider.evaluate("(track) => track === document.activeElement")
    for key, second in (("ArrowRight", 1), ("PageUp", 6), ("ArrowLeft", 5), ("End", 13.5), ("Home", 0)):
        window.press(key)
        assert window.position() == second
    window.press("PageUp", "ArrowRight", "ArrowRight", "+")
    assert slider.get_attribute("aria-valuetext") == "7.0 of 13.5 seconds: no answer"
    assert window.button("Zoom out").is_enabled()
    window.press("Space")
    window.button("Pause").wait_for()
    window.until("Number(document.querySelector('.track').getAttribute('aria-valuenow')) > 7.2")
    window.press("Space")
    window.button("Play").wait_for()
    window.press("Home", "Enter")
    window.button("Pause").wait_for()
    page.evaluate("() => { const play = document.getElementById('play'); play.click(); play.click(); play.click(); }")
    assert window.button("Play").is_enabled()  # a pause came before it played
    assert window.wrong == []


@pytest.mark.parametrize("socket", [True, False])
def test_the_microphone(window: Window, socket: bool) -> None:
    """As it is, and without what some browsers and proxies lack: worklets and WebSockets, so that a file is sent."""
    page, least = window.page, 4 if socket else 2
    if not socket:
        page.add_init_script("delete BaseAudioContext.prototype.audioWorklet")
        page.route_web_socket("**/stream", lambda connection: connection.close())
    window.open().button("Record").click()
    page.get_by_text("Listening.").wait_for()
    if socket:  # the bars move while one speaks
        window.until("[...document.querySelectorAll('#live progress')].some((bar) => bar.value > 0.2)")
    window.until(f"/^0:0[{least}-9]/.test(document.getElementById('mic-hint').textContent)")
    window.button("Stop").click()
    window.headline()
    streamed = json.loads(window.saved("JSON"))
    assert (len(window.uploads()), page.locator("#live").is_visible()) == (not socket, False)
    assert streamed["duration"] > least - 0.1
    page.get_by_label("Channel").select_option("left")  # sent again, as a file
    window.until("document.getElementById('working').hidden && !document.getElementById('result').hidden")
    wav = window.uploads()[-1]
    assert json.loads(window.saved("JSON")) == {**streamed, "channel": "left"}
    samples = np.frombuffer(wav[44:], "<i2") / 32768
    assert len(samples) / int.from_bytes(wav[24:28], "little") == pytest.approx(streamed["duration"], abs=0.01)
    assert samples.std() == pytest.approx(speech_like(10.0, seed=8).std(), rel=0.5)
    assert socket is False or [said for said in window.wrong if "ScriptProcessorNode is deprecated" not in said] == []


def test_no_microphone(window: Window) -> None:
    window.page.add_init_script(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))"
    )
    window.open().button("Record").click()
    assert window.trouble().startswith("The microphone is blocked.")
    assert window.button("Record").is_enabled()


def test_what_only_the_browser_can_read_is_sent_as_wav(window: Window) -> None:
    page = window.page
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
    window.answer(base64.b64decode(webm), "tone.webm")
    large = encoded(np.stack([speech_like(4.0, rate=48_000)] * 2, axis=1), 48_000, subtype="PCM_24")
    assert len(large) > 1_000_000
    window.give(large, "large.wav")
    window.notes("large.wav")
    assert [upload[:4] for upload in window.uploads()] == [b"RIFF"] * 2
    assert len(window.uploads()[1]) == 44 + 4 * 32_000  # made small


def test_answers_without_one_emotion(window: Window) -> None:
    for body, headline, advice in (
        (SILENCE, "Silence", "The recording is silent. Check that the microphone is on"),
        (encoded(speech_like(0.2)), "No speech recognised", "Too little speech: "),
    ):
        window.give(body)
        window.until(f"document.getElementById('result-title').innerText === '{headline}'")
        assert window.page.inner_text("#advice").startswith(advice)
        assert window.page.locator(".area").count() == 0
    verdict = "async (one) => (await import('./result.js')).verdict(one)"
    one = {"label": "angry", "probabilities": {"angry": 0.4, "happy": 0.3, "sad": 0.2}, "mixed": False}
    mixed = {**one, "mixed": True, "summary": {"angry": {"share": 0.5}, "sad": {"share": 0.5}}}
    assert window.page.evaluate(verdict, mixed) == "mixed: angry 50\xa0%, sad 50\xa0% of the time"
    assert window.page.evaluate(verdict, one) == "uncertain: angry 40\xa0%, happy 30\xa0%"
    assert window.page.evaluate(verdict, {**one, "probabilities": {"angry": 0.7}}) == "angry (70\xa0%)"


def test_a_change_of_channel_asks_again(window: Window, tmp_path: Path) -> None:
    page = window.page
    window.answer(CALL, "call.flac")
    page.get_by_label("Channel").select_option("each")
    window.until("document.querySelectorAll('.track').length === 2")
    assert re.fullmatch(r"Left: .+ · Right: .+", page.inner_text("#result-title"))
    assert re.search(r" long, speech: left 0:\d\d\.\d, right 0:\d\d\.\d", page.inner_text("#result-notes"))
    assert not page.locator("#calibrate").is_visible()
    assert list(tables(window, tmp_path)) == ["segments_left", "segments_right"]


def test_several_files(window: Window) -> None:
    page = window.page
    bodies = {"long.wav": LONG, "broken.wav": b"nonsense", "silent.wav": SILENCE, "call.flac": CALL}
    page.set_input_files("#file", [file(body, name) for name, body in bodies.items()])
    window.done()
    rows = page.locator("#recordings tbody tr")
    names = "(rows) => rows.map((row) => row.cells[0].textContent)"
    assert rows.evaluate_all(names) == list(bodies)
    assert "cannot be read as audio" in rows.nth(1).inner_text()
    page.get_by_role("button", name="Length").click()
    assert rows.evaluate_all(names) == ["broken.wav", "silent.wav", "call.flac", "long.wav"]
    page.get_by_role("button", name="Length").click()
    assert page.locator("th[aria-sort=descending]").inner_text() == "Length ▼"
    assert rows.first.inner_text().startswith("long.wav")
    table = list(csv.DictReader(window.saved("Download as CSV").decode().splitlines()))
    assert [bool(row["error"]) for row in table] == [False, True, False, False]
    assert [row["end"] for row in table] == ["13.5", "", "2", "4"]
    page.get_by_role("button", name="call.flac").click()
    window.notes("call.flac")


def test_calibration_shows_before_and_after(window: Window) -> None:
    page = window.page
    window.answer(LONG)
    page.get_by_text("Calibrate to this speaker").click()
    page.set_input_files("#enrol", [file(encoded(speech_like(2.0, seed=seed)), f"{seed}.wav") for seed in (6, 7)])
    page.locator(".compare").wait_for()
    assert "calibrated with 2 utterances" in " ".join(page.inner_text("#result-notes").split())
    before, after = (page.locator(f".compare td:nth-child({column})").all_inner_texts() for column in (2, 3))
    assert before != after
    window.button("Record speech").click()
    window.until("/0:0[1-9]/.test(document.getElementById('calibrated').textContent)")
    window.button("Stop").click()
    page.get_by_text("Calibrated with 3 clips").wait_for()
    window.done()
    window.button("Forget this speaker").click()
    window.notes("calibrated", there=False)
    assert page.locator(".compare").count() == 0
    page.set_input_files("#enrol", file(SILENCE))
    assert window.trouble().startswith("Enrolment clip 1: ")
    assert page.locator("#result").is_visible()  # as it was


def tables(window: Window, folder: Path) -> dict[str, Any]:
    """What the button audformat saves, read by audformat."""
    audformat = pytest.importorskip("audformat")
    with zipfile.ZipFile(io.BytesIO(window.saved("audformat"))) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about audformat
        database = audformat.Database.load(folder, load_data=True)
        return {name: database[name].get().astype(object) for name in database.tables}


def test_a_corrected_label(window: Window, tmp_path: Path) -> None:
    page = window.page
    window.answer(LONG)
    page.get_by_text("Segments: listen").click()
    choice = page.get_by_label("Emotion from 0:00.0", exact=False)
    said = choice.input_value()
    other = next(label for label in LABELS if label != said)
    choice.select_option(other)
    assert f"was {said}" in page.locator("#segments tbody tr").first.inner_text()
    row, *_ = csv.DictReader(window.saved("CSV").decode().splitlines())
    assert (row["label"], row["corrected"]) == (said, other)
    (task,) = json.loads(window.saved("Label Studio"))
    results = [task[kind][0]["result"][0]["value"]["labels"] for kind in ("predictions", "annotations")]
    assert results == [[said], [other]]
    found = tables(window, tmp_path)["segments"]
    segments = json.loads(window.saved("JSON"))["segments"]
    assert [(file, start.total_seconds(), end.total_seconds()) for file, start, end in found.index] == [
        ("clip.wav", one["start"], one["end"]) for one in segments
    ]
    assert found.predicted.fillna("").tolist() == [one["label"] or "" for one in segments]
    assert found.emotion.tolist()[0] == other
    assert found.emotion.fillna("").tolist()[1:] == found.predicted.fillna("").tolist()[1:]
    for label in LABELS:
        values = [one["probabilities"].get(label, np.nan) for one in segments]
        np.testing.assert_array_equal(found[f"p_{label}"].astype(float), values)
    choice.select_option(said)
    assert json.loads(window.saved("Label Studio"))[0]["annotations"] == []


def test_errors(window: Window) -> None:
    window.give(b"nonsense", "x.wav")
    assert window.trouble().startswith("x.wav: cannot be read as audio (it is text: 'nonsense')")
    for body, what, mend in (
        (bytes(1_000_001), "this file is larger than the server accepts", "Send at most 15 minutes or 1 MB at a time."),
        (b"", "the file is empty", "Choose another recording."),
    ):
        window.give(body, "odd.wav")
        window.until(f"document.getElementById('trouble-what').textContent === 'odd.wav: {what}.'")
        assert window.trouble() == f"odd.wav: {what}. {mend}"
    assert len(window.uploads()) == 1  # the others were not even sent
    assert not window.button("Try again").is_visible()
    said = {"what": "the server is busy", "mend": "Try again in 3 s."}
    window.page.route("**/predict*", lambda route: route.fulfill(status=429, json=said))
    window.give(LONG, "clip.wav")
    window.page.get_by_text("the server is busy").wait_for()
    assert window.trouble().startswith("clip.wav: the server is busy. Try again in")
    window.page.unroute("**/predict*")
    window.page.route("**/predict*", lambda route: route.abort())
    window.button("Try again").click()
    window.page.get_by_text("the server does not answer").wait_for()
    window.page.unroute("**/predict*")
    window.button("Try again").click()
    assert window.headline()
    assert not window.page.locator("#trouble").is_visible()


def test_progress_and_cancel(window: Window) -> None:
    page = window.page
    page.evaluate(
        """() => { window.seen = []; const share = document.getElementById("share");
        new MutationObserver(() => seen.push(share.textContent)).observe(share, { childList: true }); }"""
    )
    window.answer(LONG)
    seen = [int(text[:-2]) for text in page.evaluate("seen") if text]
    recognising = seen[seen.index(0) :]
    assert recognising == sorted(recognising)
    assert (recognising[0], recognising[-1]) == (0, 100)
    page.route("**/predict*", lambda route: None)  # no answer comes
    window.give(LONG)
    window.button("Cancel").click()
    page.locator("#working").wait_for(state="hidden")
    assert not page.locator("#trouble").is_visible()
    assert not page.locator("#result").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_and_a_screen_reader(browser: Any, address: str, scheme: str) -> None:
    if AXE is None:
        pytest.skip("needs axe-core: npm install axe-core, or AXE_CORE=path/to/axe.min.js")
    window = Window(browser, address, viewport={"width": 390, "height": 800}, has_touch=True, color_scheme=scheme)
    page = window.open().page

    def check() -> None:
        page.evaluate(f"{AXE.read_text()};0")
        found = page.evaluate("async () => (await axe.run(document)).violations")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390

    check()
    page.set_input_files("#file", [file(LONG, "a" * 120 + ".wav"), file(b"nonsense", "x.wav"), file(SILENCE)])
    window.done()
    page.locator("#recordings tbody button").first.click()
    window.headline()
    for details in ("Segments: listen", "Calibrate to this speaker"):
        page.get_by_text(details).click()
    check()
    page.set_input_files("#enrol", file(encoded(speech_like(2.0, seed=6))))
    window.done()
    window.give(LONG)
    page.locator(".compare").wait_for()
    check()
    window.button("Model card").click()
    page.get_by_role("dialog").wait_for()
    check()
    window.context.close()
