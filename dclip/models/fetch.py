"""Weights from the network: resumed, checked, and in place whole or not at all.

Sources are tried one after the other, with the standard library's urllib, which honours the
environment's proxies. ``$DCLIP_MIRROR``, a folder on a web server with the files under their local
names, is asked before every published source. Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from http.client import HTTPException, HTTPResponse
from importlib.metadata import version as package_version
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener, getproxies, proxy_bypass

from filelock import BaseFileLock, FileLock, Timeout
from tqdm import tqdm

from dclip.errors import DclipError
from dclip.files import cache_dir
from dclip.models import registry
from dclip.models.registry import File, KnownWeights, Source
from dclip.runtime.cache import keep

log = logging.getLogger("dclip")

TIMEOUT = 10.0  # seconds of silence after which a source is given up
REACH = 2.5  # seconds to find out which servers answer at all
ATTEMPTS = 3  # broken transfers of one source that are resumed
CHUNK = 1 << 20
Bar: TypeAlias = "tqdm[NoReturn]"
PAGES = ("text/html", "application/xhtml+xml", "application/xml", "text/xml")
PAGE_BEGINS = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)


class SourceError(Exception):
    """This source cannot give the file; another one may."""


class BrokenTransferError(Exception):
    """The transfer ended early; what has come is kept and can be resumed."""


def offline_reason(offline: bool = False) -> str | None:
    """Why nothing may be fetched; None if it may. ``offline`` is the setting of that name."""
    if offline:
        return "offline=true"
    setting = os.environ.get("HF_HUB_OFFLINE", "")
    if setting.lower() in ("1", "true", "yes", "on"):
        return f"HF_HUB_OFFLINE={setting}"
    return None


def sources(entry: KnownWeights, file: File) -> tuple[Source, ...]:
    """Where to ask, in order: the user's mirror, then the published places."""
    mirror = os.environ.get("DCLIP_MIRROR", "").rstrip("/")
    if not mirror:
        return file.sources
    copies = [Source(f"{mirror}/{entry.relative(name)}", name=name) for name in file.names]
    return (*copies, *file.sources)


def host(url: str) -> str:
    """The server of a URL, for people."""
    return urlsplit(url).netloc


# ------------------------------------------------------------ entries


def ensure(name: str) -> Path:
    """The checked file (or folder) of an entry, fetched if it is not here.

    DclipError if it may not or cannot be fetched, or is not what was published.
    """
    entry = registry.get(name)
    if registry.located(entry) is None:
        reason = offline_reason()
        if reason is not None and not entry.shipped:
            names = ", ".join(entry.relative(file.name) for file in entry.required)
            raise DclipError(
                f"{entry.name} is not here and may not be fetched ({reason}); "
                f"put {names} into pretrained/, or run: dclip weights fetch {entry.name}"
            )
        fetch(entry)
    check_files(entry)
    place = registry.located(entry)
    assert place is not None
    return place


def check_files(entry: KnownWeights) -> None:
    """DclipError where a file that is here is not the published one."""
    for file, path in registry.paths(entry):
        _check_once(entry, file, path)


def _check_once(entry: KnownWeights, file: File, path: Path) -> None:
    """Compare a file with what is published of it, and remember the files that passed."""
    stat = path.stat()
    key = f"{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}/{file.sources}"
    mark = cache_dir() / "checked" / hashlib.sha256(key.encode()).hexdigest()[:32]
    if mark.is_file():
        return
    fine, why = registry.verdict(path, file)
    if not fine:
        raise DclipError(
            f"{path} is not the published {entry.name}: {why}; delete it and run "
            f"dclip weights fetch {entry.name}, or give the file by its path if it is your own"
        )
    keep(mark, lambda _: None)


def fetch(
    entry: KnownWeights,
    root: Path | None = None,
    progress: bool = True,
    skip: Mapping[str, str] | None = None,
) -> Path:
    """Fetch the files of an entry into a search folder; what is there already is checked and kept.

    ``skip`` names servers that are known not to answer, and why. Returns the file, or the folder of
    an entry with several. DclipError naming every source and its failure.
    """
    folder = entry.place(root or registry.home())
    if entry.shipped and registry.located(entry) is None:
        raise DclipError(
            f"{entry.files[0].name} is not in the package; "
            "train it with experiment=pretrain_toonfaces_... task.publish=true"
        )
    for file in entry.files:
        try:
            fetch_file(entry, file, folder, progress, skip)
        except DclipError:
            if not file.optional:
                raise
    if len(entry.files) > 1:
        return folder
    path = entry.files[0].inside(folder)
    assert path is not None
    return path


