"""Which addresses a URL may lead to."""

from ipaddress import ip_address

from lcl_data.addresses import Guard, is_public


def test_which_addresses_are_public():
    for text in ("1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        assert is_public(ip_address(text)), text
    v4 = "127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 240.0.0.1"
    v6 = "::1 :: fe80::1 fc00::1 ff02::1 fec0::1 64:ff9b:1::1 2001:db8::1"
    carriers = "::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: ::127.0.0.1"
    for text in f"{v4} 198.18.0.1 192.0.2.1 255.255.255.255 {v6} {carriers}".split():
        assert not is_public(ip_address(text)), text
    assert Guard(allow_networks=("10.0.0.0/8",)).permits("10.1.2.3")
    assert not Guard().permits("fe80::1%eth0")
