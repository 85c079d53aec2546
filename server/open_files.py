"""Numbers of open files, as servers give them to the kernel."""

from typing import Final, Generic, TypeVar

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.common.counted import Counted
from callgate.server.errors import FileSystemError
from callgate.server.gate import LOW_DWORD

OPEN_FILES_LIMIT: Final = 4096

T = TypeVar("T")


class OpenFiles(Counted, Generic[T]):
    """Values by number, 1 to 2**32 - 1; a number is used again only after all the others."""

    def __init__(self, limit: int = OPEN_FILES_LIMIT) -> None:
        self.limit = limit
        self._files: dict[int, T] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._files)

    def add(self, file: T) -> int:
        """Return the number of one more; FileSystemError(NO_RESOURCES) when there are ``limit``."""
        if len(self._files) >= self.limit:
            raise FileSystemError(ErrorCode.NO_RESOURCES, f"{self.limit} files are open already")
        self._last = self._last % LOW_DWORD + 1
        while self._last in self._files:
            self._last = self._last % LOW_DWORD + 1
        self._files[self._last] = file
        return self._last

    def get(self, number: int) -> T:
        """Return an open file; FileSystemError(BAD_HANDLE) if there is none of that number."""
        if number not in self._files:
            raise FileSystemError(ErrorCode.BAD_HANDLE, f"no open file {number}")
        self.count_change()  # whatever has it may change it
        return self._files[number]

    def remove(self, number: int) -> T:
        """Forget an open file and return it; FileSystemError(BAD_HANDLE) if there is none of that number."""
        file = self.get(number)
        del self._files[number]
        return file
