"""Weights from the network: one source after the other, resumed, checked, and in place whole or not at all.

Only the standard library's urllib, which honours the environment's proxies. ``$DCLIP_MIRROR``, a folder on a web server with
the files under their local names, is asked before every published source. Imports nothing heavy.
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
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener, getproxies, proxy_bypass

from filelock import BaseFileLock, FileLock, Timeout
from tqdm import tqdm

from dclip.errors import DclipError
from dclip.files import cache_dir
from dclip.models import registry
from dclip.models.registry import File, Source, Weights

log = logging.getLogger("dclip")


TIMEOUT = 10.0  # seconds of silence after which a source is given up


REACH = 2.5  # seconds to find out which servers answer at all


ATTEMPTS = 3  # broken transfers of one source that are resumed


CHUNK = 1 << 20


class SourceError(Exception):
    """This source cannot give the file; another one may."""


class BrokenTransferError(Exception):
    """The transfer ended early; what has come is kept and can be resumed."""


def offline_reason(offline: bool = False) -> str | None:
    """Why nothing may be fetched; None if it may."""
    if offline:
        return "offline=true"
    said = os.environ.get("HF_HUB_OFFLINE", "")
    return f"HF_HUB_OFFLINE={said}" if said.lower() in ("1", "true", "yes", "on") else None


def sources(entry: Weights, file: File) -> tuple[Source, ...]:
    """Where to ask, in order: the user's mirror, then the published places."""
    mirror = os.environ.get("DCLIP_MIRROR", "").rstrip("/")
    own = (
        tuple(Source(f"{mirror}/{entry.relative(name)}", name=name) for name in file.names)
        if mirror
        else ()
    )
    return own + file.sources


def host(url: str) -> str:
    """The server of a URL, for people."""
    return urlsplit(url).netloc


# ---------------------------------------------------------------------------------------------------- entries


def ensure(name: str, offline: bool = False) -> Path:
    """The checked file (or folder) of a registry entry; fetched if it is not there and may be. DclipError otherwise."""
    entry = registry.get(name)
    if registry.located(entry) is None:
        reason = offline_reason(offline)
        if reason is not None:
            names = ", ".join(entry.relative(f.name) for f in entry.files if not f.optional)
            raise DclipError(
                f"{entry.name} is not here and may not be fetched ({reason}); put {names} into pretrained/, "
                f"or run: dclip weights fetch {entry.name}"
            )
        fetch(entry)
    for file, path in registry.paths(entry):
        _check_once(entry, file, path)
    found = registry.located(entry)
    assert found is not None
    return found


def _check_once(entry: Weights, file: File, path: Path) -> None:
    """Compare a file with what is published of it, and remember the files that passed."""
    stat = path.stat()
    key = f"{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}/{file.sources}"
    mark = cache_dir() / "checked" / hashlib.sha256(key.encode()).hexdigest()[:32]
    if mark.is_file():
        return
    fine, why = registry.verdict(path, file)
    if not fine:
        raise DclipError(
            f"{path} is not the published {entry.name}: {why}; delete it and run dclip weights fetch {entry.name}, "
            "or give the file by its path if it is your own"
        )
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def fetch(
    entry: Weights,
    root: Path | None = None,
    progress: bool = True,
    skip: Mapping[str, str] | None = None,
) -> Path:
    """Fetch the files of an entry into a search folder; what is there already is checked and kept.

    ``skip`` names servers that are known not to answer, and why. Returns the file, or the folder of an entry with several.
    DclipError naming every source and its failure.
    """
    folder = entry.place(root or registry.home())
    for file in entry.files:
        try:
            fetch_file(entry, file, folder, progress, skip)
        except DclipError:
            if not file.optional:
                raise
    found = entry.files[0].inside(folder)
    assert found is not None
    return folder if len(entry.files) > 1 else found


def fetch_file(
    entry: Weights,
    file: File,
    folder: Path,
    progress: bool = True,
    skip: Mapping[str, str] | None = None,
) -> Path:
    """One file from the first source that has it. While one process fetches it, others wait for that."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{file.name}.lock", file.name):
            found = file.inside(folder)
            return (
                _kept(entry, file, found) if found else _fetch(entry, file, folder, progress, skip)
            )
    except OSError as error:
        raise DclipError(
            f"{folder}: {error.strerror or error}; choose another folder with $DCLIP_WEIGHTS"
        ) from error


def _kept(entry: Weights, file: File, path: Path) -> Path:
    fine, why = registry.verdict(path, file)
    if not fine:
        raise DclipError(
            f"{path} is there but is not the published {entry.name}: {why}; delete it and fetch again"
        )
    return path


def _locked(path: Path, what: str) -> AbstractContextManager[BaseFileLock]:
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is fetching %s; waiting for it", what)
        return lock.acquire()


def _fetch(
    entry: Weights, file: File, folder: Path, progress: bool, skip: Mapping[str, str] | None
) -> Path:
    failures = []
    for source in sources(entry, file):
        if host(source.url) in (skip or {}):
            failures.append(f"{host(source.url)}: {(skip or {})[host(source.url)]}")
            continue
        try:
            return _from_source(source, file, folder / (source.name or file.name), progress)
        except SourceError as error:
            failures.append(f"{host(source.url)}: {error}")
            log.warning("%s cannot be had from %s: %s", file.name, host(source.url), error)
    raise DclipError(
        f"{entry.name}: no source gave {file.name} ({'; '.join(dict.fromkeys(failures))}); put it into {folder} yourself"
    )


# ---------------------------------------------------------------------------------------------------- one source


def _from_source(source: Source, file: File, target: Path, progress: bool) -> Path:
    """Transfer, check, rename. The part of an unfinished transfer belongs to its URL: another source's bytes may differ."""
    part = target.with_name(
        f"{target.name}.{hashlib.sha256(source.url.encode()).hexdigest()[:8]}.part"
    )
    log.info("fetching %s from %s", target.name, host(source.url))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(source.url, part, target.name, progress)
            break
        except BrokenTransferError as error:
            if attempt == ATTEMPTS:
                raise SourceError(
                    f"{error}; {ATTEMPTS} attempts, what has come is kept for the next"
                ) from error
            log.info("%s: %s; resuming", host(source.url), error)
            time.sleep(0.2 * attempt)
    _accept(source, file, part, target)
    part.replace(target)
    _tag_of(part).unlink(missing_ok=True)
    return target


