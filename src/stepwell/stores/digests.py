"""Which blobs does an entry refer to? Those named in its fields that end in `_blob`."""

from __future__ import annotations

from stepwell.model.entries import Entry, kind_of

_FORMS: dict[type[Entry], tuple[str, tuple[str, ...]]] = {}


def form_of(entry: Entry) -> tuple[str, tuple[str, ...]]:
    """The entry's kind, and the names of its fields that hold digests; remembered by class."""
    cls = type(entry)
    form = _FORMS.get(cls)
    if form is None:
        fields = tuple(name for name in cls.__struct_fields__ if name.endswith("_blob"))
        form = _FORMS[cls] = (kind_of(entry), fields)
    return form


def digests_of(entry: Entry) -> list[str]:
    """The digests of the blobs that hold this entry's payloads."""
    return [digest for field in form_of(entry)[1] if (digest := getattr(entry, field))]
