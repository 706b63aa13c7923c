"""Fetching checkpoints: plain HTTP with resume, and the authors' files on Google Drive.

Standard library only (tqdm and gdown are imported when used); never imports torch. Reading the
files is the business of `dynamite_widget.model.checkpoints`.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import logging
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamite_widget.errors import CheckpointError

__all__ = [
    "PUBLISHED",
    "PublishedCheckpoint",
    "cache_dir",
    "download_published",
    "fetch_cached",
    "fetch_url",
    "find_published",
]

logger = logging.getLogger(__name__)

#: Environment variable that names another folder for downloaded checkpoints.
CACHE_VARIABLE = "DYNAMITE_WIDGET_CACHE"
_SUFFIXES = (".pth", ".pkl", ".safetensors")
_CHUNK_BYTES = 1 << 20
_ATTEMPTS = 3
_fetching = threading.Lock()


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Where the authors published the weights of a preset.

    Parameters
    ----------
    config : str
        Their configuration name; also the name under which we keep the file.
    drive_id : str
        Google Drive file id.
    """

    config: str
    drive_id: str

    @property
    def file_name(self) -> str:
        """File name in the cache folder."""
        return f"{self.config}.pth"

    @property
    def page(self) -> str:
        """Address for a browser."""
        return f"https://drive.google.com/file/d/{self.drive_id}/view"


PUBLISHED: dict[str, PublishedCheckpoint] = {
    "resnet50": PublishedCheckpoint("dynamite_R50_bs32_ep50", "1uJkKR7FB6I291-94ToW6hjXtiOmdOfeP"),
    "hrnet32": PublishedCheckpoint(
        "dynamite_hrnet32_bs32_ep50", "1xMM8Xn0cn5prajAnJB0EpJcyuESfok_h"
    ),
    "segformer-b0": PublishedCheckpoint(
        "dynamite_mitb0_bs32_ep50", "1DCDiPv9Cr3nlKoUyxzkwK6pPnalVbfjn"
    ),
    "swin-tiny": PublishedCheckpoint(
        "dynamite_swin_tiny_bs32_ep50", "14zxbez6JINGQmSo6Vra4S94rwug7JpWK"
    ),
    "swin-large": PublishedCheckpoint(
        "dynamite_swin_large_bs32_ep100", "1RllYat-UWD9oQ4HN6pmouT3vtVf9It4x"
    ),
}


def cache_dir() -> Path:
    """Return the folder for downloaded checkpoints (it may not exist yet).

    The user's cache folder, or what the environment variable DYNAMITE_WIDGET_CACHE names.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("dynamite-widget", appauthor=False)) / "checkpoints"


def find_published(preset: str, directory: str | Path | None = None) -> Path | None:
    """Return the file of a published checkpoint in `directory` (default: the cache), if there.

    It may be named after the authors' configuration or after the preset, and end in .pth, .pkl or
    .safetensors.
    """
    published = PUBLISHED.get(preset)
    if published is None:
        return None
    folder = Path(directory) if directory is not None else cache_dir()
    for stem in (published.config, preset):
        for suffix in _SUFFIXES:
            path = folder / f"{stem}{suffix}"
            if path.is_file():
                return path
    return None


def download_published(preset: str, directory: str | Path | None = None) -> Path:
    """Fetch the authors' checkpoint of a preset from Google Drive.

    Needs the optional package gdown (``pip install 'dynamite-widget[download]'``). Shows progress;
    an interrupted transfer is resumed by the next call, a finished one is not repeated.

    Parameters
    ----------
    preset : str
        Key of `PUBLISHED`.
    directory : str or Path, optional
        Folder to write to; default `cache_dir`, where `load_model` looks.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If nothing was published under this name.
    CheckpointError
        If it cannot be fetched; the message says which file to fetch by hand and where to put it.
    """
    published = PUBLISHED.get(preset)
    if published is None:
        raise ValueError(
            f"no published checkpoint for preset {preset!r}; there are: {', '.join(PUBLISHED)}"
        )
    present = find_published(preset, directory)
    if present is not None:
        return present
    folder = Path(directory) if directory is not None else cache_dir()
    path = folder / published.file_name
    try:
        import gdown
    except ModuleNotFoundError as error:
        reason = "Google Drive needs the package gdown: pip install 'dynamite-widget[download]'"
        raise CheckpointError(_by_hand(preset, path, reason)) from error
    folder.mkdir(parents=True, exist_ok=True)
    try:
        gdown.download(id=published.drive_id, output=str(path), resume=True)
    except Exception as error:
        # gdown raises many kinds of errors; for the user all of them mean the same.
        first_line = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise CheckpointError(_by_hand(preset, path, first_line)) from error
    if not path.is_file():
        raise CheckpointError(_by_hand(preset, path, "Google Drive sent no file"))
    with path.open("rb") as file:
        if file.read(64).lstrip()[:1] in (b"<", b""):
            path.unlink()
            raise CheckpointError(
                _by_hand(preset, path, "Google Drive sent a web page instead of the file")
            )
    return path


def _by_hand(preset: str, path: Path, reason: str) -> str:
    published = PUBLISHED[preset]
    return (
        f"cannot download the checkpoint of {preset!r}: {reason}. To do it by hand, open "
        f"{published.page} in a browser, download the file ({published.config}) and save it as "
        f"{path}; load_model({preset!r}) will find it there."
    )


def fetch_cached(url: str) -> Path:
    """Return the local copy of `url` in the cache folder, fetching it the first time."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "checkpoint"
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    path = cache_dir() / f"{digest}-{safe}"
    with _fetching:
        return path if path.is_file() else fetch_url(url, path)


