"""A hardware server with one operation."""

from equipnet.dcs import HardwareServer, Run, operation


class HelloServer(HardwareServer):
    dhs_name = "myDHS"

    @operation("sayHello")
    async def say_hello(self, run: Run, name: str = "world") -> str:
        return f"hello {name}"
