#!/usr/bin/env python3
"""Writes the corpus: one .eml for each message that the modules in kinds/ describe.

    python3 generate.py [FOLDER]        the default is messages/ beside this script

The output depends on nothing but this code: no clock, no randomness.
"""

import pathlib
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from kinds import (  # noqa: E402
    addresses,
    attachments,
    broken,
    charsets,
    dates,
    encodings,
    everyday,
    lists,
    names,
    reports,
    scripts,
    security,
    structure,
    words,
)

KINDS = [
    addresses,
    attachments,
    broken,
    charsets,
    dates,
    encodings,
    everyday,
    lists,
    names,
    reports,
    scripts,
    security,
    structure,
    words,
]


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "messages"
    folder.mkdir(parents=True, exist_ok=True)
    written = set()
    for kind in KINDS:
        prefix = kind.__name__.rsplit(".", 1)[1]
        for name, message in kind.messages():
            path = folder / f"{prefix}-{name}.eml"
            assert path not in written, path
            written.add(path)
            path.write_bytes(message)
    for path in folder.glob("*.eml"):
        if path not in written:
            path.unlink()
    print(f"{len(written)} messages in {folder}")


if __name__ == "__main__":
    main()
