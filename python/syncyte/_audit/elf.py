"""Writable globals of a library, read from its ELF file.

A hint and no verdict: a table that nobody ever writes to looks the same as a cache that two interpreters
fight for. Which of them change is seen in the trial. Needs pyelftools; without it there is no hint.
"""

from dataclasses import dataclass

# Sections larger than this together are not compared in the trial.
_COMPARED_BYTES = 8 << 20
_SHF_WRITE, _SHF_TLS = 0x1, 0x400
# Every library has these from the C start-up files.
_START_UP = {"completed.0", "__dso_handle", "__TMC_END__", "_DYNAMIC", "_GLOBAL_OFFSET_TABLE_"}


@dataclass(frozen=True, slots=True)
class Global:
    """A writable object: its name, where it is relative to the library's start, its size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What the trial needs of a library. Sections are (name, address, size)."""

    globals: tuple[Global, ...] = ()
    sections: tuple[tuple[str, int, int], ...] = ()
    first_address: int = 0

    def names_of(self, addresses: list[int]) -> list[str]:
        """The globals that hold these addresses; where symbols are stripped, their place in a section."""
        names: dict[str, None] = {}
        for address in addresses:
            names[self._name_of(address)] = None
        return list(names)

    def _name_of(self, address: int) -> str:
        # A changed word may begin up to 7 bytes before the object in it.
        for item in self.globals:
            if item.address - 7 <= address < item.address + item.size:
                return item.name
        for name, start, size in self.sections:
            if start <= address < start + size:
                return f"{name}+{address - start:#x}"
        return hex(address)


def read_layout(path: str) -> Layout:
    """Reads the file; an empty layout where it is not ELF or pyelftools is not installed."""
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile
    except ImportError:
        return Layout()
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pyelftools wants a stream
            return _layout(ELFFile(file))
    except ELFError, OSError:
        return Layout()


def _layout(elf) -> Layout:  # type: ignore[no-untyped-def]
    writable = {}
    for index, section in enumerate(elf.iter_sections()):
        flags = section["sh_flags"]
        # What the loader makes read-only after relocation is not in .data or .bss.
        is_writable = flags & _SHF_WRITE and not flags & _SHF_TLS
        if is_writable and section.name.startswith((".data", ".bss")) and ".rel.ro" not in section.name:
            writable[index] = section
    loads = [segment["p_vaddr"] for segment in elf.iter_segments("PT_LOAD")]
    sections = tuple((s.name, s["sh_addr"], s["sh_size"]) for s in writable.values() if s["sh_size"])
    if sum(size for _, _, size in sections) > _COMPARED_BYTES:
        sections = ()
    return Layout(_globals(elf, writable), sections, min(loads, default=0) & ~0xFFF)


def _globals(elf, writable) -> tuple[Global, ...]:  # type: ignore[no-untyped-def]
    # The full table holds the dynamic one's names too; a stripped file has only the latter.
    table = elf.get_section_by_name(".symtab") or elf.get_section_by_name(".dynsym")
    if table is None:
        return ()
    found: dict[int, Global] = {}
    for symbol in table.iter_symbols():
        if symbol["st_info"]["type"] != "STT_OBJECT" or not symbol["st_size"]:
            continue
        if symbol["st_shndx"] in writable and symbol.name not in _START_UP:
            found[symbol["st_value"]] = Global(symbol.name, symbol["st_value"], symbol["st_size"])
    return tuple(found[address] for address in sorted(found))