def _accept(source: Source, file: File, part: Path, target: Path) -> None:
    """Compare what has come with what is published; a wrong file is not kept."""
    wrong = registry.differs(part, source)
    if wrong is None and not source.checkable:
        fine, why = registry.verdict(part, file, target.name)
        wrong = None if fine else why
    if wrong is not None:
        _drop(part)
        raise SourceError(f"it sent another file: {wrong}")


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_of(part).unlink(missing_ok=True)


def _tag_of(part: Path) -> Path:
    """Holds the server's name for the version of the file that a part belongs to."""
    return part.with_suffix(".tag")


def _transfer(url: str, part: Path, what: str, progress: bool) -> None:
    """Append to the part from where it ends; start over where the server has no ranges or another version."""
    done = part.stat().st_size if part.is_file() else 0
    response = _open(url, part, done)
    if response is None:  # the part is whole already
        return
    with response:
        _refuse_page(response)
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {done}-"
        )
        start = done if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        _refuse_small_disk(part.parent, total, start)
        _tag_of(part).write_text(
            response.headers.get("ETag") or response.headers.get("Last-Modified") or "", "utf-8"
        )
        try:
            with (
                part.open("ab" if resumed else "wb") as stream,
                _bar(what, total, start, progress) as bar,
            ):
                _copy(response, stream, bar, start)
        except SourceError:
            _drop(part)
            raise
    size = part.stat().st_size
    if total is not None and size != total:
        raise BrokenTransferError(f"the transfer ended after {size:,} of {total:,} bytes")


def _open(url: str, part: Path, done: int) -> HTTPResponse | None:
    """The server's answer. None if it says that there is nothing beyond the part. SourceError for a dead source."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise SourceError("only http and https addresses are fetched")
    headers = {"User-Agent": f"dclip/{package_version('dclip')}", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        tag = _tag_of(part)
        if tag.is_file() and (version := tag.read_text("utf-8")) and not version.startswith("W/"):
            headers["If-Range"] = version
    try:
        # an opener of our own: urlopen keeps the proxies of its first call
        response: HTTPResponse = build_opener().open(Request(url, headers=headers), timeout=TIMEOUT)
        return response
    except HTTPError as error:
        error.close()
        if error.code == 416:
            if error.headers.get("Content-Range", "") == f"bytes */{done}":
                return None
            part.unlink()
            raise BrokenTransferError("what had come before does not fit") from error
        raise SourceError(f"HTTP {error.code} {error.reason}") from error
    except (URLError, HTTPException, OSError) as error:
        raise SourceError(_said(error)) from error


def _said(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"no answer for {TIMEOUT:g} s"
    return (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__).strip()


def _refuse_page(response: HTTPResponse) -> None:
    if response.headers.get_content_type() in (
        "text/html",
        "application/xhtml+xml",
        "application/xml",
        "text/xml",
    ):
        raise SourceError(
            "it answered with a web page, not the file (a log-in, a quota, a virus-scan question)"
        )


def _refuse_small_disk(folder: Path, total: int | None, start: int) -> None:
    free = shutil.disk_usage(folder).free
    if total is not None and total - start > free:
        raise DclipError(
            f"{folder} has {free / 1e6:,.0f} MB free, {(total - start) / 1e6:,.0f} MB are needed; set $DCLIP_WEIGHTS"
        )


def _copy(response: HTTPResponse, stream: BinaryIO, bar: tqdm, start: int) -> None:  # type: ignore[type-arg]
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise BrokenTransferError(_said(error)) from error
        if not chunk:
            return
        if start == 0 and re.match(
            rb"\s*<(!doctype|html|\?xml)", chunk[:200].removeprefix(b"\xef\xbb\xbf"), re.IGNORECASE
        ):
            raise SourceError("it sent a web page, not the file")
        start += len(chunk)
        stream.write(chunk)
        bar.update(len(chunk))


def _bar(what: str, total: int | None, start: int, shown: bool) -> tqdm:  # type: ignore[type-arg]
    watched = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=start,
        desc=what,
        unit="B",
        unit_scale=True,
        disable=not shown,
        mininterval=0.1 if watched else 10,
        ncols=100,
    )


# ---------------------------------------------------------------------------------------------------- who answers?


def silent_hosts(urls: Iterable[str], seconds: float = REACH) -> dict[str, str]:
    """Servers that cannot be reached within ``seconds``, with the reason; all are tried at once."""
    found: dict[str, str] = {}
    threads = []
    for name, address in {host(url): _address(url) for url in urls}.items():
        found[name] = f"no answer for {seconds:g} s"
        threads.append(
            threading.Thread(target=_knock, args=(name, address, seconds, found), daemon=True)
        )
        threads[-1].start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(found)


def _knock(name: str, address: tuple[str, int], seconds: float, found: dict[str, str]) -> None:
    try:
        socket.create_connection(address, timeout=seconds).close()
        found.pop(name, None)
    except OSError as error:
        found[name] = error.strerror or str(error)


def _address(url: str) -> tuple[str, int]:
    """Host and port that a request for this URL would connect to: the proxy's where there is one."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
