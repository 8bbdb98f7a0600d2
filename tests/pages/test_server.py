"""What the page's server gives away."""

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from helpers.runs import ROOT

PATHS = ("/etc/passwd", f"{ROOT}/pyproject.toml", "pyproject.toml", "../../../etc/passwd",
         "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "/proc/self/environ")  # fmt: skip
DOORS = ("/gradio_api/file={}", "/file={}", "/static/{}", "/assets/{}", "/theme.css/../{}")


@pytest.fixture(scope="module")
def address():
    gr = pytest.importorskip("gradio")
    from dclip.pages.server import free_port, launch

    with gr.Blocks() as blocks:
        upload, said = gr.UploadButton(), gr.Textbox()
        upload.upload(lambda path: Path(path).read_text("utf-8"), upload, said, api_name="read")
    blocks = launch(blocks, "127.0.0.1", free_port("127.0.0.1"))
    yield blocks.local_url.rstrip("/")
    blocks.close(verbose=False)


def test_no_path_leads_out_of_the_pages_folder(address):
    given = []
    for door in DOORS:
        for path in PATHS:
            try:
                with urllib.request.urlopen(address + door.format(path), timeout=10) as answer:
                    given.append((door, path, answer.read(200)))
            except urllib.error.HTTPError as error:
                assert error.code in (400, 403, 404, 405), (door, path, error.code)
    assert not given


def read_by_the_page(address, path):
    """What the page's function says of a file that is called uploaded."""
    file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    asked = urllib.request.Request(
        f"{address}/gradio_api/call/read",
        json.dumps({"data": [file]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/read/{event}", timeout=10) as answer:
        return answer.read().decode()


def test_an_upload_stays_in_the_pages_folder_and_no_other_file_passes_for_one(address, tmp_path):
    above = "../" * 30 + str(tmp_path / "evil.txt").lstrip("/")
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{above}"\r\n\r\n'
    asked = urllib.request.Request(
        f"{address}/gradio_api/upload",
        f"{head}mine\r\n--x--\r\n".encode(),
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        [kept] = json.load(answer)
    assert list(tmp_path.iterdir()) == [] and Path(kept).name == "evil.txt"
    assert "mine" in read_by_the_page(address, kept)
    secret = tmp_path / "secret.txt"
    secret.write_text("nobody's business", "utf-8")
    said = read_by_the_page(address, secret)
    assert "event: error" in said and "business" not in said


def test_who_does_not_know_the_password_stays_outside():
    gr = pytest.importorskip("gradio")
    from dclip.pages.server import free_port, launch

    with gr.Blocks() as blocks:
        gr.Textbox()
    blocks = launch(blocks, "127.0.0.1", free_port("127.0.0.1"), "open sesame")
    address = blocks.local_url.rstrip("/")
    try:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{address}/config", timeout=10)
        for word, status in (("sesame", 400), ("open sesame", 200)):
            form = urllib.parse.urlencode({"username": "me", "password": word}).encode()
            assert answered(f"{address}/login", form) == status
    finally:
        blocks.close(verbose=False)


def answered(address, form):
    """The status of a form that is sent."""
    try:
        with urllib.request.urlopen(address, form, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_page_itself_is_given(address):
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.status == 200
