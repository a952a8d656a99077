"""The top-level domains that are delegated, from the Public Suffix List's package.

The list has the rules of registries ("*.ck", "co.uk"); the last label of each rule
of its ICANN part is a top-level domain.
"""

from importlib.resources import files

from containerdns.core import names

LIST = "public_suffix_list.dat"
ICANN_END = "// ===END ICANN DOMAINS==="


def top_level_domains() -> frozenset[str]:
    """Return all of them as canonical names, such as "app." and "xn--p1ai."."""
    found = set()
    with (files("publicsuffixlist") / LIST).open(encoding="utf-8") as rules:
        for line in rules:
            if line.startswith(ICANN_END):
                break
            rule = line.strip()
            if rule and not rule.startswith("//"):
                found.add(rule.rpartition(".")[2])
    return frozenset(names.canonical(label.encode("idna").decode()) for label in found)
