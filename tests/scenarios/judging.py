"""What a scenario expects, and whether a response is that; read by dnslib, not by us."""

from dataclasses import dataclass, field
from typing import Any

import dnslib

from containerdns.core.upstream.forwarding import Forward
from tests.scenarios.reading import Step

FLAGS = {"aa": 0x0400, "tc": 0x0200, "ra": 0x0080, "ad": 0x0020, "cd": 0x0010, "z": 0x0040}
ALWAYS_TOLD = ("aa", "tc", "ad", "z")  # not listed, they must not be set
SECTIONS = ("answer", "authority", "additional")


@dataclass
class Expectation:
    """What is expected of a response.

    Attributes:
        rcode: A mnemonic, "silence", or "forward" if only the forwarding matters.
        flags: Those that must be set; "no-ra" must not be.
        over: "udp" or "tcp", if it holds for one of them only (and "udp" in the core).
        sections: Records as words.
        options: EDNS options, "CODE:HEX" or "CODE:*"; None if there is no OPT record.
        forwarded: What the upstreams were asked; None for nothing.
        most: The octets of the response at most, 0 for any.
        counts: By section, how many records there are, whatever they are.
    """

    rcode: str
    flags: set[str] = field(default_factory=set)
    over: str = ""
    sections: dict[str, list[list[str]]] = field(default_factory=dict)
    edns: list[str] | None = None
    forwarded: list[str] | None = None
    most: int = 0
    counts: dict[str, int] = field(default_factory=dict)


def expectation(step: Step) -> Expectation:
    """Read an `expect` step."""
    expected = Expectation(step.words[0])
    for word in step.words[1:]:
        if word.startswith("over="):
            expected.over = word[5:]
        else:
            expected.flags.add(word)
    for kind, *words in step.below:
        match kind:
            case "answer" | "authority" | "additional":
                expected.sections.setdefault(kind, []).append(words)
            case "count":
                expected.counts[words[0]] = int(words[1])
            case "edns":
                expected.edns = words
            case "forwarded":
                expected.forwarded = words
            case "most":
                expected.most = int(words[0])
            case _:
                raise AssertionError(f"line {step.line}: what is {kind}?")
    if expected.rcode == "forward" and expected.forwarded is None:
        expected.forwarded = ["*"]
    return expected


def judge(
    expected: Expectation, data: bytes, response: bytes | None, asked: list[Forward]
) -> list[str]:
    """Return what is wrong with a response; nothing if it is as expected."""
    wrong = _judge_forwarding(expected, asked)
    if expected.rcode == "forward":
        return wrong
    if expected.rcode == "silence":
        return wrong + ([] if response is None else [f"got {response.hex()}"])
    if response is None:
        return [*wrong, "got silence"]
    if response[:2] != data[:2] or not response[2] & 0x80:
        wrong.append("another ID, or no response")
    flags = int.from_bytes(response[2:4])
    if (flags ^ int.from_bytes(data[2:4])) & 0x7900:
        wrong.append("another opcode or RD flag")
    wrong += _judge_flags(expected, flags)
    if expected.most and len(response) > expected.most:
        wrong.append(f"{len(response)} octets")
    return wrong + _judge_content(expected, data, response)


def _judge_forwarding(expected: Expectation, asked: list[Forward]) -> list[str]:
    if expected.forwarded is None:
        return [f"{f.name} was forwarded" for f in asked]
    if not asked:
        return ["nothing was forwarded"]
    forward = asked[0]
    near = [f"ttl={forward.ttl_ceiling}"] if forward.ttl_ceiling is not None else []
    apex = [f"apex={forward.apex}"] if forward.apex is not None else []
    told = [forward.name, dnslib.QTYPE[forward.qtype], *near, *apex]
    if expected.forwarded[0] != "*" and told != expected.forwarded:
        return [f"forwarded {told}, expected {expected.forwarded}"]
    return []


def _judge_flags(expected: Expectation, flags: int) -> list[str]:
    wrong = [
        f"flag {name} is not set"
        for name in expected.flags
        if name in FLAGS and not flags & FLAGS[name]
    ]
    wrong += [
        f"flag {name} is set"
        for name in ALWAYS_TOLD
        if name not in expected.flags and flags & FLAGS[name]
    ]
    if "no-ra" in expected.flags and flags & FLAGS["ra"]:
        wrong.append("flag ra is set")
    return wrong