def fetch_file(
    entry: KnownWeights,
    file: File,
    folder: Path,
    progress: bool = True,
    skip: Mapping[str, str] | None = None,
) -> Path:
    """One file from the first source that has it. Other processes wait while one fetches it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{file.name}.lock", file.name):
            path = file.inside(folder)
            if path is None:
                return _fetch(entry, file, folder, progress, skip or {})
            _refuse_another(entry, file, path)
            return path
    except OSError as error:
        raise DclipError(
            f"{folder}: {error.strerror or error}; choose another folder with $DCLIP_WEIGHTS"
        ) from error


def _refuse_another(entry: KnownWeights, file: File, path: Path) -> None:
    fine, why = registry.verdict(path, file)
    if not fine:
        raise DclipError(
            f"{path} is there but is not the published {entry.name}: {why}; "
            "delete it and fetch again"
        )


def _locked(path: Path, what: str) -> AbstractContextManager[BaseFileLock]:
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is fetching %s; waiting for it", what)
        return lock.acquire()


def _fetch(
    entry: KnownWeights, file: File, folder: Path, progress: bool, skip: Mapping[str, str]
) -> Path:
    failures: dict[str, None] = {}
    for source in sources(entry, file):
        server = host(source.url)
        if server in skip:
            failures[f"{server}: {skip[server]}"] = None
            continue
        try:
            return _from_source(source, file, folder / (source.name or file.name), progress)
        except SourceError as error:
            failures[f"{server}: {error}"] = None
            log.warning("%s cannot be had from %s: %s", file.name, server, error)
    raise DclipError(
        f"{entry.name}: no source gave {file.name} ({'; '.join(failures)}); "
        f"put it into {folder} yourself"
    )


# ------------------------------------------------------------ one source


def _from_source(source: Source, file: File, target: Path, progress: bool) -> Path:
    """Transfer, check, rename.

    The part of an unfinished transfer belongs to its URL: another source's bytes may differ.
    """
    address = hashlib.sha256(source.url.encode()).hexdigest()[:8]
    part = target.with_name(f"{target.name}.{address}.part")
    log.info("fetching %s from %s", target.name, host(source.url))
    _transfer_patiently(source, part, target.name, progress)
    _accept(source, file, part, target)
    part.replace(target)
    _tag_of(part).unlink(missing_ok=True)
    return target


def _transfer_patiently(source: Source, part: Path, what: str, progress: bool) -> None:
    """Transfer, resuming where it breaks off; SourceError where it breaks off too often."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(source.url, part, what, progress)
            return
        except BrokenTransferError as error:
            if attempt == ATTEMPTS:
                raise SourceError(
                    f"{error}; {ATTEMPTS} attempts, what has come is kept for the next"
                ) from error
            log.info("%s: %s; resuming", host(source.url), error)
            time.sleep(0.2 * attempt)


def _accept(source: Source, file: File, part: Path, target: Path) -> None:
    """Compare what has come with what is published; a wrong file is not kept."""
    difference = registry.differs(part, source)
    if difference is None and not source.checkable:
        fine, why = registry.verdict(part, file, target.name)
        if not fine:
            difference = why
    if difference is not None:
        _drop(part)
        raise SourceError(f"it sent another file: {difference}")


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_of(part).unlink(missing_ok=True)


def _tag_of(part: Path) -> Path:
    """Holds the server's name for the version of the file that a part belongs to."""
    return part.with_suffix(".tag")


def _transfer(url: str, part: Path, what: str, progress: bool) -> None:
    """Append to the part; start over if the server cannot, or has a new version."""
    done = 0
    if part.is_file():
        done = part.stat().st_size
    response = _open(url, part, done)
    if response is None:  # the part is whole already
        return
    with response:
        _refuse_page(response)
        start, total = _extent(response, done)
        _refuse_small_disk(part.parent, total, start)
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        _tag_of(part).write_text(version, "utf-8")
        try:
            with _continued(part, start) as stream, _bar(what, total, start, progress) as bar:
                _copy(response, stream, bar, start)
        except SourceError:
            _drop(part)
            raise
    size = part.stat().st_size
    if total is not None and size != total:
        raise BrokenTransferError(f"the transfer ended after {size:,} of {total:,} bytes")


