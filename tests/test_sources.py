"""The sources: declared list, mirrors, cache, receipts. Offline: a local server and fake package clients."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from ontogeny.errors import ConfigError, DamagedFile, OntogenyError
from ontogeny.mnist import load_mnist, read_idx
from ontogeny.sources import (
    Receipt,
    SourceError,
    SourceFiles,
    Sources,
    SourceSpec,
    acquire,
    cache_root,
    decode,
    load_registry,
    mirrors,
)

WORKFLOW = Path(mirrors.__file__).parents[2]
CONTENT = {"alpha.idx": b"alpha " * 5000, "beta.idx": b"beta " * 300}
REVISION = "0123456789abcdef0123456789abcdef01234567"
CLOSED = "http://127.0.0.1:9/nothing"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------------------------------------- local mirrors


class Server:
    """An http server: ``pages`` maps paths to bodies; a body may be a function of the request handler."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Callable[[Any], object]] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                page = outer.pages.get(self.path)
                if callable(page):
                    page(self)
                elif page is None:
                    self.send_error(404)
                else:
                    send(self, page, len(page))

            def log_message(self, *_: object) -> None: ...

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


def send(handler: Any, body: bytes, announced: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(announced))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.httpd.shutdown()
    server.httpd.server_close()


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def parts(decode: str = "raw", suffix: str = "") -> dict[str, Any]:
    return {name: {"path": name + suffix, "decode": decode} for name in CONTENT}


def url_mirror(base: str, decode: str = "raw", suffix: str = "") -> dict[str, Any]:
    return {"kind": "url", "base": base, "files": parts(decode, suffix)}


def package_mirror(kind: str) -> dict[str, Any]:
    files = {name: {"path": f"data/{name}", "decode": "raw"} for name in CONTENT}
    return {"kind": kind, "package": "toy-data", "version": "1.0.0", "files": files}


def make_spec(*used: dict[str, Any], kind: str = "dataset", **changes: Any) -> SourceSpec:
    files = {name: sha256(content) for name, content in CONTENT.items()}
    origin = "http://example.org/toy/"
    fields = {"name": "toy", "kind": kind, "title": "Toy", "origin": origin, "licence": "CC0", "version": "1"}
    return SourceSpec.model_validate({**fields, "files": files, "mirrors": used, **changes})


def serve_good(server: Server, base: str = "/good") -> dict[str, Any]:
    server.pages.update({f"{base}/{name}": content for name, content in CONTENT.items()})
    return url_mirror(server.url + base)


def acquired(spec: SourceSpec, cache: Path) -> list[str]:
    """Acquire, check that the content is right and nothing else is left, and return what was reported."""
    said: list[str] = []
    receipt = acquire(spec, cache, said.append)
    files = SourceFiles(receipt, cache)
    assert {name: files.path(name).read_bytes() for name in files.names} == CONTENT
    assert left_behind(cache) == []
    return said


def left_behind(cache: Path) -> list[str]:
    expected = {".toy-1.lock", "toy-1", *CONTENT}
    return [path.name for path in cache.rglob("*") if path.name not in expected]


# ------------------------------------------------------------------------------------------ mirrors and order


def test_first_mirror_that_delivers_is_used(server: Server, tmp_path: Path) -> None:
    spec = make_spec(url_mirror(CLOSED), serve_good(server), url_mirror(server.url + "/never"))
    said = acquired(spec, tmp_path)
    assert any("Connection refused" in line for line in said)
    assert server.requests == [f"/good/{name}" for name in CONTENT]


