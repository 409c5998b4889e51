"""Fetches a model's files from the hub, checks each against what the hub says of it, whole or not.

Fetched files stay in a folder of their own until the model is ready: an interrupted download goes
on where it stopped.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from backend.errors import ModelUnavailable
from backend.models.catalogue import ModelCard

_CHUNK_BYTES = 1 << 20
OnFile = Callable[[str, int], None]
"""Called with the name and size of each file before it is fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One commit of a model's repository."""

    id: str
    commit: str
    sizes: Mapping[str, int]
    digests: Mapping[str, str]
    """sha256 of large files, git's sha1 of small ones."""


class Hub:
    """The model hub, or a mirror of it.

    Args:
        endpoint: Its address.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint.rstrip("/")

    def look(self, card: ModelCard) -> Repository:
        """Resolve the pinned commit, or the newest one, and list its files.

        Raises:
            ModelUnavailable: The hub cannot be reached, refuses, or has no such model.
        """
        from huggingface_hub import HfApi

        def ask() -> Any:
            api = HfApi(endpoint=self._endpoint)
            return api.model_info(
                card.id, revision=card.revision or None, files_metadata=True, timeout=30
            )

        info = self._guarded(card, ask)
        files = {file.rfilename: file for file in info.siblings or ()}
        return Repository(
            id=card.id,
            commit=str(info.sha),
            sizes={name: int(file.size or 0) for name, file in files.items()},
            digests={
                name: str(file.lfs.sha256 if file.lfs else file.blob_id or "")
                for name, file in files.items()
            },
        )

    def fetch(
        self,
        card: ModelCard,
        repository: Repository,
        names: Sequence[str],
        folder: Path,
        *,
        on_file: OnFile = lambda name, size: None,
    ) -> None:
        """Fetch files into a folder that keeps their paths; those that lie there whole are kept.

        Raises:
            ModelUnavailable: A file is missing there, cannot be fetched or written, or is not what
                the hub says it is; what is wrong is deleted.
        """
        from huggingface_hub import hf_hub_download

        for name in names:
            on_file(name, repository.sizes.get(name, 0))
            logger.info("Fetching {file} of {model}", file=name, model=card.id)
            self._guarded(
                card,
                lambda name=name: hf_hub_download(  # type: ignore[misc]
                    card.id,
                    name,
                    revision=repository.commit,
                    local_dir=folder,
                    endpoint=self._endpoint,
                ),
            )
            _check(card, repository, folder / name, name)

    def _guarded(self, card: ModelCard, work: Callable[[], Any]) -> Any:
        """Translate all that the hub's client can raise."""
        from huggingface_hub import errors

        try:
            return work()
        except errors.OfflineModeIsEnabled as exc:
            raise _unavailable(card, "the hub is switched off", "Unset HF_HUB_OFFLINE.") from exc
        except errors.GatedRepoError as exc:
            fix = f"Accept its terms at {self._endpoint}/{card.id} and set HF_TOKEN."
            raise _unavailable(card, "its repository is gated", fix) from exc
        except errors.RepositoryNotFoundError as exc:
            fix = "Check its id, or set HF_TOKEN if it is private."
            raise _unavailable(card, "the hub has no such repository, or hides it", fix) from exc
        except errors.RevisionNotFoundError as exc:
            fix = "Correct or remove its revision in the catalogue."
            raise _unavailable(card, f"the hub has no commit {card.revision}", fix) from exc
        except errors.LocalEntryNotFoundError as exc:
            raise _unavailable(card, f"{self._endpoint} cannot be reached", _NETWORK) from exc
        except errors.EntryNotFoundError as exc:
            raise _unavailable(card, "a file is missing in its repository", _MIRROR) from exc
        except errors.HfHubHTTPError as exc:
            status = getattr(exc.response, "status_code", 0)
            fix = _STATUS_FIXES.get(status, "Try again later.")
            raise _unavailable(card, f"the hub answered {status}", fix) from exc
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                fix = "Free some space, or set RANKSCOPE_DATA_DIR to a larger disk."
                raise _unavailable(card, "the disk is full", fix) from exc
            reason = str(exc).split("\n", 1)[0][:200]
            raise _unavailable(card, reason, "Try again: it goes on where it stopped.") from exc
        except ValueError as exc:  # HTML or something else in the place of JSON, an odd name.
            raise _unavailable(card, "the hub's answer makes no sense", _MIRROR) from exc
        except Exception as exc:  # Of its HTTP library, which differs by version.
            what = f"{self._endpoint} cannot be reached ({type(exc).__name__})"
            raise _unavailable(card, what, _NETWORK) from exc


_NETWORK = "Check the network and proxy, or set HF_ENDPOINT to a mirror."
_MIRROR = "Check HF_ENDPOINT, and the files in the catalogue's entry."
_STATUS_FIXES = {
    401: "Set HF_TOKEN to a valid token, or unset it.",
    403: "Set HF_TOKEN to a token that may read the model.",
    429: "The hub limits requests: wait some minutes, or set HF_TOKEN.",
}


def _check(card: ModelCard, repository: Repository, path: Path, name: str) -> None:
    """The hub's client compares sizes only: a proxy's error page may have the right one."""
    expected = repository.digests.get(name, "")
    size = path.stat().st_size
    state = hashlib.sha256() if len(expected) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(expected) != 64:
        state.update(f"blob {size}\0".encode())  # How git names a file's content.
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    if expected and state.hexdigest() != expected:
        path.unlink()
        raise _unavailable(
            card, f"{name} differs from its checksum", "Try again; check the proxy if it persists."
        )


def _unavailable(card: ModelCard, what: str, fix: str) -> ModelUnavailable:
    return ModelUnavailable(f"{card.id} could not be fetched: {what}.", fix=fix)
