"""Which addresses may be called."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.net import AddressRefused, Guard, TargetInvalid

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.0", "100.63.255.255"]
PUBLIC += ["100.128.0.0", "192.0.1.0", "192.0.3.0", "192.88.98.255", "198.17.255.255", "11.0.0.0"]
PUBLIC += ["198.20.0.0", "223.255.255.255", "169.253.255.255", "169.255.0.0", "126.255.255.255"]
PUBLIC += ["2606:4700::1111", "2a00:1450::1", "2001:200::1", "2001:4860::8888", "3ffe::1"]
PUBLIC += ["2003::1", "2000::1", "2606:4700::5efe:808:808", "2606:4700::200:5efe:808:808"]

METADATA = ["169.254.169.254", "168.63.129.16", "192.0.0.192", "100.100.100.200", "fd00:ec2::254"]

PRIVATE_IPV4 = [
    "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1",
    "127.255.255.255 169.254.0.1 172.16.0.0 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1",
    "192.168.0.1 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1",
    "239.255.255.255 240.0.0.1 255.255.255.255",
]
PRIVATE_IPV4 = " ".join(PRIVATE_IPV4).split()

PRIVATE_IPV6 = ["::", "::1", "::2", "fe80::1", "fec0::1", "fc00::1", "fd12::1", "ff02::1"]
PRIVATE_IPV6 += ["100::1", "64:ff9b::808:808", "64:ff9b:1::1", "2001::1", "2001:1ff:ffff::"]
PRIVATE_IPV6 += ["2001:db8::1", "2001:10::1", "2002::1", "2002:808:808::1", "3fff::1", "3fff:fff::"]
PRIVATE_IPV6 += ["4000::1", "1fff::1", "5f00::1", "::ffff:8.8.8.8", "::8.8.8.8", "::ffff:0:8.8.8.8"]
PRIVATE_IPV6 += ["2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1", "fe80::5efe:808:808"]

NOT_ADDRESSES = ["", "localhost", "127.1", "0177.0.0.1", "2130706433", "0x7f.0.0.1", "１.1.1.1"]
NOT_ADDRESSES += ["fe80::1%eth0", "2606:4700::1%eth0", "[::1]", "1.1.1.1 ", "1.1.1.1:80", ":::"]


def allowed(guard: Guard, address: str) -> bool:
    try:
        guard.check(address)
    except AddressRefused:
        return False
    return True


def guard(*networks: str) -> Guard:
    return Guard([ip_network(network) for network in networks])


def embeddings(ipv4: str) -> list[str]:
    """Every form in which an IPv6 address carries this IPv4 address."""
    n = int(IPv4Address(ipv4))
    top, low = n >> 16, n & 0xFFFF
    other = n ^ 0xFFFF_FFFF
    return [
        f"::ffff:{ipv4}",
        f"::{ipv4}",
        f"::ffff:0:{ipv4}",
        f"64:ff9b::{ipv4}",
        f"64:ff9b:1::{ipv4}",
        f"64:ff9b:1:{top:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::",
        f"2002:{top:x}:{low:x}::1",
        f"2001:0:{top:x}:{low:x}::f7f7:f7f7",
        f"2001:0:808:808::{other >> 16:x}:{other & 0xFFFF:x}",
        f"2606:4700::5efe:{ipv4}",
        f"2606:4700::200:5efe:{ipv4}",
    ]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert allowed(guard(), address)


@pytest.mark.parametrize("address", PRIVATE_IPV4 + PRIVATE_IPV6 + METADATA + NOT_ADDRESSES)
def test_everything_else_is_refused(address: str) -> None:
    assert not allowed(guard(), address)


@pytest.mark.parametrize("address", PRIVATE_IPV4 + METADATA[:4])
def test_no_embedding_opens_a_private_address(address: str) -> None:
    """Not even where the operator allowed every form of embedding, or all of IPv6."""
    for form in embeddings(address):
        assert not allowed(guard(), form), form
        assert not allowed(guard("::/0"), form), form


def test_an_allowed_embedding_of_a_public_address_passes() -> None:
    everything = guard("::/0")
    for form in embeddings("8.8.8.8"):
        assert allowed(everything, form), form
    assert allowed(guard("64:ff9b::/96"), "64:ff9b::8.8.8.8")


def test_allowed_networks() -> None:
    loopback = guard("127.0.0.0/8", "::1/128", "fd12::/16")
    for address in ("127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1", "::1", "fd12::9"):
        assert allowed(loopback, address)
    for address in ("10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "fd13::1", "::ffff:10.0.0.1"):
        assert not allowed(loopback, address)


@pytest.mark.parametrize("address", METADATA)
def test_metadata_needs_its_exact_network(address: str) -> None:
    bits = 128 if ":" in address else 32
    wide = ["0.0.0.0/0", "::/0"]
    assert not allowed(guard(*wide), address)
    assert not allowed(guard(str(ip_network(f"{address}/{bits - 1}", strict=False))), address)
    assert allowed(guard(f"{address}/{bits}"), address)
    if bits == 32:
        assert not allowed(guard(*wide), f"::ffff:{address}")
        assert allowed(guard(f"{address}/32"), f"::ffff:{address}")


def test_a_refusal_names_no_address() -> None:
    with pytest.raises(AddressRefused) as refusal:
        guard().check("10.1.2.3")
    assert not any(character.isdigit() for character in str(refusal.value))


def test_one_bad_answer_refuses_all() -> None:
    guard().check_all(["8.8.8.8", "2606:4700::1"])
    with pytest.raises(AddressRefused):
        guard().check_all(["8.8.8.8", "10.0.0.1"])


def test_https_only() -> None:
    strict = Guard(https_only=True)
    assert strict.target("https://example.com/").port == 443
    with pytest.raises(TargetInvalid):
        strict.target("http://example.com/")


@given(st.integers(0, 2**32 - 1))
def test_ipv4_agrees_with_the_tables_of_the_library_where_those_refuse(number: int) -> None:
    address = IPv4Address(number)
    if address.is_private or address.is_multicast or address.is_reserved or address.is_loopback:
        assert not allowed(guard(), str(address))
        for form in embeddings(str(address)):
            assert form == "::0.0.0.1" or not allowed(guard("::/0"), form)


@given(st.integers(0, 2**128 - 1), st.booleans())
def test_ipv6_outside_global_unicast_never_passes(number: int, inside: bool) -> None:
    if inside:
        number = number & (1 << 125) - 1 | 1 << 125
    address = IPv6Address(number)
    if allowed(guard(), str(address)):
        assert number >> 125 == 1
        assert address.is_global
        assert not any([address.ipv4_mapped, address.sixtofour, address.teredo])


@given(st.text(max_size=40))
def test_any_text_is_judged(text: str) -> None:
    allowed(guard("0.0.0.0/0", "::/0"), text)
