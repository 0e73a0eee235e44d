"""llama-server as a peer: started on a free loopback port, spoken to over HTTP, ended by its own handle."""

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

type Prompt = str | Sequence[str | int]
"""Text, or texts and tokens in turn."""


class MissingToolError(RuntimeError):
    """A peer's program is not installed."""


def tool(name: str) -> str:
    """The path of one of llama.cpp's programs."""
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(f"{name} is not installed (Debian: llama.cpp-tools, llama.cpp-tools-extra)")
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Server:
    """A running llama-server."""

    port: int
    pid: int
    cache_prompt: bool = False
    """Whether it may begin an answer with what a slot still has of its prompt."""

    def stream(self, prompt: str, tokens: int) -> Iterator[int]:
        """Generates greedily, exactly `tokens` tokens; yields how many there are so far, as they arrive."""
        with self._completion(prompt, tokens, stream=True) as response:
            while line := response.readline():
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if event.get("stop"):
                        break
                    yield event["tokens_predicted"]
            response.read()

    def generate(self, prompt: str, tokens: int) -> int:
        """Generates greedily without streaming; returns the number of tokens."""
        count: int = self.answer(prompt, tokens)["tokens_predicted"]
        return count

    def answer(self, prompt: Prompt, tokens: int, **options: Any) -> dict[str, Any]:
        """Generates greedily without streaming; returns what the server says of it, "content" the text.

        `options` are further ones of its /completion.
        """
        with self._completion(prompt, tokens, stream=False, **options) as response:
            said: dict[str, Any] = json.loads(response.read())
            return said

    @contextmanager
    def _completion(
        self, prompt: Prompt, tokens: int, *, stream: bool, **options: Any
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        request = {
            "prompt": prompt,
            "n_predict": tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "cache_prompt": self.cache_prompt,
            "stream": stream,
            **options,
        }
        try:
            connection.request(
                "POST", "/completion", json.dumps(request), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"llama-server answered {response.status}: {response.read(500)!r}")
            yield response
        finally:
            connection.close()

    def healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError, http.client.HTTPException:
            return False
        finally:
            connection.close()


@contextmanager
def llama_server(
    model: Path,
    *,
    sequences: int,
    threads: int,
    context: int,
    flags: Sequence[str] = (),
    cache_prompt: bool = False,
    start_within: float = 120.0,
) -> Iterator[Server]:
    """A server with `sequences` slots that share `context` tokens; ended when the block is left.

    Raises RuntimeError with the end of its log when it does not become healthy within `start_within` seconds.
    """
    port = _free_port()
    command = [tool("llama-server"), "-m", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["-np", str(sequences), "-t", str(threads), "-c", str(context), *flags]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            server = Server(port, process.pid, cache_prompt)
            deadline = time.monotonic() + start_within
            while not server.healthy():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    tail = log.read()[-1000:].decode(errors="replace")
                    raise RuntimeError(
                        f"llama-server did not come up (exit status {process.poll()}):\n{tail}"
                    )
                time.sleep(0.05)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
