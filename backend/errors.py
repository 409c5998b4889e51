"""The error tree. Every message names the fact; every `fix` says what to do. Imports nothing."""

from __future__ import annotations


class SearchError(Exception):
    """Anything this product refuses or cannot do, fit to be shown to the one who asked."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.message = message
        self.fix = fix
        super().__init__(f"{message} {fix}".strip())


class InvalidQuery(SearchError):
    """The query or one of its options cannot be searched with."""


class UnknownCollection(SearchError):
    """No collection of that name has been indexed."""


class UnknownPlace(SearchError):
    """No chunk of the collection holds that line of that file."""


class InvalidSource(SearchError):
    """A source cannot be read: it does not exist, holds nothing, or is not a source at all."""


class SourceUnavailable(SearchError):
    """A source exists in principle but could not be fetched now."""


class UnsafeArchive(SearchError):
    """An archive would write outside its folder, or unpacks to more than is allowed."""


class ModelUnavailable(SearchError):
    """A model cannot answer: its files are missing or damaged, or its provider fails.

    Search goes on without what it would have added, and says so.
    """


class IdentityMismatch(SearchError):
    """A collection was indexed with something else than what is configured now."""


class DataFolderBusy(SearchError):
    """Another process holds the data folder."""


class DataFolderUnusable(SearchError):
    """The data folder cannot be created or written."""


class IndexDamaged(SearchError):
    """Files of an index are missing or cannot be read."""


class WorkspaceClosed(SearchError):
    """A workspace was used after it was closed."""


class IndexingBusy(SearchError):
    """The collection is being indexed already."""


class InvalidVector(SearchError):
    """A vector is not finite or has the wrong shape."""


class ProviderError(ModelUnavailable):
    """A model could not be used over HTTP; the base of all that a provider can do wrong."""


class ProviderUnavailable(ProviderError):
    """A provider is down, overloaded, or did not answer in time."""


class KeyRefused(ProviderError):
    """A provider did not accept the key, or there is none where one is needed."""


class RequestRefused(ProviderError):
    """A provider does not do what it was asked: it knows no such model, path or input."""


class RequestTooLarge(RequestRefused):
    """A single input is larger than a provider takes."""


class AnswerInvalid(ProviderError):
    """A provider answered with something else than what was asked for."""


class AddressRefused(ProviderError):
    """A base URL may not be called: not https, not public, or not an address at all."""


class InvalidLabels(SearchError):
    """A labelled set cannot be read, or does not fit the collection."""


class StoreError(SearchError):
    """The Qdrant server could not be used; the base of all that it can do wrong."""


class StoreUnavailable(StoreError):
    """The Qdrant server is down, overloaded, or did not answer in time."""


class StoreKeyRefused(StoreError):
    """The Qdrant server did not accept the API key, or wants one."""


class StoreTooOld(StoreError):
    """The Qdrant server lacks what this product needs."""


class StoreRefused(StoreError):
    """The Qdrant server does not do what it was asked."""
