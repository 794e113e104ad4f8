"""Run the node of a file, and ask its dcss what a GUI would: python examples/tutorial/dhs/drive.py hello.toml"""

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import react

from equipnet.daemon.config import read_config
from equipnet.daemon.tree import Node
from equipnet.dcs import AbnormalCompletion, DcssSimulator

FOLDER = Path(__file__).parent


def show(update: Any) -> None:
    print("on the way:", update.text)


async def hello(dcss: DcssSimulator) -> None:
    completion = await dcss.start_operation("sayHello", "beamline")
    print(completion.status, completion.words)


async def motor(dcss: DcssSimulator) -> None:
    completion = await dcss.move("sample_z", 2, on_update=show)
    print(completion.status, completion.position)
    try:
        await dcss.move("sample_z", 20)
    except AbnormalCompletion as error:
        print(error)


async def loop(dcss: DcssSimulator) -> None:
    completion = await dcss.start_operation("findLoop", on_update=show)
    print(completion.status, completion.words)


async def main(reactor: Any, file: Path) -> None:
    node = Node.from_config(read_config(file), reactor)
    node.startService()
    try:
        await gatherResults([connection.when_ready() for connection in node.connections.values()])
        dcss: Any = node.connection("dcss")
        await dcss.when_configured("myDHS")
        await {"hello": hello, "motor": motor, "loop": loop}[file.stem](dcss)
    finally:
        await node.stopService()


if __name__ == "__main__":
    react(main, [FOLDER / sys.argv[1]])
