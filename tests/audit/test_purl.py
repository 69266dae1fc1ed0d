"""Package URLs as the specification's own examples write them."""

from airgap.audit.evidence import Ecosystem
from airgap.audit.purl import purl_of


def test_the_specifications_examples() -> None:
    assert purl_of(Ecosystem.PYPI, "django", "1.11.1") == "pkg:pypi/django@1.11.1"
    assert (
        purl_of(
            Ecosystem.RPM,
            "curl",
            "7.50.3-1.fc25",
            architecture="i386",
            distribution="fedora",
            distribution_version="25",
        )
        == "pkg:rpm/fedora/curl@7.50.3-1.fc25?arch=i386&distro=fedora-25"
    )
    assert (
        purl_of(
            Ecosystem.RPM,
            "dbus",
            "1:1.12.8-26.el8",
            architecture="x86_64",
            distribution="rhel",
            distribution_version="8",
        )
        == "pkg:rpm/rhel/dbus@1.12.8-26.el8?arch=x86_64&distro=rhel-8&epoch=1"
    )
    assert purl_of(Ecosystem.DEB, "attr", "1:2.4.47-2+b2", distribution="debian") == (
        "pkg:deb/debian/attr@1:2.4.47-2%2Bb2"
    )


def test_hostile_names_stay_one_component() -> None:
    assert purl_of(Ecosystem.PYPI, "a/b?c#d", "1@2") == "pkg:pypi/a%2Fb%3Fc%23d@1%402"
