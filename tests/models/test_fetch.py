"""The fetcher against a web server on the loopback interface: resumed, checked, one source after the other."""

import hashlib
import logging
import shutil
import threading
from collections import namedtuple
from dataclasses import replace

import pytest

from dclip.errors import DclipError
from dclip.models import fetch, registry
from dclip.models.registry import File, KnownWeights, Source
from helpers.server import BODY, MD5, SHA, closed_port, serving


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "DCLIP_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    with serving() as running:
        yield running


def entry(*sources, name="net.ckpt", **more):
    return KnownWeights(
        "some", "ddpm", (File(name, tuple(sources)),), "ddim", 0.5, "MIT", "a test", **more
    )


def left(folder):
    """What lies in a folder, but for locks."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def part_of(folder, url, name="net.ckpt"):
    return folder / f"{name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"


# ------------------------------------------------------------ one source


@pytest.mark.parametrize(
    "known", [{}, {"sha256": SHA}, {"md5": MD5}, {"sha256": SHA, "size": len(BODY)}]
)
def test_a_file_comes_whole_and_nothing_else_is_left(site, tmp_path, known):
    path = fetch.fetch(entry(Source(f"{site.url}/a?b=1", **known)), tmp_path, progress=False)
    assert path == tmp_path / "net.ckpt"
    assert path.read_bytes() == BODY
    assert left(tmp_path) == ["net.ckpt"]
    assert site.asked == [("/a?b=1", None)]
    assert (
        fetch.fetch(entry(Source(f"{site.url}/a")), tmp_path, progress=False) == path
    )  # not again
    assert len(site.asked) == 1


def test_a_broken_transfer_is_resumed_where_it_broke(site, tmp_path):
    site.cut = [1000, 5000]
    path = fetch.fetch(entry(Source(f"{site.url}/a", sha256=SHA)), tmp_path, progress=False)
    assert path.read_bytes() == BODY
    assert [r for _, r in site.asked] == [None, "bytes=1000-", "bytes=6000-"]
    assert site.sent == len(BODY)
    assert left(tmp_path) == ["net.ckpt"]


def test_a_part_of_an_earlier_process_is_resumed(site, tmp_path):
    url = f"{site.url}/a"
    part_of(tmp_path, url).write_bytes(BODY[:300_000])
    fetch.fetch(entry(Source(url, sha256=SHA)), tmp_path, progress=False)
    assert site.asked == [("/a", "bytes=300000-")]
    assert site.sent == len(BODY) - 300_000


def test_what_has_come_is_kept_when_a_source_keeps_breaking(site, tmp_path):
    site.cut = [1000, 1000, 1000]
    with pytest.raises(
        DclipError, match=r"ended after 3,000 of 512,000 bytes; 3 attempts, what has come is kept"
    ):
        fetch.fetch(entry(Source(f"{site.url}/a")), tmp_path, progress=False)
    assert part_of(tmp_path, f"{site.url}/a").stat().st_size == 3000
    assert (
        fetch.fetch(entry(Source(f"{site.url}/a")), tmp_path, progress=False).read_bytes() == BODY
    )
    assert site.sent == len(BODY)


def test_a_server_without_ranges_sends_all_again(site, tmp_path):
    site.ranges, site.cut = False, [1000]
    path = fetch.fetch(entry(Source(f"{site.url}/a")), tmp_path, progress=False)
    assert path.read_bytes() == BODY
    assert site.sent == len(BODY) + 1000


def test_a_part_of_another_version_is_not_continued(site, tmp_path):
    url = f"{site.url}/a"
    part = part_of(tmp_path, url)
    part.write_bytes(b"x" * 1000)
    part.with_suffix(".tag").write_text('"an older one"')
    assert fetch.fetch(entry(Source(url)), tmp_path, progress=False).read_bytes() == BODY


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_a_part_that_is_whole_or_too_long_is_told_from_one_that_is_not(site, tmp_path, extra):
    url = f"{site.url}/a"
    part_of(tmp_path, url).write_bytes(BODY + extra)
    assert fetch.fetch(entry(Source(url)), tmp_path, progress=False).read_bytes() == BODY
    assert site.sent == (len(BODY) if extra else 0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html; charset=utf-8", BODY),
        ("application/octet-stream", b"<!DOCTYPE html><title>Google Drive - Virus scan warning"),
        ("application/octet-stream", b"\xef\xbb\xbf\n <HTML>log in"),
        ("application/xml", b"<?xml version='1.0'?><Error><Code>AccessDenied"),
    ],
)
def test_a_page_instead_of_the_file_is_refused(site, tmp_path, kind, body):
    site.kind, site.body = kind, body
    with pytest.raises(DclipError, match="web page"):
        fetch.fetch(entry(Source(f"{site.url}/a")), tmp_path, progress=False)
    assert left(tmp_path) == []


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"md5": "0" * 32}, {"size": 5}])
def test_another_file_than_the_published_one_is_refused_and_not_kept(site, tmp_path, known):
    with pytest.raises(DclipError, match="it sent another file") as caught:
        fetch.fetch(entry(Source(f"{site.url}/a", **known)), tmp_path, progress=False)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_a_source_without_hash_is_held_to_the_other_sources_hash(site, tmp_path):
    good = Source("http://127.0.0.1:1/never", sha256=SHA)
    assert fetch.fetch(
        entry(Source(f"{site.url}/a"), good), tmp_path / "good", progress=False
    ).is_file()
    with pytest.raises(DclipError, match="sha256"):
        fetch.fetch(
            entry(Source(f"{site.url}/a"), replace(good, sha256="0" * 64)),
            tmp_path / "bad",
            progress=False,
        )
    assert left(tmp_path / "bad") == []


def test_only_web_addresses_are_asked(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    with pytest.raises(DclipError, match="only http and https"):
        fetch.fetch(entry(Source(secret.as_uri())), tmp_path / "to", progress=False)


# ------------------------------------------------------------ several sources


def test_a_dead_source_is_said_and_the_next_one_asked(site, tmp_path, caplog, monkeypatch):
    dead = closed_port()
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="dclip"):
        path = fetch.fetch(
            entry(Source(f"{site.url}/missing"), Source(f"{dead}/a"), Source(f"{site.url}/a")),
            tmp_path,
            progress=False,
        )
    assert path.read_bytes() == BODY
    said = [r.getMessage() for r in caplog.records]
    assert any("HTTP 404" in line and "net.ckpt cannot be had" in line for line in said)
    assert any(dead.removeprefix("http://") in line and "refused" in line.lower() for line in said)


def test_when_every_source_fails_all_are_named_in_one_line(site, tmp_path):
    dead = closed_port()
    with pytest.raises(DclipError) as caught:
        fetch.fetch(
            entry(Source(f"{dead}/a"), Source(f"{site.url}/missing")), tmp_path, progress=False
        )
    message = str(caught.value)
    assert "\n" not in message
    for part in ("some", "net.ckpt", dead.removeprefix("http://"), "HTTP 404", str(tmp_path)):
        assert part in message


def test_a_source_that_is_known_to_be_silent_is_not_asked(site, tmp_path):
    with pytest.raises(DclipError, match="asleep"):
        fetch.fetch(
            entry(Source(f"{site.url}/a")),
            tmp_path,
            progress=False,
            skip={fetch.host(site.url): "asleep"},
        )
    assert site.asked == []


def test_a_source_may_have_another_local_name(site, tmp_path):
    sources = (
        Source(f"{site.url}/missing.safetensors"),
        Source(f"{site.url}/a.bin", name="net.bin"),
    )
    some = entry(*sources, name="net.safetensors")
    assert fetch.fetch(some, tmp_path, progress=False).name == "net.bin"
    assert some.files[0].inside(tmp_path) == tmp_path / "net.bin"
    assert some.missing_in(tmp_path) == ()


def test_an_optional_file_that_is_nowhere_is_not_missed(site, tmp_path):
    files = (
        File("config.json", (Source(f"{site.url}/c"),)),
        File("more.json", (Source(f"{site.url}/missing"),), optional=True),
    )
    some = replace(entry(), files=files, folder="net")
    assert fetch.fetch(some, tmp_path, progress=False) == tmp_path / "net"
    assert left(tmp_path / "net") == ["config.json"]


def test_the_users_mirror_is_asked_first_under_the_local_path(site, tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIP_MIRROR", f"{site.url}/lab/")
    fetch.fetch(
        replace(entry(Source(f"{closed_port()}/a")), folder="net"), tmp_path, progress=False
    )
    assert site.asked == [("/lab/net/net.ckpt", None)]


def test_the_environments_proxy_is_used(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    source = Source("http://weights.invalid/a")
    assert fetch.fetch(entry(source), tmp_path, progress=False).read_bytes() == BODY
    assert site.asked == [("http://weights.invalid/a", None)]
    assert fetch.silent_hosts([source.url]) == {}  # it is the proxy that must answer


# ------------------------------------------------------------ two at once, disk, offline


def test_two_at_once_fetch_once(site, tmp_path):
    site.gate = threading.Event()
    found = []
    some = entry(Source(f"{site.url}/a", sha256=SHA))
    workers = [
        threading.Thread(target=lambda: found.append(fetch.fetch(some, tmp_path, progress=False)))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    site.gate.set()
    for worker in workers:
        worker.join(20)
    assert found == [tmp_path / "net.ckpt"] * 3
    assert len(site.asked) == 1


def test_a_full_disk_is_said_before_anything_is_written(site, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    with pytest.raises(DclipError, match=r"0 MB free, 1 MB are needed; set \$DCLIP_WEIGHTS"):
        fetch.fetch(entry(Source(f"{site.url}/a")), tmp_path, progress=False)
    assert site.sent <= len(BODY)
    assert left(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(site, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DclipError, match=r"file.*choose another folder with \$DCLIP_WEIGHTS"):
        fetch.fetch(entry(Source(f"{site.url}/a")), tmp_path / "file" / "below", progress=False)


def test_a_wrong_file_in_the_way_is_not_overwritten(site, tmp_path):
    mine = tmp_path / "net.ckpt"
    mine.write_bytes(b"mine")
    with pytest.raises(DclipError, match=r"is there but is not the published some.*delete it"):
        fetch.fetch(entry(Source(f"{site.url}/a", sha256=SHA)), tmp_path, progress=False)
    assert mine.read_bytes() == b"mine"
    assert site.asked == []


@pytest.mark.parametrize(
    ("variable", "reason"),
    [("1", "HF_HUB_OFFLINE=1"), ("true", "HF_HUB_OFFLINE=true"), ("0", None), ("", None)],
)
def test_offline_is_respected(monkeypatch, variable, reason):
    monkeypatch.setenv("HF_HUB_OFFLINE", variable)
    assert fetch.offline_reason() == reason
    assert fetch.offline_reason(True) == "offline=true"


def test_a_name_is_fetched_when_first_used_but_not_offline(site, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.TABLE, "some", entry(Source(f"{site.url}/a", sha256=SHA)))
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        DclipError,
        match=r"some is not here and may not be fetched \(HF_HUB_OFFLINE=1\); put net.ckpt into pretrained",
    ):
        fetch.ensure("some")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert site.asked == []
    assert fetch.ensure("some") == tmp_path / "weights" / "net.ckpt"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch.ensure("some").read_bytes() == BODY


def test_a_file_is_hashed_once_until_it_changes(site, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.TABLE, "some", entry(Source(f"{site.url}/a", sha256=SHA)))
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path))
    path = tmp_path / "net.ckpt"
    path.write_bytes(BODY)
    hashed = []
    real = registry.digest
    monkeypatch.setattr(registry, "digest", lambda *a: hashed.append(a) or real(*a))
    assert fetch.ensure("some") == fetch.ensure("some") == path
    assert len(hashed) == 1
    path.write_bytes(BODY[:-1] + b"!")
    with pytest.raises(
        DclipError, match=r"net.ckpt is not the published some: its sha256 is .*; delete it"
    ) as caught:
        fetch.ensure("some")
    assert "\n" not in str(caught.value)


def test_who_does_not_answer_is_known_soon(site):
    dead = closed_port()
    silent = fetch.silent_hosts(
        [f"{site.url}/a", f"{dead}/a", f"{dead}/b", "http://nowhere.invalid/a"], 2
    )
    assert set(silent) == {fetch.host(dead), "nowhere.invalid"}
    assert "refused" in silent[fetch.host(dead)].lower()
