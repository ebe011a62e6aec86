"""The rolled files of a recorder together with the ledger of what is in them: neither says more than the other."""

from collections.abc import Sequence
from pathlib import Path

from streamer.takes.chronicle import Chronicle, Name
from streamer.takes.framing import Buffer, Keys, Message, keys_of
from streamer.takes.layout import FileInfo
from streamer.takes.ledger_file import write_ledger_file
from streamer.takes.rolling import OpenFile, RollingFiles
from streamer.takes.stored import TIMED, Topic
from streamer.takes.tables import SCHEMA_NAME, TOPICS
from streamer.types import Frame


class AccountedFiles:
    """Adds messages to files and their names to the ledger. Methods may raise OSError; after one, call `rescue`."""

    def __init__(self, folder: Path, files: RollingFiles, chronicle: Chronicle, open_file: OpenFile) -> None:
        """Join them.

        Args:
            folder: of the take.
            files: where messages go.
            chronicle: what becomes the ledger.
            open_file: makes a new file.
        """
        self._folder, self._files, self._chronicle, self._open_file = folder, files, chronicle, open_file
        self._unadded: set[str] = set()
        self.complete = True
        """Whether the ledger names everything: there was room for it."""

    @property
    def files(self) -> Sequence[FileInfo]:
        """The finished files."""
        return self._files.files

    @property
    def written(self) -> int:
        """Messages handed to the system."""
        return self._files.written

    def due(self, log_time_ns: int) -> bool:
        """Whether the next message belongs into another file."""
        return self._files.due(log_time_ns)

    def roll(self) -> None:
        """Finish the current file, its ledger included, and open the next."""
        self._enter()
        self._files.roll()

    def keep_pace(self, log_time_ns: int) -> None:
        """Once a period, write the ledger of the messages before."""
        if self._chronicle.due(log_time_ns):
            self._enter()
            self._files.flush(log_time_ns)

    def add(
        self,
        topic: Topic,
        message: Message,
        log_time_ns: int,
        parts: Sequence[Buffer],
        packed: bool = False,
    ) -> None:
        """Add a message. It is in the file, or in what `rescue` returns."""
        self._chronicle.note(topic.name, message, log_time_ns)
        sequence = message.sequence if isinstance(message, Frame) else 0
        self._files.add(topic, keys_of(message, log_time_ns), sequence, parts, packed)

    def flush(self) -> None:
        """Hand everything to the system."""
        self._enter()
        self._files.flush()

    def finish(self) -> None:
        """Finish the last file and give back the space that was kept for it."""
        self._enter(everything=True)
        self._files.finish()
        self._files.release_reserve()

    def rescue(self) -> Sequence[str]:
        """After an error: end the current file with the space that was kept back. Raises nothing.

        Returns:
            The topic of each message that had been taken and fits nowhere.
        """
        lost = self._take_back(self._files.rescue())
        try:
            self._enter(everything=True)
            self._files.flush()
        except OSError:
            lost += self._take_back(self._files.rescue())
        self._files.leave()
        self.append()
        return lost

    def append(self) -> None:
        """Write what the ledger has collected since the files were finished into one of its own, if there is room."""
        tables = self._chronicle.take(everything=True)
        if not tables:
            return
        try:
            file = write_ledger_file(self._folder, tables, self._chronicle.log_time_ns, self._open_file)
        except OSError:
            self.complete = False
        else:
            self._files.files.append(file)

    def close(self) -> None:
        """Let go of everything. Closing twice is allowed."""
        self._files.close()

    def _enter(self, *, everything: bool = False) -> None:
        """Add what the ledger has collected."""
        tables = self._chronicle.take(everything=everything)
        self._unadded = {topic for topic, _ in tables}
        for topic, parts in tables:
            self._unadded.discard(topic)
            self._files.add(Topic(topic, SCHEMA_NAME), Keys(self._chronicle.log_time_ns, 0, 0), 0, parts)

    def _take_back(self, lost: Sequence[tuple[str, Keys]]) -> list[str]:
        """What was in the open chunk is in no file: messages are lost, tables of the ledger are due again."""
        self._chronicle.restore(self._unadded | {topic for topic, _ in lost if topic in TOPICS})
        self._unadded = set()
        gone = [(topic, keys) for topic, keys in lost if topic not in TOPICS]
        names = [
            Name(topic, keys.frame_id, time_ns=keys.time_ns) if topic.partition("/")[0] in TIMED else Name(topic)
            for topic, keys in gone
        ]
        self._chronicle.withdraw(names, "disk-full")
        return [topic for topic, _ in gone]
