"""What is asked which volumes a server is for, of bytes of any origin."""

import random

import pytest
from callgate.server.exfat import Exfat
from callgate.server.ext2 import Ext2
from callgate.server.fat import Fat
from callgate.server.hosted import Recogniser
from callgate.server.iso9660 import Iso9660
from callgate.server.zip_archive import Zip

KINDS = (Exfat, Ext2, Fat, Iso9660, Zip)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recogniser_claims_no_garbage(kind: type[Recogniser]) -> None:
    generator = random.Random(0)
    for size in (0, 1, 512, 65536):
        data = generator.randbytes(size)
        assert (kind.probe(data), kind.probe_end(data), kind.explain(data)) == (None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_recognises_its_volumes_as_its_recogniser_does(kind: type[Recogniser]) -> None:
    server = kind.server_class()
    assert (server.name, server.probe.__func__) == (kind.name, kind.probe.__func__)
    assert server.server_class() is server
