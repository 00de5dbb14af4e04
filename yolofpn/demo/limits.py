"""All limits of the demo server; docs/demo.md explains them."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 2**20


@dataclass(frozen=True)
class UploadLimits:
    """The largest upload that is taken.

    Attributes:
        image_bytes: of an image's file.
        video_bytes: of a video's file.
        image_pixels: of an image.
        video_pixels: of one frame, and of the canvas of all frames of an animation.
        video_seconds: of a video.
        video_frames: of a video or animation.
        result_bytes: of an annotated video.
        seconds: that sending a file may take.
    """

    image_bytes: int = 32 * MIB
    video_bytes: int = 256 * MIB
    image_pixels: int = 40_000_000
    video_pixels: int = 4096 * 2304
    video_seconds: float = 120.0
    video_frames: int = 7200
    result_bytes: int = 512 * MIB
    seconds: float = 600.0


@dataclass(frozen=True)
class SettingLimits:
    """Limits on the settings of a user.

    Attributes:
        score_thresh: lowest; below it the time and memory of NMS grow without bound.
        img_size: largest side of the network's input in pixels; its memory and time grow with the square.
        classes: that can be asked for.
        class_name: characters of each.
        text: characters of all settings together, before they are read.
        shown_side: longer side of an annotated image that goes back to the browser, in pixels; larger ones are shrunk.
    """

    img_size: int = 1280
    score_thresh: float = 0.01
    classes: int = 2000
    class_name: int = 200
    text: int = 65_536
    shown_side: int = 1600


@dataclass(frozen=True)
class WorkLimits:
    """Limits on concurrent work, per user and in total.

    Attributes:
        threads: that decode, draw and encode, whoever asks.
        decoded_pixels: of uploads and webcam frames that are in memory at once; the others wait.
        uploads: that are being sent or answered.
        uploads_per_client: of one browser.
        uploads_per_address: of all browsers of one address.
        viewers: connections with moving images.
        viewers_per_client: of one browser.
        viewers_per_address: of all browsers of one address.
        videos: that are decoded and encoded at once; the others wait.
        kept_videos: on the server's disk.
        message_bytes: of one message of a page with a moving image.
        webcam_pixels: of a webcam frame.
        cameras: of the server, that its sources name.
        camera_seconds: that one of them may be silent.
        forgotten_seconds: without a question about a video, after which it is removed: its page was closed.
        sweep_seconds: between two looks for those.
        loaded_weights: that stay in memory.
        predictors: of these weights, for different image sizes.
        file_threads: that read the files of answers.
    """

    threads: int = 4
    decoded_pixels: int = 40_000_000
    uploads: int = 32
    uploads_per_client: int = 4
    uploads_per_address: int = 16
    viewers: int = 64
    viewers_per_client: int = 4
    viewers_per_address: int = 32
    videos: int = 4
    kept_videos: int = 32
    message_bytes: int = 4 * MIB
    webcam_pixels: int = 4_000_000
    cameras: int = 32
    camera_seconds: float = 20.0
    forgotten_seconds: float = 300.0
    sweep_seconds: float = 30.0
    loaded_weights: int = 3
    predictors: int = 8
    file_threads: int = 4


@dataclass(frozen=True)
class ConnectionLimits:
    """Connections and what may come over them before anybody has logged in.

    Attributes:
        connections: open at once, in all.
        per_address: of them, of one address (IPv6: one /64 network), and requests that are answered at once for it.
        head_bytes: of a request's first line and headers.
        head_seconds: that a TLS handshake, and then the head of a request, may take.
        idle_seconds: between two requests.
        stall_seconds: that a client may take nothing of an answer.
        viewer_idle_seconds: that a page with a moving image may ask for nothing.
        form_bytes: of a log-in form.
        form_seconds: that sending it may take.
        cookie_chars: of a Cookie header that are looked at; those of other ports of a computer come along.
        ping_seconds: between two looks whether a page with a moving image is still there.
        pong_seconds: that it may take to answer; busy computers are late, and once a page has sent settings while it
            waits for its image its answer is not even read before that image is done.
        goodbye_seconds: that open connections may take when the server ends.
        log_seconds: between two lines about the same fault of clients.
    """

    connections: int = 256
    per_address: int = 64
    head_bytes: int = 32 * 1024
    head_seconds: float = 10.0
    idle_seconds: int = 5
    stall_seconds: float = 60.0
    viewer_idle_seconds: float = 900.0
    form_bytes: int = 4096
    form_seconds: float = 10.0
    cookie_chars: int = 8192
    ping_seconds: float = 20.0
    pong_seconds: float = 120.0
    goodbye_seconds: int = 3
    log_seconds: float = 60.0


@dataclass(frozen=True)
class SessionLimits:
    """Lifetime of logins, and rate limit of password attempts.

    Attributes:
        sessions: at once; beyond them the one that was used longest ago ends.
        per_address: of them, that began at one address.
        idle_seconds: without a request, after which a session ends.
        seconds: after which it ends in any case.
        wrong_password_seconds: that an address waits after a wrong password before it may try again.
        password_chars: of the shortest password.
    """

    sessions: int = 10_000
    per_address: int = 1000
    idle_seconds: float = 12 * 3600.0
    seconds: float = 7 * 24 * 3600.0
    wrong_password_seconds: float = 1.0
    password_chars: int = 8


@dataclass(frozen=True)
class ServerLimits:
    """All limits of a server."""

    upload: UploadLimits = field(default_factory=UploadLimits)
    settings: SettingLimits = field(default_factory=SettingLimits)
    work: WorkLimits = field(default_factory=WorkLimits)
    connection: ConnectionLimits = field(default_factory=ConnectionLimits)
    session: SessionLimits = field(default_factory=SessionLimits)