def fetch_url(url: str, path: str | Path, timeout_s: float = 30.0) -> Path:
    """Fetch a file by HTTP with a progress bar; what was already received is not sent again.

    The bytes go to ``<path>.part`` and the finished file replaces `path` in one step, so that
    `path` is never half written. If the file on the server has changed since the interruption
    (by its ETag or date), the transfer starts afresh.

    Parameters
    ----------
    url : str
        Starts with http:// or https://.
    path : str or Path
        File to write; its folder is made if needed.
    timeout_s : float
        Longest silence of the server, in seconds.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    CheckpointError
        If the transfer fails (also after resuming it twice); the part received is kept.
    """
    if not url.startswith(("http://", "https://")):
        raise CheckpointError(f"only http:// and https:// addresses can be fetched, got {url!r}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for attempt in range(_ATTEMPTS):
        try:
            _fetch(url, part, timeout_s)
        except urllib.error.HTTPError as error:
            raise CheckpointError(
                f"cannot fetch {url}: HTTP {error.code} {error.reason}"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if attempt + 1 == _ATTEMPTS:
                received = part.stat().st_size if part.exists() else 0
                raise CheckpointError(
                    f"cannot fetch {url}: {error}; {received} bytes are kept in {part}, "
                    "the next attempt continues there"
                ) from error
            logger.info("transfer of %s interrupted (%s), resuming", url, error)
            continue
        break
    part.replace(path)
    _tag_file(part).unlink(missing_ok=True)
    return path


def _tag_file(part: Path) -> Path:
    """File that remembers which version of the remote file `part` is the beginning of."""
    return part.with_name(part.name + ".tag")


def _fetch(url: str, part: Path, timeout_s: float) -> None:
    """Receive the rest of `url` into `part`; an OSError or HTTPException means "try again"."""
    from tqdm.auto import tqdm

    tag_file = _tag_file(part)
    tag = tag_file.read_text(encoding="utf-8") if tag_file.exists() else ""
    # Without a tag nobody can say whether the beginning and the rest belong together.
    received = part.stat().st_size if part.exists() and tag else 0
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if received:
        request.add_header("Range", f"bytes={received}-")
        request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not received:
            raise
        # Nothing is left to send, or the file became shorter: only a fresh start can tell.
        error.close()
        part.unlink()
        raise ConnectionError("the part received does not fit the file any more") from error
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            received = 0
        tag_file.write_text(_validator(response.headers), encoding="utf-8")
        length = response.headers.get("Content-Length")
        total = received + int(length) if length is not None else None
        with (
            part.open("ab" if received else "wb") as file,
            tqdm(
                total=total,
                initial=received,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                desc=part.name.removesuffix(".part"),
            ) as progress,
        ):
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                progress.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(f"the connection closed after {size} of {total} bytes")


def _validator(headers: Any) -> str:
    """Return the strong ETag or the date of a response, for If-Range; "" if it has neither."""
    etag = headers.get("ETag") or ""
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified") or ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``download`` sub command."""
    parser = subparsers.add_parser(
        "download",
        help="fetch a published checkpoint",
        description="Fetch the authors' published weights of a preset into the cache folder.",
    )
    parser.add_argument("preset", metavar="PRESET", choices=[*PUBLISHED], help=", ".join(PUBLISHED))
    parser.add_argument("--directory", type=Path, help="write here instead of the cache folder")


def run(args: argparse.Namespace) -> int:
    """Fetch what the command line names; tell where it is."""
    path = download_published(args.preset, args.directory)
    logger.info("%s: %s", args.preset, path)
    return 0
