"""Parser of Darknet's cfg files; errors give the line number."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path

from yolofpn.darknet.schema import SECTIONS, read_net, read_section
from yolofpn.darknet.section_options import Options
from yolofpn.darknet.sections import Net, Section
from yolofpn.errors import UserError
from yolofpn.reading import ParseError, read_bounded

_ALIASES = {
    "network": "net",
    "conv": "convolutional",
    "conn": "connected",
    "max": "maxpool",
    "avg": "avgpool",
    "soft": "softmax",
    "local_avg": "local_avgpool",
    "silence": "empty",
}
MAX_LAYERS = 5000
MAX_CFG_BYTES = 4_000_000
# No Darknet knows these, so there are no .weights files for them.
_YOLOR = re.compile(r"(implicit_(add|cat|mul)|(alternate|control|select|shift)_channels?)(_?2d)?")
_RECURRENT = frozenset({"rnn", "crnn", "gru", "lstm", "conv_lstm"})


@dataclass(frozen=True)
class CfgLayer:
    """One layer: its index as in Darknet (from 0, without [net]), kind, section and the line of its header."""

    index: int
    kind: str
    section: Section
    line: int = field(compare=False)


@dataclass(frozen=True)
class DarknetCfg:
    """A cfg file; two are equal if they describe the same network, whatever their comments and training keys.

    Attributes:
        origin: the file's name, as errors show it.
        text: the whole file.
        notes: messages about ignored keys.
    """

    net: Net
    layers: tuple[CfgLayer, ...]
    origin: str = field(compare=False)
    text: str = field(compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def error(self, layer: CfgLayer, message: str) -> UserError:
        """Return an error at the header line of ``layer``."""
        return UserError(f"{self.origin}: line {layer.line}: [{layer.kind}] (layer {layer.index}) {message}")


def read_cfg(path: str | Path) -> DarknetCfg:
    """Read the cfg file at ``path``.

    Raises:
        UserError: if it cannot be read, or ``parse_cfg`` refuses it.
    """
    try:
        data = read_bounded(Path(path), MAX_CFG_BYTES)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: give the path of a Darknet cfg file") from None
    except ParseError as error:
        raise UserError(f"{path}: {error}, so it is not a Darknet cfg file") from None
    if b"\0" in data:
        raise UserError(f"{path}: not a text file, so not a Darknet cfg file")
    # Only comments hold anything but ASCII, in whatever encoding their author used.
    return parse_cfg(data.decode("utf-8-sig", errors="replace"), str(path))


def parse_cfg(text: str, origin: str) -> DarknetCfg:
    """Parse the text of a cfg file; ``origin`` names it in errors.

    Keys that only training reads are ignored; those that no Darknet reads are ignored with a note.

    Raises:
        UserError: if a section or a key is unknown, a value is wrong, or changes the result in a way that is not
            supported; the message gives the line and, for a misspelt name, the nearest known one.
    """
    sections = _split(text, origin)
    if not sections or sections[0].section != "net":
        raise UserError(f"{origin}: a Darknet cfg begins with a [net] section")
    head, *rest = sections
    if not rest:
        raise UserError(f"{origin}: no layers after [net]")
    if len(rest) > MAX_LAYERS:
        raise UserError(f"{origin}: has {len(rest):,} layers, more than {MAX_LAYERS:,}: it is not a Darknet network")
    for options in rest:
        _refuse_unknown(options)
    net, unknown = read_net(head)
    layers = []
    for index, options in enumerate(rest):
        section, overlooked = read_section(options.section, options)
        unknown += overlooked
        layers.append(CfgLayer(index, options.section, section, options.line))
    return DarknetCfg(net, tuple(layers), origin, text, _notes(origin, unknown))


def _notes(origin: str, unknown: list[str]) -> tuple[str, ...]:
    if not unknown:
        return ()
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    return (f"{origin}: ignored keys that Darknet does not know: {', '.join(unknown[:5])}{more}",)


def _split(text: str, origin: str) -> list[Options]:
    sections: list[Options] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        line = "".join(raw.split("#")[0].split())  # Darknet, too, drops blanks anywhere in a line
        if not line or line.startswith(";"):
            continue
        if line.startswith("["):
            if not line.endswith("]"):
                raise UserError(f"{origin}: line {number}: {line!r} lacks its closing bracket")
            name = line[1:-1]
            sections.append(Options(origin, _ALIASES.get(name, name), number))
            continue
        key, separator, value = line.partition("=")
        if not (key and separator and value):
            raise UserError(f"{origin}: line {number}: {raw.strip()[:60]!r} is neither [section] nor key=value")
        if not sections:
            raise UserError(f"{origin}: line {number}: {key}= stands before the first [section]")
        sections[-1].add(key, value, number)
    return sections


def _refuse_unknown(options: Options) -> None:
    if options.section in SECTIONS:
        return
    if options.section == "net":
        raise options.error("only the first section can be [net]")
    if options.section in _RECURRENT:
        raise options.error("recurrent networks are not supported, only detectors and classifiers of images")
    if _YOLOR.fullmatch(options.section):
        raise options.error("YOLOR's own section, which only its PyTorch program reads: export its weights from there")
    own = [name for name in SECTIONS if name.lower() == options.section.lower()]  # Darknet minds the case
    near = own or difflib.get_close_matches(options.section, SECTIONS, n=1)
    hint = f"did you mean [{near[0]}]?" if near else f"supported: {', '.join(SECTIONS)}"
    raise options.error(f"unknown section ({hint})")