def _judge_content(expected: Expectation, data: bytes, response: bytes) -> list[str]:
    parsed: Any = dnslib.DNSRecord.parse(response)
    records = {"answer": parsed.rr, "authority": parsed.auth, "additional": []}
    opt = [rr for rr in parsed.ar if rr.rtype == 41]
    records["additional"] = [rr for rr in parsed.ar if rr.rtype != 41]
    rcode = parsed.header.rcode | (opt[0].ttl >> 24 << 4 if opt else 0)
    wrong = []
    told = {**dnslib.RCODE.forward, 16: "BADVERS", 23: "BADCOOKIE"}.get(rcode, str(rcode))
    if told != expected.rcode:
        wrong.append(f"rcode {told}")
    for section in SECTIONS:
        wrong += _judge_section(expected, section, [_words(rr) for rr in records[section]])
    if parsed.questions:
        end = 12 + data[12:].index(b"\0") + 5 if b"\0" in data[12:] else len(data)
        if response[12:end] != data[12:end]:
            wrong.append("another question")
    wrong += _judge_edns(expected, opt)
    return wrong


def _judge_section(expected: Expectation, section: str, found: list[list[str]]) -> list[str]:
    if section in expected.counts:
        count = len(found)
        unique = len({tuple(words) for words in found})
        is_right = count == unique == expected.counts[section]
        return [] if is_right else [f"{section}: {count} records, {unique} of them different"]
    left = list(found)
    wrong = []
    for wanted in expected.sections.get(section, []):
        match = next((words for words in left if _matches(words, wanted)), None)
        if match is None:
            wrong.append(f"{section}: no {' '.join(wanted)}")
        else:
            left.remove(match)
    return wrong + [f"{section}: unexpected {' '.join(words)}" for words in left]


def _matches(found: list[str], wanted: list[str]) -> bool:
    if wanted[-1] == "*":
        found, wanted = found[: len(wanted) - 1], wanted[:-1]
    return len(found) == len(wanted) and all(
        w in ("*", f) for f, w in zip(found, wanted, strict=True)
    )


def _judge_edns(expected: Expectation, opt: list[Any]) -> list[str]:
    if len(opt) > 1:
        return ["two OPT records"]
    if expected.edns is None:
        return []
    if expected.edns == ["none"]:
        return ["an OPT record"] if opt else []
    if not opt:
        return ["no OPT record"]
    record = opt[0]
    told = [f"{o.code}:{o.data.hex()}" for o in record.rdata]
    told += ["do"] if record.ttl & 0x8000 else []
    told += ["z"] if record.ttl & 0x7FFF else []
    told += [f"payload={record.rclass}"]
    wrong = [
        f"EDNS: no {w}"
        for w in expected.edns
        if not any(t == w or (w.endswith("*") and t.startswith(w[:-1])) for t in told)
    ]
    codes = {w.partition(":")[0] for w in expected.edns}
    wrong += [
        f"EDNS: unexpected {t}"
        for t in told
        if t.partition(":")[0] not in (*codes, f"payload={record.rclass}")
    ]
    return wrong


def _words(rr: Any) -> list[str]:
    """One record as words, its owner in lower case."""
    rclass = {1: "IN", 3: "CH"}.get(rr.rclass, str(rr.rclass))
    rtype = dnslib.QTYPE.forward.get(rr.rtype) or f"TYPE{rr.rtype}"
    data = rr.rdata
    if rtype in ("CNAME", "NS", "PTR"):
        told = [_text(data.label)]
    elif rtype == "SRV":
        told = [str(data.priority), str(data.weight), str(data.port), _text(data.target)]
    elif rtype == "TXT":
        told = [repr(b"".join(data.data))[2:-1], *(["pieces"] if len(data.data) > 1 else [])]
    elif rtype == "SOA":
        numbers = list(map(str, data.times))
        told = [_text(data.mname), _text(data.rname), *numbers]
    else:
        told = str(data).split()
    return [_text(rr.rname).lower(), str(rr.ttl), rclass, rtype, *told]


def _text(label: Any) -> str:
    r"""A name in presentation form, with `\DDD` for what is not plain."""

    def shown(octets: bytes) -> str:
        return "".join(
            chr(o) if (chr(o).isalnum() and o < 128) or chr(o) in "-_*" else f"\\{o:03d}"
            for o in octets
        )

    return "".join(shown(part) + "." for part in label.label) or "."
