"""Errors of this room; the root is `encoders.errors.CatalensError`.

CatalensError
├── IndexFolderError
│   ├── NotAnIndexError          the folder is no index
│   ├── UnsupportedFormatError   written by a newer Catalens
│   ├── CorruptIndexError        a checksum, a size or a structure is not what was written
│   ├── IndexLockedError         another writer is at work
│   └── OutputFolderError        the folder to build into holds something else, or cannot be one
├── StoreError
│   ├── StoreFullError           the memory map cannot grow
│   ├── DiskFullError
│   ├── StoreUnavailableError    permissions, read-only file system, foreign file
│   └── ForkedStoreError         used in a child process of the one that opened it
├── RebuildError
│   ├── PolicyError              no such policy for missing modalities, or not in this index
│   ├── FusionError              no such fusion, or one that was not learned for this index
│   ├── ProfileError             no such profile of indexes, or a factory string beside it
│   ├── RowTypeError             no such type of rows
│   ├── FactoryError             FAISS makes no index of that name
│   ├── PoolingError             no such pooling
│   ├── TargetError              a recall to tune for that is not above 0, or above 1
│   ├── RefitNeededError         what was fitted is damaged wherever it was kept
│   ├── UnknownSpaceError        a space that the index does not have
│   └── DefaultWeightError       a default weight that is no positive number up to 1000
├── WriteError
│   ├── UnknownIdError           an update or a delete of an item that is not there
│   ├── ExistingIdError          an item to add that is there already
│   ├── DuplicateIdError         an id twice in one batch
│   ├── VectorDimensionError     a ready-made vector of another dimension than the index's
│   ├── EmptyIndexError          nothing is left to derive a generation from
│   └── WriterClosedError
├── TransferError
│   ├── ExportFileError          the file to export to is there already, or cannot be made
│   └── ImportFileError          a file that no export made, or one that was changed or damaged
├── FingerprintMismatchError     the encoder here is not the one the index was built with
├── LearningError                see learning/errors.py
└── CatalogError                 see catalog_errors.py
"""

from __future__ import annotations

from encoders.errors import CatalensError


class IndexFolderError(CatalensError):
    """An index folder cannot be used."""


class NotAnIndexError(IndexFolderError):
    """The folder is no index."""


class UnsupportedFormatError(IndexFolderError):
    """The index was written in a format this version does not know."""


class CorruptIndexError(IndexFolderError):
    """A checksum, a size or a structure is not what was written."""

    exit_code = 1


class IndexLockedError(IndexFolderError):
    """Another process is writing to this index."""


class OutputFolderError(IndexFolderError):
    """The folder to build into holds something that is no index."""


class StoreError(CatalensError):
    """The database cannot be read or written."""

    exit_code = 1


class StoreFullError(StoreError):
    """The memory map of the store cannot grow."""


class DiskFullError(StoreError):
    """No space is left on the device."""


class StoreUnavailableError(StoreError):
    """The store cannot be opened: permissions, a read-only file system."""


class ForkedStoreError(StoreError):
    """The store was opened in the parent of this process."""


class RebuildError(CatalensError):
    """A generation cannot be derived as asked."""


class PolicyError(RebuildError):
    """A policy for missing modalities that there is not, or that this index cannot follow."""


class FusionError(RebuildError):
    """A fusion that there is not, or that was not learned for this index."""


class ProfileError(RebuildError):
    """A profile of indexes that there is not."""


class RowTypeError(RebuildError):
    """A type of rows that there is not."""


class FactoryError(RebuildError):
    """A factory string that FAISS does not know, or cannot make an index of these vectors by."""


class PoolingError(RebuildError):
    """A pooling that there is not."""


class TargetError(RebuildError):
    """A recall to tune for that is not above 0, or above 1."""


class RefitNeededError(RebuildError):
    """What was fitted is damaged in the store and in the generation."""

    exit_code = 1


class UnknownSpaceError(RebuildError):
    """A space that the index does not have."""


class DefaultWeightError(RebuildError):
    """A default weight that is no positive number up to 1000."""


class WriteError(CatalensError):
    """Items cannot be added, updated or deleted as asked; nothing of the call was kept."""


class UnknownIdError(WriteError):
    """An update or a delete of an item that is not there."""


class ExistingIdError(WriteError):
    """An item to add that is there already."""


class DuplicateIdError(WriteError):
    """An id twice in one batch."""


class VectorDimensionError(WriteError):
    """A ready-made vector of another dimension than those of the index."""


class EmptyIndexError(WriteError):
    """No item is left to derive a generation from."""


class WriterClosedError(WriteError):
    """The writer was closed."""


class TransferError(CatalensError):
    """An index cannot be exported or imported."""


class ExportFileError(TransferError):
    """The file to export to is there already, or cannot be made."""


class ImportFileError(TransferError):
    """The file is not what an export writes: foreign, changed or damaged."""


class FingerprintMismatchError(CatalensError):
    """The encoder on this machine is not the one the index was built with."""
