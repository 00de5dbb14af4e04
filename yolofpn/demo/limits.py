"""All that bounds what browsers may ask of the server, in one place; docs/demo.md explains the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 2**20


@dataclass(frozen=True)
class UploadLimits:
    """The largest upload that is taken.

    Attributes:
        picture_bytes: of an image's file.
        video_bytes: of a video's file.
        picture_pixels: of an image.
        video_pixels: of one frame, and of the canvas of all frames of an animation.
        video_seconds: of a video.
        video_frames: of a video or animation.
        result_bytes: of an annotated video.
        seconds: that sending a file may take.
    """

    picture_bytes: int = 32 * MIB
    video_bytes: int = 256 * MIB
    picture_pixels: int = 40_000_000
    video_pixels: int = 4096 * 2304
    video_seconds: float = 120.0
    video_frames: int = 7200
    result_bytes: int = 512 * MIB
    seconds: float = 600.0


@dataclass(frozen=True)
class SettingLimits:
    """What a user may choose.

    Attributes:
        score_thresh: lowest; below it the time and memory of NMS grow without bound.
        img_size: largest side of the network's input in pixels; its memory and time grow with the square.
        classes: that can be asked for.
        class_name: characters of each.
        text: characters of all settings together, before they are read.
    """

    img_size: int = 1280
    score_thresh: float = 0.01
    classes: int = 2000
    class_name: int = 200
    text: int = 65_536


@dataclass(frozen=True)
class WorkLimits:
    """What is done at the same time, for one user and in all.

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


@dataclass(frozen=True)
class SessionLimits:
    """How long a browser stays logged in, and how fast passwords can be guessed.

    Attributes:
        sessions: at once; beyond them the one that was used longest ago ends.
        per_address: of them, that began at one address.
        idle_seconds: without a request, after which a session ends.
        seconds: after which it ends in any case.
        wrong_password_seconds: that an address waits after a wrong password before it may try again.
    """

    sessions: int = 10_000
    per_address: int = 1000
    idle_seconds: float = 12 * 3600.0
    seconds: float = 7 * 24 * 3600.0
    wrong_password_seconds: float = 1.0


@dataclass(frozen=True)
class Limits:
    """All limits of a server."""

    upload: UploadLimits = field(default_factory=UploadLimits)
    settings: SettingLimits = field(default_factory=SettingLimits)
    work: WorkLimits = field(default_factory=WorkLimits)
    connection: ConnectionLimits = field(default_factory=ConnectionLimits)
    session: SessionLimits = field(default_factory=SessionLimits)
