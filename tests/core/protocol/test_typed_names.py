"""What people type in place of a name."""

import pytest

from containerdns.core.protocol.typed_names import Typed, for_url, read


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


LONG = f"http://web:8080/{'a' * 250}"
LONG_ADDRESS = LONG.replace("web", "[fd00::1]")


@pytest.mark.parametrize(
    ("text", "form", "remark"),
    [
        ("bücher.dev", "xn--bcher-kva.dev", "bücher.dev is looked up as xn--bcher-kva.dev"),
        ("http://bücher:80/ü", "xn--bcher-kva", "bücher is looked up as xn--bcher-kva"),
        ("http://web/ü", "web", "only the host of http://web/ü is looked up: web"),
        (LONG, "web", f"only the host of {LONG} is looked up: web"),
        (LONG_ADDRESS, "fd00::1", f"only the host of {LONG_ADDRESS} is looked up: fd00::1"),
        ("http://WEB.example/", "http://WEB.example/", ""),
        ("ü" * 64, "ü" * 64, ""),
        ("ü..b", "ü..b", ""),
    ],
    ids=["name", "in a URL", "path", "long", "address", "short", "too long", "empty label"],
)  # fmt: skip
def test_text_is_made_fit_for_a_url(text: str, form: str, remark: str) -> None:
    """RFC 5890: DNS has A-labels.  What has none is left for the server to refuse."""
    found = for_url(text)
    assert (found.host, found.remark) == (form, remark)
