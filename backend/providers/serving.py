"""Which provider serves a model, and how it is reached there."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from backend.providers.presets import PRESETS, Preset, ProviderName


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A model behind HTTP, as the operator's settings or a visitor's page name it."""

    provider: ProviderName
    url: str = ""
    """Base URL; empty takes the preset's."""
    key: SecretStr | None = None
    served_as: str = ""
    """What the provider calls the model; empty takes the model's id."""
    restricted: bool = False
    """Whether a visitor named the URL: then it must be public, see `address.py`."""

    @property
    def preset(self) -> Preset:
        """The provider's habits."""
        return PRESETS[self.provider]