def _extent(response: HTTPResponse, done: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, and how long the file is if the server says so."""
    start = 0
    sent = response.headers.get("Content-Range", "")
    if response.status == 206 and sent.startswith(f"bytes {done}-"):
        start = done
    length = response.headers.get("Content-Length", "")
    if not length.isdigit():
        return start, None
    return start, start + int(length)


def _continued(part: Path, start: int) -> BinaryIO:
    if start:
        return part.open("ab")
    return part.open("wb")


def _open(url: str, part: Path, done: int) -> HTTPResponse | None:
    """The server's answer; None if there is nothing beyond the part. SourceError if it is dead."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise SourceError("only http and https addresses are fetched")
    request = Request(url, headers=_headers(part, done))
    try:
        # an opener of our own: urlopen keeps the proxies of its first call
        response: HTTPResponse = build_opener().open(request, timeout=TIMEOUT)
        return response
    except HTTPError as error:
        error.close()
        if error.code != 416:
            raise SourceError(f"HTTP {error.code} {error.reason}") from error
        if error.headers.get("Content-Range", "") == f"bytes */{done}":
            return None
        part.unlink()
        raise BrokenTransferError("what had come before does not fit") from error
    except (URLError, HTTPException, OSError) as error:
        raise SourceError(_reason(error)) from error


def _headers(part: Path, done: int) -> dict[str, str]:
    """What is asked of a server: the rest of the version of which a part has come already."""
    headers = {"User-Agent": f"dclip/{package_version('dclip')}", "Accept-Encoding": "identity"}
    if not done:
        return headers
    headers["Range"] = f"bytes={done}-"
    tag = _tag_of(part)
    if tag.is_file():
        version = tag.read_text("utf-8")
        if version and not version.startswith("W/"):
            headers["If-Range"] = version
    return headers


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"no answer for {TIMEOUT:g} s"
    return (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__).strip()


def _refuse_page(response: HTTPResponse) -> None:
    if response.headers.get_content_type() in PAGES:
        raise SourceError(
            "it answered with a web page, not the file (a log-in, a quota, a virus-scan question)"
        )


def _refuse_small_disk(folder: Path, total: int | None, start: int) -> None:
    if total is None:
        return
    free, needed = shutil.disk_usage(folder).free, total - start
    if needed > free:
        raise DclipError(
            f"{folder} has {free / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB are needed; "
            "set $DCLIP_WEIGHTS"
        )


def _copy(response: HTTPResponse, stream: BinaryIO, bar: Bar, start: int) -> None:
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise BrokenTransferError(_reason(error)) from error
        if not chunk:
            return
        if start == 0 and PAGE_BEGINS.match(chunk[:200].removeprefix(b"\xef\xbb\xbf")):
            raise SourceError("it sent a web page, not the file")
        start += len(chunk)
        stream.write(chunk)
        bar.update(len(chunk))


def _bar(what: str, total: int | None, start: int, shown: bool) -> Bar:
    interval = 10.0
    if sys.stderr.isatty():
        interval = 0.1
    return tqdm(
        total=total,
        initial=start,
        desc=what,
        unit="B",
        unit_scale=True,
        disable=not shown,
        mininterval=interval,
        ncols=100,
    )


# ------------------------------------------------------------ who answers?


def silent_hosts(urls: Iterable[str], seconds: float = REACH) -> dict[str, str]:
    """Servers that cannot be reached within ``seconds``, with the reason; all are tried at once."""
    silent: dict[str, str] = {}
    threads = []
    for name, address in {host(url): _address(url) for url in urls}.items():
        silent[name] = f"no answer for {seconds:g} s"
        knocking = threading.Thread(
            target=_knock, args=(name, address, seconds, silent), daemon=True
        )
        knocking.start()
        threads.append(knocking)
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(silent)  # a thread that is still waiting may change its own


def _knock(name: str, address: tuple[str, int], seconds: float, silent: dict[str, str]) -> None:
    try:
        socket.create_connection(address, timeout=seconds).close()
        silent.pop(name, None)
    except OSError as error:
        silent[name] = error.strerror or str(error)


def _address(url: str) -> tuple[str, int]:
    """Host and port to which a request for this URL connects: the proxy's where there is one."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        if "//" not in proxy:
            proxy = f"//{proxy}"
        parts = urlsplit(proxy)
    usual = {"https": 443}.get(parts.scheme, 80)
    return parts.hostname or "", parts.port or usual
