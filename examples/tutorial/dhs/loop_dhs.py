"""A hardware server that finds the loop in an image of its camera."""

from equipnet.dcs import HardwareServer, OperationFailed, Run, operation


class LoopServer(HardwareServer):
    dhs_name = "myDHS"

    @operation("findLoop")
    async def find_loop(self, run: Run) -> tuple[float, float]:
        image = await self.node.connection("camera").image()
        await run.update("image", image.width, image.height)
        prediction = await self.node.connection("model").predict(run.handle, image.data)
        if prediction.loop is None:
            raise OperationFailed("TipNotInView")
        box = prediction.loop.box
        return round(box.max_x, 3), round((box.min_y + box.max_y) / 2, 3)
