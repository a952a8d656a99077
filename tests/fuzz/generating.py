"""What the generated tests are made of: containers that get into each other's way, and queries.

The words are few, so that names collide, lie below each other and come again.
"""

from ipaddress import ip_address

from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone.containers import Attachment, Container, Network, PortBinding
from containerdns.core.zone.docker_labels import LABELS as OUR_LABELS

ENGINE = "unix:///run/one.sock"
DOMAINS = ("docker.", "eu.docker.")
SEARCH_DOMAINS = ("localdomain.", "corp.example.", "lab.docker.")
TOP_LEVEL = frozenset({"com.", "app.", "example."})
NETWORKS = tuple(
    Network(name, name, ENGINE, driver, (subnet,), (gateway,))
    for name, driver, subnet, gateway in (
        ("front", "bridge", "172.18.0.0/16", "172.18.0.1"),
        ("back", "bridge", "172.19.0.0/24", "172.19.0.1"),
        ("lan", "macvlan", "192.168.7.0/24", "192.168.7.1"),
        ("six", "bridge", "fd00:1::/64", "fd00:1::1"),
    )
)
CLIENTS = ("127.0.0.1", "172.18.0.77", "172.19.0.1", "192.168.7.5", "fd00:1::5", "203.0.113.5")
IDS = tuple(f"{number:064x}" for number in range(0xABC, 0xABC + 6))
CONTAINER_NAMES = (
    *("web", "db", "web_1", "web-1", "app", "host", "ns", "docker", "corp", "a.web", "key.web"),
    *("eu", "lab", "www.example.com", "Web", "localhost", "front", "web.front"),
)
TARGETS = (
    *("db.docker.", "web.docker.", "web.corp.example.", "elsewhere.example.", "localhost."),
    *("nobody.docker.", "web.", "com.", "x.invalid."),
)
MORE_VALUES: dict[str, tuple[str, ...]] = {  # than those of the table
    "containerdns.enable": ("false", "true"),
    "containerdns.names": ("web", "www,db", "x.web", "*.web", "host", "deep.er.web,s.p"),
    "containerdns.fqdns": ("search.corp.example", "web.docker", "mail.company.example,web", "com"),
    "containerdns.ttl": ("0", "60", "x"),
    "containerdns.wildcard": ("true", "false"),
    "containerdns.txt": ("text", "x" * 300, ""),
    "containerdns.txt.key": ("value",),
    "containerdns.txt.a.b": ("deep",),
    "containerdns.srv._http._tcp": ("8080", "0"),
    "containerdns.cname": TARGETS,
    "containerdns.address": ("192.0.2.9", "192.0.2.8,2001:db8::8", "x"),
    "containerdns.network": ("front", "back", "none"),
    "com.docker.compose.project": ("p", "q"),
    "com.docker.compose.service": ("s", "web", "x.y"),
    "com.docker.compose.container-number": ("1", "2"),
    "com.docker.compose.oneoff": ("True", "False"),
}
LABELS = {
    f"containerdns.{key}": (value, *label.wrong)
    for label in OUR_LABELS
    for key, value in label.examples
}
LABELS |= {key: (*LABELS.get(key, ()), *values) for key, values in MORE_VALUES.items()}
ADDRESSES = {
    "front": ("172.18.0.2", "172.18.0.3"),
    "back": ("172.19.0.2", "172.19.0.9"),
    "lan": ("192.168.7.9",),
    "six": ("fd00:1::2", "fd00:1::3"),
}


def attachment(name: str, address: str, aliases: tuple[str, ...]) -> Attachment:
    """A container's place on one of the networks."""
    network = next(n for n in NETWORKS if n.name == name)
    return Attachment(name, network.id, (address,), network.subnets, network.gateways, aliases)


attachments = st.sampled_from(sorted(ADDRESSES)).flatmap(
    lambda name: st.builds(
        attachment,
        st.just(name),
        st.sampled_from(ADDRESSES[name]),
        st.sampled_from(((), ("www",), ("web", "db"))),
    )
)
ports = st.builds(
    PortBinding,
    st.sampled_from((80, 9200)),
    st.sampled_from(("tcp", "udp")),
    st.sampled_from((0, 8080)),
)
docker_labels = st.lists(st.sampled_from(sorted(LABELS)), max_size=5, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: st.sampled_from(LABELS[key]) for key in keys})
)
containers = st.builds(
    Container,
    id=st.sampled_from(IDS),
    container_name=st.sampled_from(CONTAINER_NAMES),
    engine=st.just(ENGINE),
    state=st.sampled_from(("running", "running", "running", "paused", "exited", "created")),
    health=st.sampled_from(("", "", "healthy", "unhealthy")),
    hostname=st.sampled_from(("", "", "web", "mx")),
    domainname=st.sampled_from(("", "corp.example")),
    network_mode=st.sampled_from(
        ("bridge", "bridge", "bridge", "host", "none", *(f"container:{i}" for i in IDS[:2]))
    ),
    attachments=st.lists(attachments, max_size=3, unique_by=lambda a: a.network).map(tuple),
    docker_labels=docker_labels,
    ports=st.lists(ports, max_size=2).map(tuple),
)

