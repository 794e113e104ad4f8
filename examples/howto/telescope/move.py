"""Move a simulated telescope mount, and be told what it reports."""

from typing import Any

from twisted.internet.task import react

from equipnet.communicator import CommandFailed, CommandRejected, Communicator, Fault, OperationManagerSimulator
from equipnet.communicator.message import ElevationAxisMove, ElevationAxisPower, InPosition, Warning


def observe(message: Any) -> None:
    """Print what the mount reports by itself."""
    if isinstance(message, InPosition):
        print("in position:", message.in_position)
    elif isinstance(message, Warning):
        print("warning:", message.code, *message.extra)


async def move(mount: Communicator) -> None:
    """Switch the elevation axis on, and move it."""
    try:
        await mount.execute(ElevationAxisMove(1.0))
    except CommandRejected as error:
        print(error)
    await mount.execute(ElevationAxisPower(True))
    done = await mount.execute(ElevationAxisMove(1.0), timeout=30.0)
    print(type(done).__name__, "of command", done.sequence_id)


async def fail(mount: Communicator, simulator: OperationManagerSimulator) -> None:
    """A command that fails after its Ack, and a warning."""
    simulator.inject(Fault(error=403), count=1)
    try:
        await mount.execute(ElevationAxisMove(0.5))
    except CommandFailed as error:
        print(error)
    await simulator.report_warning(405, True, "", "the brake is warm")


async def main(reactor: Any) -> None:
    """Connect a communicator to a simulator, and use it."""
    mount = Communicator("mount", "127.0.0.1", 0, "127.0.0.1", 0, connect=False, reactor=reactor)
    replies = await mount.wait_server_port()
    simulator = OperationManagerSimulator("tcp:0", f"tcp:127.0.0.1:{replies}", reactor=reactor)
    simulator.startService()
    await mount.connect(await simulator.wait_server_port())
    mount.add_message_observer(observe)
    await move(mount)
    await fail(mount, simulator)
    await mount.execute(ElevationAxisPower(False))
    await mount.close()
    await simulator.close()


if __name__ == "__main__":
    react(main)
