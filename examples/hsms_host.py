"""A host that selects simulated equipment, and asks it; then the equipment does not answer."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from equipnet.errors import EquipmentTimeout
from equipnet.hsms import EquipmentFault, EquipmentSimulator, HsmsActiveConnection, Timers, Variable
from equipnet.secs import F4, U4, A, L, Message


async def converse(reactor: Any) -> None:
    etcher = EquipmentSimulator(
        "tcp:0",
        session_id=1,
        model="ETCHER",
        variables={1001: Variable("Pressure", F4(1.5), "Pa")},
        commands={"START": 0},
        reactor=reactor,
    )
    await etcher.listen()

    host = HsmsActiveConnection(str(etcher.bound), session_id=1, timers=Timers(t3=0.5), reactor=reactor)
    host.enable()
    await host.when_ready()
    for message in (
        Message(1, 1, wait=True),
        Message(1, 3, wait=True, item=L(U4(1001))),
        Message(2, 41, wait=True, item=L(A("START"), L())),
    ):
        reply = await host.request(message)
        print(reply.to_sml())
    await host.linktest()

    etcher.inject(EquipmentFault(silence=True), count=1)
    try:
        await host.request(Message(1, 1, wait=True))
    except EquipmentTimeout as error:
        print(error)

    await host.disable()
    await etcher.disable()


def main(reactor: Any) -> "Deferred[None]":
    return Deferred.fromCoroutine(converse(reactor))


if __name__ == "__main__":
    react(main)