def test_offline_second_use_writes_nothing(server: Server, tmp_path: Path) -> None:
    acquired(make_spec(serve_good(server)), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    said = acquired(make_spec(url_mirror(CLOSED)), tmp_path)
    assert "in the cache" in said[0]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_silent_mirror_is_skipped_quickly(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mirrors.ANSWER_SECONDS <= 3
    monkeypatch.setattr(mirrors, "ANSWER_SECONDS", 0.2)
    server.pages[f"/silent/{next(iter(CONTENT))}"] = lambda handler: time.sleep(5)
    start = time.monotonic()
    said = acquired(make_spec(url_mirror(server.url + "/silent"), serve_good(server)), tmp_path)
    assert time.monotonic() - start < 2
    assert any("no answer within 0.2 s" in line for line in said)


def test_slow_name_resolution_is_skipped_quickly(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "ANSWER_SECONDS", 0.2)
    resolve = mirrors.http.client.socket.getaddrinfo  # type: ignore[attr-defined]

    def slow(host: str, *rest: Any, **more: Any) -> Any:
        if host == "slow.invalid":
            time.sleep(3)
        return resolve(host, *rest, **more)

    monkeypatch.setattr("socket.getaddrinfo", slow)
    start = time.monotonic()
    acquired(make_spec(url_mirror("http://slow.invalid/x"), serve_good(server)), tmp_path)
    assert time.monotonic() - start < 2


def stand_still(handler: Any) -> None:
    send(handler, b"alpha", 30000)
    time.sleep(3)


def trickle(handler: Any) -> None:
    send(handler, b"", 30000)
    for _ in range(100):
        handler.wfile.write(b"a")
        time.sleep(0.02)


@pytest.mark.parametrize(("page", "reason"), [(stand_still, "stood still"), (trickle, "too slow")])
def test_stalled_transfer_is_given_up(
    page: Any, reason: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "STALL_SECONDS", 0.3)
    server.pages["/bad/alpha.idx"] = page
    said = acquired(make_spec(url_mirror(server.url + "/bad"), serve_good(server)), tmp_path)
    assert any(reason in line for line in said)


def test_wrong_content_is_refused_and_the_next_mirror_tried(server: Server, tmp_path: Path) -> None:
    server.pages["/bad/alpha.idx"] = b"something else"
    said = acquired(make_spec(url_mirror(server.url + "/bad"), serve_good(server)), tmp_path)
    wrong = f"wrong content for alpha.idx: sha256 {sha256(b'something else')}"
    assert any(wrong in line and sha256(CONTENT["alpha.idx"]) in line for line in said)


def test_mirror_that_breaks_off_is_skipped(server: Server, tmp_path: Path) -> None:
    server.pages["/bad/alpha.idx"] = lambda handler: send(handler, b"alp", 30000)
    said = acquired(make_spec(url_mirror(server.url + "/bad"), serve_good(server)), tmp_path)
    assert any("broke off (3 of 30000 bytes)" in line for line in said)


def test_what_one_mirror_lacks_comes_from_the_next(server: Server, tmp_path: Path) -> None:
    server.pages["/half/alpha.idx"] = CONTENT["alpha.idx"]
    acquired(make_spec(url_mirror(server.url + "/half"), serve_good(server)), tmp_path)
    assert server.requests == ["/half/alpha.idx", "/half/beta.idx", "/good/beta.idx"]


def test_gzip_is_decoded_and_a_truncated_one_refused(server: Server, tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        server.pages[f"/cut/{name}.gz"] = gzip.compress(content)[:-9]
        server.pages[f"/whole/{name}.gz"] = gzip.compress(content)
    used = [url_mirror(f"{server.url}/{base}", "gzip", ".gz") for base in ("cut", "whole")]
    said = acquired(make_spec(*used), tmp_path)
    assert any("alpha.idx.gz cannot be decoded (EOFError" in line for line in said)


@pytest.mark.parametrize(("kind", "prefix"), [("dataset", "/datasets"), ("model", "")])
def test_hub(kind: str, prefix: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    serve_good(server, f"{prefix}/some/toy/resolve/{REVISION}")
    hub = {"kind": "hub", "repo": "some/toy", "revision": REVISION, "files": parts()}
    acquired(make_spec(hub, kind=kind), tmp_path)


def parquet(images: np.ndarray, labels: np.ndarray) -> bytes:
    def png(image: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        return stream.getvalue()

    cells = [{"bytes": png(image), "path": None} for image in images]
    stream = io.BytesIO()
    pd.DataFrame({"image": cells, "label": labels}).to_parquet(stream)
    return stream.getvalue()


def test_parquet_of_images_becomes_idx(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (7, 5, 4), dtype=np.uint8), rng.integers(0, 10, 7)
    payloads = {
        "images": decode.idx_header((7, 5, 4)) + images.tobytes(),
        "labels": decode.idx_header((7,)) + labels.astype(np.uint8).tobytes(),
    }
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.pages[f"/datasets/some/toy/resolve/{REVISION}/t.parquet"] = parquet(images, labels)
    files = {name: {"path": "t.parquet", "decode": f"idx-{name}"} for name in payloads}
    hub = {"kind": "hub", "repo": "some/toy", "revision": REVISION, "files": files}
    spec = make_spec(hub, files={name: sha256(payload) for name, payload in payloads.items()})
    there = SourceFiles(acquire(spec, tmp_path, print), tmp_path)
    assert np.array_equal(read_idx(there.path("images"), (7, 5, 4)), images)
    assert np.array_equal(read_idx(there.path("labels"), (7,)), labels)
    assert len(server.requests) == 1


# --------------------------------------------------------------------------------------------------- packages


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes | None) -> None:
    """Put an ``npm`` first on PATH that packs `archive`, or says that the registry does not answer."""
    folder.mkdir()
    (folder / "toy.tgz").write_bytes(archive or b"")
    works = f'[ "$1" = view ] || cp {folder}/toy.tgz toy-data-1.0.0.tgz'
    fails = "echo 'npm warn config' >&2; echo 'npm error code ECONNREFUSED' >&2; exit 1"
    (folder / "npm").write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{works if archive else fails}\n')
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def toy_tarball() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in CONTENT.items():
            info = tarfile.TarInfo(f"package/data/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_npm_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, toy_tarball())
    acquired(make_spec(package_mirror("npm")), tmp_path / "cache")
    calls = (tmp_path / "bin" / "calls").read_text().splitlines()
    assert calls[0].startswith("view toy-data@1.0.0 version --fetch-retries=0 --fetch-timeout=3000")
    assert calls[1].startswith("pack toy-data@1.0.0 --ignore-scripts")


@pytest.mark.parametrize(
    ("archive", "reason"),
    [(toy_tarball()[:100], "cannot be decoded (EOFError"), (None, "npm error code ECONNREFUSED")],
    ids=["truncated", "unreachable"],
)
def test_npm_that_fails_is_skipped(
    archive: bytes | None, reason: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, archive)
    said = acquired(make_spec(package_mirror("npm"), serve_good(server)), tmp_path / "cache")
    assert any(reason in line for line in said)


def test_npm_that_is_not_installed_is_skipped(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = acquired(make_spec(package_mirror("npm"), serve_good(server)), tmp_path / "cache")
    assert any("npm cannot be run (No such file or directory)" in line for line in said)


def toy_wheel(folder: Path) -> None:
    folder.mkdir()
    info = "toy_data-1.0.0.dist-info"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / "toy_data-1.0.0-py3-none-any.whl", "w") as wheel:
        for name, content in CONTENT.items():
            wheel.writestr(f"data/{name}", content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0.0\n")
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/RECORD", "")


def test_pypi_package_by_the_real_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    acquired(make_spec(package_mirror("pypi")), tmp_path / "cache")


def test_pypi_package_that_does_not_exist_is_skipped(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = acquired(make_spec(package_mirror("pypi"), serve_good(server)), tmp_path / "cache")
    assert any("No matching distribution found for toy-data==1.0.0" in line for line in said)


# ------------------------------------------------------------------------------------- failures and the cache


def test_all_failing_gives_one_message_and_manual_placement_works(server: Server, tmp_path: Path) -> None:
    spec = make_spec(url_mirror(CLOSED), url_mirror(server.url + "/absent"))
    (tmp_path / "toy-1").mkdir()
    (tmp_path / "toy-1" / "beta.idx").write_bytes(b"by hand, but wrong")
    with pytest.raises(SourceError) as caught:
        acquire(spec, tmp_path, lambda line: None)
    message = str(caught.value)
    for expected in (
        f"1. url {CLOSED}: alpha.idx: [Errno {errno.ECONNREFUSED}] Connection refused",
        f"2. url {server.url}/absent: alpha.idx: HTTP Error 404",
        f"  {tmp_path / 'toy-1'}\n",
        f"alpha.idx  sha256 {sha256(CONTENT['alpha.idx'])}  (missing)",
        f"beta.idx  sha256 {sha256(CONTENT['beta.idx'])}  (damaged: sha256 {sha256(b'by hand, but wrong')})",
        spec.origin,
    ):
        assert expected in message
    for name, content in CONTENT.items():
        (tmp_path / "toy-1" / name).write_bytes(content)
    acquired(spec, tmp_path)


def test_corrupt_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    spec = make_spec(serve_good(server))
    acquired(spec, tmp_path)
    (tmp_path / "toy-1" / "beta.idx").write_bytes(b"bit rot")
    server.requests.clear()
    acquired(spec, tmp_path)
    assert server.requests == ["/good/beta.idx"]


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"bit rot"), Path.unlink])
def test_corrupt_cache_at_use_names_file_and_way_out(
    damage: Callable[[Path], None], server: Server, tmp_path: Path
) -> None:
    receipt = acquire(make_spec(serve_good(server)), tmp_path, lambda line: None)
    path = tmp_path / "toy-1" / "beta.idx"
    damage(path)
    with pytest.raises(DamagedFile) as caught:
        SourceFiles(receipt, tmp_path).path("beta.idx")
    assert str(path) in str(caught.value)
    assert "snakemake --forcerun acquire" in str(caught.value)


def test_cache_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="ONTOGENY_CACHE"):
        acquire(make_spec(url_mirror(CLOSED)), tmp_path / "file" / "cache", lambda line: None)


def test_full_disk_stops_with_a_clear_message(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(packed: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setitem(decode.DECODERS, "raw", full)
    with pytest.raises(SourceError, match="No space left on device"):
        acquire(make_spec(serve_good(server), serve_good(server, "/second")), tmp_path, lambda line: None)
    assert len(server.requests) == 1
    assert left_behind(tmp_path) == []


ACQUIRER = """
import sys
from pathlib import Path
from ontogeny.sources import SourceSpec, acquire
acquire(SourceSpec.model_validate_json(sys.argv[1]), Path(sys.argv[2]), lambda line: print(line, flush=True))
"""


def start_acquirer(spec: SourceSpec, cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(WORKFLOW)}
    command = [sys.executable, "-c", ACQUIRER, spec.model_dump_json(), str(cache)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_once(server: Server, tmp_path: Path) -> None:
    both_started = threading.Event()

    def slow(handler: Any) -> None:
        both_started.wait(10)
        send(handler, CONTENT["alpha.idx"], len(CONTENT["alpha.idx"]))

    spec = make_spec(serve_good(server))
    server.pages["/good/alpha.idx"] = slow
    with start_acquirer(spec, tmp_path) as first:
        while not server.requests:
            time.sleep(0.01)
        with start_acquirer(spec, tmp_path) as second:
            assert second.stdout is not None
            assert "waiting for another process" in second.stdout.readline()
            both_started.set()
            assert (first.wait(10), second.wait(10)) == (0, 0)
    assert server.requests == ["/good/alpha.idx", "/good/beta.idx"]
    acquired(spec, tmp_path)


def test_without_locks_a_race_ends_well(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    meeting = threading.Barrier(2, timeout=5)

    def together(handler: Any) -> None:
        meeting.wait()
        send(handler, CONTENT["alpha.idx"], len(CONTENT["alpha.idx"]))

    spec = make_spec(serve_good(server))
    server.pages["/good/alpha.idx"] = together
    done: list[Receipt] = []
    racers = [
        threading.Thread(target=lambda: done.append(acquire(spec, tmp_path, lambda line: None))) for _ in range(2)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(10)
    assert len(done) == 2
    acquired(spec, tmp_path)


def test_killed_acquisition_leaves_nothing_after_the_next(server: Server, tmp_path: Path) -> None:
    spec = make_spec(serve_good(server))
    release = threading.Event()
    server.pages["/good/beta.idx"] = lambda handler: release.wait(10)
    with start_acquirer(spec, tmp_path) as process:
        while "/good/beta.idx" not in server.requests:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    release.set()
    assert left_behind(tmp_path) != []
    serve_good(server)
    acquired(spec, tmp_path)


# ------------------------------------------------------------------------------------- receipts and the cache


def test_receipt_is_byte_stable_and_free_of_the_machine(server: Server, tmp_path: Path) -> None:
    for number, mirror in enumerate((serve_good(server, "/one"), serve_good(server, "/two"))):
        receipt = acquire(make_spec(mirror), tmp_path / f"cache{number}", lambda line: None)
        receipt.write(tmp_path / f"{number}" / "toy.json")
        assert Receipt.read(tmp_path / f"{number}" / "toy.json") == receipt
    texts = {path.read_text() for path in tmp_path.glob("*/toy.json")}
    assert len(texts) == 1
    text = texts.pop()
    assert str(tmp_path) not in text
    assert json.loads(text)["files"] == {name: sha256(content) for name, content in CONTENT.items()}


def test_truncated_receipt_is_named(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    path.write_text('{"name": "toy"')
    with pytest.raises(DamagedFile, match=str(path)):
        Receipt.read(path)
    path.write_text('{"name": "toy"}')
    with pytest.raises(DamagedFile, match=f"rm {path}"):
        Sources.open([path])


def test_sources_of_a_study(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONTOGENY_CACHE", str(tmp_path / "cache"))
    acquire(make_spec(serve_good(server)), cache_root(), lambda line: None).write(tmp_path / "toy.json")
    sources = Sources.open([tmp_path / "toy.json"])
    assert sources["toy"].path("alpha.idx").read_bytes() == CONTENT["alpha.idx"]
    with pytest.raises(OntogenyError, match=r"does not declare the source 'tou'.*'toy'"):
        sources["tou"]
    with pytest.raises(OntogenyError, match=r"no file 'alpha'.*'alpha.idx'"):
        sources["toy"].path("alpha")


def test_cache_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ONTOGENY_CACHE", raising=False)
    assert cache_root() == tmp_path / ".cache" / "ontogeny"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/caches")
    assert cache_root() == Path("/var/caches/ontogeny")
    monkeypatch.setenv("ONTOGENY_CACHE", "~/mine")
    assert cache_root() == tmp_path / "mine"


# ------------------------------------------------------------------------------------------ the declared list


def write_registry(path: Path, **changes: Any) -> Path:
    body = make_spec(url_mirror(CLOSED)).model_dump(mode="json", exclude={"name"})
    path.write_text(yaml.safe_dump({"toy": {**body, **changes}}))
    return path


def test_registry_round_trip(tmp_path: Path) -> None:
    path = write_registry(tmp_path / "sources.yaml")
    assert load_registry(path) == {"toy": make_spec(url_mirror(CLOSED))}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sha": "x"}, "toy.sha: Extra inputs are not permitted"),
        ({"version": 1998}, "toy.version: Input should be a valid string (got 1998)"),
        ({"files": {"alpha.idx": "12"}}, "toy.files.alpha.idx: String should match pattern"),
        ({"files": {"../alpha": "0" * 64}}, "toy.files.../alpha"),
        ({"files": {"alpha.idx": "0" * 64}}, f"mirror 'url {CLOSED}' and `files` differ in: beta.idx"),
        ({"files": {"weights.pt": "0" * 64}, "mirrors": [{**url_mirror(CLOSED), "files": {
            "weights.pt": {"path": "weights.pt", "decode": "raw"}}}]}, "may carry a pickle"),
        ({"mirrors": [{**url_mirror(CLOSED), "kind": "ftp"}]}, "toy.mirrors.0: Input tag 'ftp'"),
        ({"mirrors": [{"kind": "hub", "repo": "a/b", "revision": "v1", "files": parts()}]}, "hub.revision"),
    ],
)  # fmt: skip
def test_registry_names_file_and_field(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = write_registry(tmp_path / "sources.yaml", **changes)
    with pytest.raises(ConfigError) as caught:
        load_registry(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "toy: 3\n"])
def test_registry_that_is_no_list_of_sources(text: str, tmp_path: Path) -> None:
    (tmp_path / "sources.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"sources\.yaml"):
        load_registry(tmp_path / "sources.yaml")
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_registry(tmp_path / "absent.yaml")


def test_a_language_model_can_be_declared() -> None:
    files = {"model.safetensors": "0" * 64, "tokenizer.json": "1" * 64}
    hub = {"kind": "hub", "repo": "org/Model-135M", "revision": REVISION}
    wheel = {"kind": "pypi", "package": "model-weights", "version": "0.1"}
    hub["files"] = {name: {"path": name, "decode": "raw"} for name in files}  # type: ignore[assignment]
    wheel["files"] = {name: {"path": f"weights/{name}", "decode": "raw"} for name in files}  # type: ignore[assignment]
    spec = make_spec(hub, wheel, kind="model", files=files)
    assert [mirror.kind for mirror in spec.mirrors] == ["hub", "pypi"]


# ------------------------------------------------------------------------------------------------------ MNIST

MNIST = load_registry()["mnist"]


def mnist_is_cached() -> bool:
    folder = SourceFiles(MNIST, cache_root()).folder
    return all((folder / name).is_file() for name in MNIST.files)


def network_unless_cached(test: Callable[[], None]) -> Callable[[], None]:
    return test if mnist_is_cached() else pytest.mark.network(test)


@network_unless_cached
def test_mnist_whole_and_in_the_original_order() -> None:
    mnist = load_mnist(SourceFiles(acquire(MNIST, cache_root(), print), cache_root()))
    assert mnist.train_images.shape == (60_000, 28, 28)
    assert mnist.test_images.shape == (10_000, 28, 28)
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.train_labels).tolist() == train
    assert np.bincount(mnist.test_labels).tolist() == test
    assert mnist.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert round(mnist.train_images.mean() / 255, 4) == 0.1307


@pytest.mark.parametrize("content", [b"", decode.idx_header((3,)) + b"ab", decode.idx_header((1, 3)) + b"abc"])
def test_file_that_is_not_idx(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(DamagedFile, match="labels"):
        read_idx(tmp_path / "labels", (3,))
