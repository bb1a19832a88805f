# SPDX-License-Identifier: Apache-2.0
"""x."""
from __future__ import annotations
import tests.support.world as w
from xdpdirector.model import Listener, Scheduler
from xdpdirector.model.quic import QuicSpec

def test_x(world):
    world.apply(w.service(quic=QuicSpec(cids="quic-lb", length=2), members=(w.backend("web1", quic_id=b"\1\1"), w.backend("web2", quic_id=b"\2\2"))))
    for i in range(4):
        out = world.send(w.udp(sport=2000+i, data=b"\x40\x00\x02\x02" + bytes(20)))
        assert out.reason == "forward_cid" and w.owner(out) == "web2"