OWNERS = (
    *CONTAINER_NAMES, "www", "s", "s.p", "1.s.p", "p", "x.y", "y", "mx", "unknown", "x.web",
    "any.web", "any.any.web", "_tcp.web", "_80._tcp.web", "_http._tcp.web", "x._tcp.web", "b.web",
    "a.b.web", "web.front", "www.front", "web.back", "back", "er.web", "deep.er.web", "any.db",
    "key.db", "search", "*.web", IDS[0][:12], "any.er.web", "mx.corp.example", "web.docker",
    "docker.web",
)  # fmt: skip
ELSEWHERE = (
    *(".", "search.corp.example.", "mail.company.example.", "company.example.", "www.example.net."),
    *("2.0.18.172.in-addr.arpa.", "9.0.18.172.in-addr.arpa.", "18.172.in-addr.arpa."),
    *("0.18.172.in-addr.arpa.", "9.7.168.192.in-addr.arpa.", "8.7.168.192.in-addr.arpa."),
    *("10.in-addr.arpa.", "172.in-addr.arpa.", "x.0.18.172.in-addr.arpa."),
    *(ip_address(a).reverse_pointer + "." for a in ("fd00:1::2", "fd00:1::9")),
    *("x.localhost.", "x.invalid.", "use-application-dns.net.", "resolver.arpa.", "x.test."),
)
QTYPES = (
    *(messages.A, messages.A, messages.A, messages.AAAA, messages.TXT, messages.SRV),
    *(messages.CNAME, messages.SOA, messages.NS, messages.DS, messages.HTTPS, messages.ANY),
    *(messages.PTR, messages.MX, 65280),
)
SUFFIXES = (".", *DOMAINS, *SEARCH_DOMAINS, "docker.corp.example.", "docker.localdomain.")
asked_names = st.one_of(
    st.builds(names.join, st.sampled_from(OWNERS), st.sampled_from(SUFFIXES)),
    st.sampled_from((*ELSEWHERE, *DOMAINS, *SEARCH_DOMAINS)),
).map(str.lower)


def query(name: str, qtype: int, message_id: int = 0x2B2B, *, edns: bool = False) -> bytes:
    """A query as a stub resolver sends it."""
    question = names.to_wire(name) + qtype.to_bytes(2) + messages.IN.to_bytes(2)
    return messages.query(message_id, messages.RD, question, messages.opt_record() if edns else b"")


# -- octets that look like queries, more or less ------------------------------------------

