"""What people type in place of a name."""

import pytest

from containerdns.core.protocol.typed_names import Typed, read


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://web.docker:8080/path?q=1#top", "web.docker"),
        ("https://user:secret@web.docker/", "web.docker"),
        ("web:9200", "web"),
        ("web.docker/health", "web.docker"),
        ("postgres://u@db:5432/name", "db"),
        ("WEB.Docker:80", "WEB.Docker"),
    ],
)
def test_host_is_taken_out_and_the_rest_is_reported(text: str, host: str) -> None:
    assert read(text) == Typed(host, remark=f"only the host of {text} is looked up: {host}")


@pytest.mark.parametrize("text", ["web", "web.", "web.docker", "_http._tcp.web", ".", "", "a..b"])
def test_name_alone_is_left_as_it_is(text: str) -> None:
    assert read(text) == Typed(text)


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("172.18.0.2", "172.18.0.2", "2.0.18.172.in-addr.arpa."),
        ("http://172.18.0.2:80/", "172.18.0.2", "2.0.18.172.in-addr.arpa."),
        ("172.18.0.2:443", "172.18.0.2", "2.0.18.172.in-addr.arpa."),
        ("fd00::1", "fd00::1", f"1.{'0.' * 29}d.f.ip6.arpa."),
        ("[fd00::1]:80", "fd00::1", f"1.{'0.' * 29}d.f.ip6.arpa."),
        ("https://[FD00::1]/", "fd00::1", f"1.{'0.' * 29}d.f.ip6.arpa."),
    ],
)
def test_address_is_asked_for_by_its_reverse_name(text: str, address: str, name: str) -> None:
    """RFC 1035 section 3.5, RFC 3596 section 2.5."""
    found = read(text)
    assert (found.address, found.host) == (address, name)
