"""The server of a Gradio page: on this machine only, or with a password."""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import gradio as gr
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from dclip.config import Config, DemoTask
from dclip.errors import DclipError
from dclip.pages.demo import Studio
from dclip.pages.demo_page import page
from dclip.pages.queue import JobQueue
from dclip.pages.render import render


def free_port(host: str) -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def serve(cfg: Config) -> None:
    """Open the page and keep it until Ctrl-C. It reaches out to nobody."""
    assert isinstance(cfg.task, DemoTask)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    overrides: Sequence[str] = ()
    if HydraConfig.initialized():
        overrides = HydraConfig.get().overrides.task
        GlobalHydra.instance().clear()  # what the page learns is composed anew
    studio, queue = Studio(cfg, overrides), JobQueue()
    studio.learned = queue.learned
    host = cfg.task.host
    port = cfg.task.port or free_port(host)
    with tempfile.TemporaryDirectory(prefix="dclip_demo_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = launch(page(studio, overrides, queue), host, port, cfg.task.secret)
        shared = "" if cfg.task.is_local else ", for all who know the password"
        print(f"the page is http://{host}:{port}{shared} (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("the page is closed")
        finally:
            blocks.close(verbose=False)
            queue.close()


def guarded(password: str) -> Callable[[str, str], Awaitable[bool]]:
    """Lets in whoever knows the password, whatever the name; a wrong one waits a second."""

    async def check(_name: str, word: str) -> bool:
        right = hmac.compare_digest(word.encode(), password.encode())
        if not right:
            await asyncio.sleep(1)
        return right

    return check


def launch(blocks: gr.Blocks, host: str, port: int, password: str = "") -> gr.Blocks:
    """Start Gradio's server without anything that needs a network.

    Args:
        password: whoever opens the page must know; empty: it asks for none.

    Raises:
        DclipError: it cannot listen there.
    """
    auth: dict[str, Any] = {}
    if password:
        auth = {"auth": guarded(password), "auth_message": "any name, and the page's password"}
    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    try:
        blocks.queue().launch(
            server_name=host,
            server_port=port,
            **auth,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=True,
            theme=theme,
            css=render("demo.css"),
            footer_links=[],
            max_file_size="50mb",
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
        )
    except ValueError as error:  # a busy machine, or a proxy in between
        raise DclipError(
            f"the page does not answer at http://{host}:{port}; is this machine very busy, or does "
            "a proxy stand before it (NO_PROXY=127.0.0.1)? Then try again"
        ) from error
    except OSError as error:
        raise DclipError(
            f"task.port={port} cannot be used ({error}); "
            "choose another, or task.port=0 for any free one"
        ) from error
    return blocks