labels = st.binary(min_size=1, max_size=63) | st.sampled_from(
    [b"web", b"docker", b"localdomain", b"com", b"arpa", b"_tcp", b"*", b"local"]
)
wire_names = st.lists(labels, max_size=5).map(
    lambda parts: b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
)
odd_names = st.one_of(
    wire_names,
    wire_names,
    st.builds(
        lambda name, at: name[:-1] + (0xC000 | at).to_bytes(2), wire_names, st.integers(0, 40)
    ),
    st.binary(max_size=20),
)
sixteen_bits = st.integers(0, 0xFFFF)
options = st.lists(
    st.tuples(
        st.sampled_from((3, 8, 10, 11, 12, 15)) | sixteen_bits,
        st.binary(max_size=8) | st.binary(min_size=8, max_size=40),
    ),
    max_size=3,
).map(lambda pairs: b"".join(c.to_bytes(2) + len(d).to_bytes(2) + d for c, d in pairs))
records = st.builds(
    lambda owner, rtype, rclass, ttl, data, lie: (
        owner
        + rtype.to_bytes(2)
        + rclass.to_bytes(2)
        + ttl.to_bytes(4)
        + max(len(data) + lie, 0).to_bytes(2)
        + data
    ),
    st.just(b"\0") | odd_names,
    st.sampled_from((messages.OPT, messages.OPT, messages.TSIG, messages.SOA, 1)) | sixteen_bits,
    st.sampled_from((512, 1232, 4096, 255)) | sixteen_bits,
    st.sampled_from((0, 0x8000, 0x10000)) | st.integers(0, 2**32 - 1),
    options | st.binary(max_size=60),
    st.sampled_from((0, 0, 0, 0, 1, -1)),
)
near_queries = st.builds(
    lambda flags, counts, question, qtype, qclass, rest: (
        b"\x2b\x2b"
        + flags.to_bytes(2)
        + b"".join(count.to_bytes(2) for count in counts)
        + question
        + qtype.to_bytes(2)
        + qclass.to_bytes(2)
        + b"".join(rest)
    ),
    st.sampled_from((0, messages.RD, messages.RD, messages.QR)) | sixteen_bits,
    st.tuples(
        st.sampled_from((1, 1, 1, 0, 2)),
        st.sampled_from((0, 0, 0, 1)),
        st.sampled_from((0, 0, 0, 1)),
        st.sampled_from((0, 1, 1, 2)),
    ),
    odd_names,
    st.sampled_from((*QTYPES, 249, 250, 251, 252, 253, 254, 41)) | sixteen_bits,
    st.sampled_from((1, 1, 1, 3, 254, 255)) | sixteen_bits,
    st.lists(records, max_size=2),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A query of which some octets are others, or are missing."""
    octets = bytearray(draw(near_queries))
    for _ in range(draw(st.integers(0, 3))):
        octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    return bytes(octets[: draw(st.integers(0, len(octets)) | st.just(len(octets)))])


packets = st.one_of(near_queries, damaged(), st.binary(max_size=100))

# -- hostile labels, and documents of Engines ---------------------------------------------

hostile_texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="ab.\\*@,_-\x00\ud800\u0130", max_size=80),
    st.sampled_from(
        (
            *("", ".", "..", "*", "*.docker", "docker", "ns", "localhost", "com", "1" * 5000),
            *("a" * 64, "a." * 127 + "a", "a." * 130, "-1", "65536", "0000809999", "\\", "a\\."),
            *(
                "x,y,z," * 200,
                "\\046",
                "\\300",
                "web\n10 IN A 1.2.3.4",
                "true",
                "::1",
                "fe80::1%lo",
            ),
        )
    ),
)
label_keys = st.one_of(
    st.sampled_from(
        (*sorted(LABELS), "containerdns.srv.", "containerdns.txt.*", "containerdns.srv.*")
    ),
    hostile_texts.map(lambda text: f"containerdns.txt.{text}"),
    hostile_texts.map(lambda text: f"containerdns.srv.{text}"),
    hostile_texts,
)
hostile_containers = st.builds(
    Container,
    id=st.sampled_from(IDS),
    container_name=st.sampled_from(CONTAINER_NAMES) | hostile_texts,
    engine=st.just(ENGINE),
    state=st.sampled_from(("running", "exited")),
    health=hostile_texts,
    hostname=hostile_texts,
    domainname=hostile_texts,
    network_mode=st.sampled_from(("bridge", "host", f"container:{IDS[0]}", f"container:{IDS[1]}")),
    attachments=st.lists(
        st.builds(
            Attachment,
            hostile_texts,
            hostile_texts,
            st.lists(st.ip_addresses().map(str), max_size=2).map(tuple),
            st.just(()),
            st.just(()),
            st.lists(hostile_texts, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    docker_labels=st.dictionaries(label_keys, hostile_texts, max_size=6),
    ports=st.lists(
        st.builds(
            PortBinding,
            st.sampled_from((80, 0, -1, 65535, 65536, 10**9)),
            st.sampled_from(("tcp", "udp", "", "t.c\\p", "T" * 70)),
            st.sampled_from((0, 8080, 65536, -5)),
        ),
        max_size=3,
    ).map(tuple),
)

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), hostile_texts, st.ip_addresses().map(str)
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
endpoints = st.fixed_dictionaries(
    {},
    optional={
        "NetworkID": hostile_texts | anything,
        "IPAddress": st.ip_addresses().map(str) | anything,
        "IPPrefixLen": st.integers(0, 40) | anything,
        "GlobalIPv6Address": st.ip_addresses().map(str) | anything,
        "GlobalIPv6PrefixLen": st.integers(0, 140) | anything,
        "Gateway": st.ip_addresses().map(str) | anything,
        "Aliases": st.lists(hostile_texts, max_size=2) | anything,
    },
)
documents = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"Id": st.sampled_from(IDS) | st.sampled_from(IDS) | anything},
        optional={
            "Name": hostile_texts.map(lambda text: "/" + text) | anything,
            "Names": st.lists(hostile_texts.map(lambda text: "/" + text), max_size=2) | anything,
            "State": st.sampled_from(("running", "exited"))
            | st.fixed_dictionaries(
                {"Status": st.just("running") | anything}, optional={"Health": anything}
            )
            | anything,
            "Config": st.fixed_dictionaries(
                {},
                optional={
                    "Hostname": hostile_texts | anything,
                    "Labels": st.dictionaries(label_keys, hostile_texts, max_size=4) | anything,
                    "ExposedPorts": st.dictionaries(hostile_texts, anything, max_size=2) | anything,
                },
            )
            | anything,
            "Labels": st.dictionaries(label_keys, hostile_texts, max_size=4) | anything,
            "HostConfig": st.fixed_dictionaries({"NetworkMode": hostile_texts | anything})
            | anything,
            "NetworkSettings": st.fixed_dictionaries(
                {"Networks": st.dictionaries(hostile_texts, endpoints | anything, max_size=2)},
                optional={"Ports": st.dictionaries(hostile_texts, anything, max_size=2) | anything},
            )
            | anything,
            "Ports": st.lists(anything, max_size=2) | anything,
            "Driver": hostile_texts | anything,
            "IPAM": st.fixed_dictionaries(
                {
                    "Config": st.lists(
                        st.fixed_dictionaries(
                            {"Subnet": st.ip_addresses().map(lambda a: f"{a}/24") | anything},
                            optional={"Gateway": st.ip_addresses().map(str) | anything},
                        ),
                        max_size=2,
                    )
                    | anything
                }
            )
            | anything,
        },
    ),
)
