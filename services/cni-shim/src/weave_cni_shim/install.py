"""The files on the host: executables and conflist, replaced by rename only (S11)."""

from __future__ import annotations

import os
from pathlib import Path

from weave_model.errors import Invalid

NAMES = ("weave-net", "weave-ipam")


def install_executable(source: Path, bin_dir: Path) -> None:
    """Puts the host executable under all its names. Idempotent. Raises Invalid naming the path."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise Invalid(f"--executable {source} cannot be read: {error.strerror}") from error
    for name in NAMES:
        target = bin_dir / name
        try:
            if not _is(target, content, 0o755):
                replace_file(target, content, 0o755)
        except OSError as error:
            raise Invalid(f"--bin-dir {bin_dir}: {name}: {error.strerror}") from error


def remove_executable(bin_dir: Path) -> list[Path]:
    """Takes the executables away; gives those that were there. Idempotent."""
    removed = []
    for name in NAMES:
        try:
            (bin_dir / name).unlink()
        except FileNotFoundError:
            continue
        removed.append(bin_dir / name)
    return removed


class Conflist:
    """The conflist on the host."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._text = text.encode()

    @property
    def is_present(self) -> bool:
        """Is it there, whatever it says?"""
        return self.path.is_file()

    def rewrite(self, text: str) -> None:
        """What is published from now on; what is there stays until then."""
        self._text = text.encode()

    def publish(self) -> None:
        """Makes it present with the present content. Idempotent. Raises Invalid naming the path."""
        try:
            if not _is(self.path, self._text, 0o644):
                replace_file(self.path, self._text, 0o644)
        except OSError as error:
            raise Invalid(f"conflist {self.path} cannot be written: {error.strerror}") from error

    def withdraw(self) -> None:
        """Makes it absent. Idempotent."""
        self.path.unlink(missing_ok=True)


def _is(path: Path, content: bytes, mode: int) -> bool:
    """Is it a file of its own, not a link, with this content and mode?"""
    try:
        return (
            not path.is_symlink()
            and path.stat().st_mode & 0o777 == mode
            and path.read_bytes() == content
        )
    except FileNotFoundError:
        return False


def replace_file(target: Path, content: bytes, mode: int) -> None:
    """Writes a file that others see whole or not at all, durably. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name that runtimes do not read: they take *.conf, *.conflist and *.json.
    temporary = target.with_name(f".{target.name}.new")
    try:
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            # A power cut must not leave an empty file under the final name.
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
