"""The page as a user sees it: in Chromium, with a webcam that shows a real clip, by clicking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import cv2
import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from tests.demo.browser import find_browser, open_browser, write_webcam
from tests.demo.serving import demo_server
from tests.inference.live_fakes import until
from tests.videos import write_video
from yolofpn.structures import Image
from yolofpn.video.reader import read_video

pytestmark = pytest.mark.slow

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
PATIENCE = 120_000  # milliseconds


@pytest.fixture(scope="module")
def clip(data_dir: Path) -> list[Image]:
    """A person who walks by, at a quarter of the frame rate."""
    path = data_dir / "videos" / "one-by-one-person-detection.mp4"
    return [cv2.resize(frame.image, (480, 270)) for frame in islice(read_video(path, "clip", 4), 20, 32)]


@pytest.fixture(scope="module")
def browser(clip: list[Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    find_browser()
    expect.set_options(timeout=PATIENCE)
    with open_browser(write_webcam(tmp_path_factory.mktemp("webcam") / "webcam.mjpeg", clip)) as browser:
        yield browser


@pytest.fixture(scope="module")
def port(data_dir: Path, tiny: Path, clip: list[Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    street = write_video(tmp_path_factory.mktemp("cameras") / "street.mp4", clip)
    weights = data_dir / "darknet" / "yolo-fastest-1.1.weights"
    with demo_server([weights, tiny], sources=[str(street)]) as port:
        yield port


@pytest.fixture
def addresses() -> set[str]:
    """Everything that the page loads."""
    return set()


@pytest.fixture
def viewport() -> ViewportSize:
    """Unless a test asks for another."""
    return DESKTOP


@pytest.fixture
def page(viewport: ViewportSize, browser: Browser, port: int, addresses: set[str]) -> Iterator[Page]:
    phone = viewport is PHONE
    context = browser.new_context(viewport=viewport, is_mobile=phone, has_touch=phone)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    context.on("request", lambda made: addresses.add(made.url))
    page.on("websocket", lambda socket: addresses.add(socket.url))
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("body[data-ready]")
    yield page
    context.close()
    assert errors == []
    local = (f"http://127.0.0.1:{port}/", f"ws://127.0.0.1:{port}/", "data:image/jpeg", "blob:http://127.0.0.1")
    assert [address for address in addresses if not address.startswith(local)] == []


def open_settings(page: Page) -> None:
    if page.locator("#settings").get_attribute("open") is None:
        page.click("#settings > summary")


def assert_fits(page: Page) -> None:
    """Nothing sticks out to the side, and nothing that is clicked is too small for a finger."""
    assert page.viewport_size is not None
    shown = page.evaluate(
        """() => Array.from(
          document.querySelectorAll("header, main, section, aside, button, select, input:not(#file), canvas, img, "
            + "video, a.button, summary"),
          (element) => {
            const { left, right, width, height } = element.getBoundingClientRect();
            const visible = width && height && element.checkVisibility({ visibilityProperty: true });
            const clicked = element.matches("button, select, a.button, summary");
            return visible && [element.outerHTML.slice(0, 99), left, right, clicked ? height : null];
          },
        ).filter((each) => each)"""
    )
    assert any(height is not None for *_, height in shown)
    for element, left, right, height in shown:
        assert left >= 0 and right <= page.viewport_size["width"] + 0.5, element
        assert height is None or height >= 40, element


def choose_zebras(page: Page) -> None:
    page.click("#classes > summary")
    page.fill("#classes-search", "zeb")
    page.click("#classes-list label:visible")
    expect(page.locator("#classes-count")).to_have_text("1 of 80")


def test_a_webcam_is_shown_with_boxes(page: Page) -> None:
    page.click("#webcam-start")
    expect(page.locator("#rows")).to_contain_text("person")
    expect(page.locator("#speed")).to_contain_text("frames/s")
    assert page.locator("#canvas").get_attribute("width") == "480"
    record = json.loads(page.locator("#json").text_content() or "")
    assert record["source"] == "webcam" and record["detections"][0]["box"]
    assert_fits(page)
    open_settings(page)
    choose_zebras(page)
    expect(page.locator("#rows tr")).to_have_count(0)
    page.click("#reset")
    expect(page.locator("#rows")).to_contain_text("person")
    page.click("#webcam-stop")
    expect(page.locator("#webcam-start")).to_be_visible()


def test_an_image_is_shown_with_boxes_again_after_each_change(page: Page, data_dir: Path) -> None:
    page.click("#tab-upload")
    page.set_input_files("#file", data_dir / "pictures" / "dog.jpg")
    expect(page.locator("#rows")).to_contain_text("dog")
    expect(page.locator("#rows")).to_contain_text("bicycle")
    assert_fits(page)
    open_settings(page)
    page.locator("#score").fill("0.99")
    expect(page.locator("#rows tr")).to_have_count(0)
    page.click("#reset")
    page.select_option("#size", "416")
    expect(page.locator("#rows")).to_contain_text("dog")
    with page.expect_download() as download:
        page.click("#download-image")
    assert download.value.suggested_filename == "dog-annotated.jpg"
    page.select_option("#weights", label="tiny.weights")
    expect(page.locator("#classes-list label")).to_have_text(["red", "potted plant"])


@pytest.mark.parametrize("viewport", [PHONE], ids=["phone"])
def test_webcam_and_image_fit_a_phone(page: Page, data_dir: Path) -> None:
    page.click("#webcam-start")
    expect(page.locator("#rows")).to_contain_text("person")
    assert_fits(page)
    open_settings(page)
    choose_zebras(page)
    page.click("#reset")
    page.click("#webcam-stop")
    expect(page.locator("#webcam-start")).to_be_visible()
    page.click("#tab-upload")
    page.set_input_files("#file", data_dir / "pictures" / "dog.jpg")
    expect(page.locator("#rows")).to_contain_text("dog")
    assert_fits(page)
    with page.expect_download():
        page.click("#download-image")


def test_settings_changed_while_an_image_is_on_its_way_count(page: Page, data_dir: Path) -> None:
    held: list[Route] = []
    page.route("**/api/upload?*", lambda route: route.continue_() if held else held.append(route))
    page.click("#tab-upload")
    with page.expect_request("**/api/upload?*"):
        page.set_input_files("#file", data_dir / "pictures" / "dog.jpg")
    page.locator("#score").fill("0.99")
    page.wait_for_timeout(600)  # the page waits for the user's last change
    held[0].continue_()
    expect(page.locator("#image")).to_be_visible()
    expect(page.locator("#found-count")).to_have_text("(0)")


def test_a_webcam_that_opens_too_late_is_let_go(page: Page) -> None:
    page.evaluate(
        """() => {
          const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
          media.getUserMedia = async (wanted) => {
            const stream = await open(wanted);
            await new Promise((resolve) => setTimeout(resolve, 500));
            window.webcam = stream.getVideoTracks()[0];
            return stream;
          };
        }"""
    )
    page.click("#webcam-start")
    page.click("#webcam-stop")
    expect(page.locator("#webcam-start")).to_be_visible()
    until(lambda: page.evaluate("() => window.webcam?.readyState") == "ended", PATIENCE / 1000)
    expect(page.locator("#canvas")).to_be_hidden()


def test_a_video_shows_its_progress_and_can_be_downloaded(page: Page, clip: list[Image], tmp_path: Path) -> None:
    page.clock.install()
    page.click("#tab-upload")
    page.set_input_files("#file", write_video(tmp_path / "walk.mp4", clip))
    expect(page.locator("#progress-text")).to_contain_text(f"of {len(clip)} frames")
    expect(page.locator("#video")).to_be_visible()
    assert_fits(page)
    expect(page.locator("#rows")).to_contain_text("person")
    with page.expect_download() as download:
        page.click("#download-video")
    assert download.value.suggested_filename == "walk-annotated.mp4"
    with av.open(str(download.value.path())) as container:
        assert len(list(container.decode(video=0))) == len(clip)
    with page.expect_download() as download:
        page.click("#download-lines")
    assert len(download.value.path().read_text().splitlines()) == len(clip)
    with page.expect_request("**/api/videos/*"):  # as long as it is seen the server keeps it
        page.clock.fast_forward("01:01")


def test_a_bad_file_gets_a_clear_line_and_the_next_one_works(page: Page, data_dir: Path, tmp_path: Path) -> None:
    bad = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    bad.write_bytes(b"no image")
    page.click("#tab-upload")
    page.set_input_files("#file", bad)
    expect(page.locator("#message")).to_have_text(
        f"{bad.name}: not an image or video of a known kind; send e.g. JPEG, PNG or MP4"
    )
    assert page.locator("#message img").count() == 0
    assert_fits(page)
    page.set_input_files("#file", data_dir / "pictures" / "dog.jpg")
    expect(page.locator("#rows")).to_contain_text("dog")
    expect(page.locator("#message")).to_be_hidden()


def test_a_camera_of_the_server_is_shown_with_boxes(page: Page) -> None:
    page.click("#tab-cameras")
    expect(page.locator("#camera")).to_have_text("street.mp4")
    page.click("#camera-start")
    expect(page.locator("#rows")).to_contain_text("person")
    page.click("#camera-stop")
    expect(page.locator("#camera-start")).to_be_visible()


def test_a_server_that_ends_is_told(browser: Browser, tiny: Path) -> None:
    with demo_server([tiny]) as port:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("body[data-ready]")
        page.click("#webcam-start")
        expect(page.locator("#canvas")).to_be_visible()
    expect(page.locator("#message")).to_contain_text("is it still running?")
    expect(page.locator("#webcam-start")).to_be_visible()
    page.close()


def test_a_password_is_asked_for(browser: Browser, tiny: Path) -> None:
    with demo_server([tiny], password="correct horse") as port:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}/")
        page.fill("input[name=password]", "wrong")
        page.click("button")
        expect(page.locator("#wrong")).to_be_visible()
        page.fill("input[name=password]", "correct horse")
        page.click("button")
        expect(page.locator("#webcam-start")).to_be_visible()
        page.click("#webcam-start")
        expect(page.locator("#canvas")).to_be_visible()
        page.close()
