"""The kinds of connections that come with equipnet."""

from equipnet.connection.config import Kind

instrument = Kind(
    "instrument",
    "an instrument on a plain socket: text and binary over TCP, TLS, UDP or UNIX sockets",
    "equipnet.instrument.config.InstrumentSection",
)
simulated_instrument = Kind(
    "simulated-instrument",
    "an instrument that answers from a table, with faults on request",
    "equipnet.instrument.config.SimulatedInstrumentSection",
)
hsms = Kind(
    "hsms",
    "SECS-II messages over HSMS, active or passive, as host or as equipment",
    "equipnet.hsms.config.HsmsSection",
)
simulated_equipment = Kind(
    "simulated-equipment",
    "equipment that answers SECS-II messages from a table, with faults on request",
    "equipnet.hsms.config.SimulatedEquipmentSection",
)
communicator = Kind(
    "communicator",
    "commands and replies of Tekniker's Operation Manager over a client/server socket pair (LSST MTMount)",
    "equipnet.communicator.config.CommunicatorSection",
)
simulated_operation_manager = Kind(
    "simulated-operation-manager",
    "a telescope mount that takes MTMount's commands and moves, with faults on request",
    "equipnet.communicator.config.SimulatedOperationManagerSection",
)
dhs = Kind(
    "dhs",
    "a hardware server (DHS) of a beamline's dcss, with operations and devices of its author",
    "equipnet.dcs.config.DhsSection",
)
simulated_dcss = Kind(
    "simulated-dcss",
    "a dcss with the devices of a database.dat file and a port for GUIs, with faults on request",
    "equipnet.dcs.simulator_config.SimulatedDcssSection",
)
simulated_axis = Kind(
    "simulated-axis",
    "an Axis camera that sees a turning loop and posts images while triggered, with faults on request",
    "equipnet.imaging.simulator_config.SimulatedAxisSection",
)
simulated_automl = Kind(
    "simulated-automl",
    "an AutoML model that finds loops and pins in pictures, with faults on request",
    "equipnet.prediction.simulator_config.SimulatedAutoMLSection",
)
jpeg_receiver = Kind(
    "jpeg-receiver",
    "a port to which cameras post JPEG and PNG images over HTTP",
    "equipnet.imaging.config.JpegReceiverSection",
)
axis = Kind(
    "axis",
    "an Axis camera: images and streams of them over HTTP, with Digest",
    "equipnet.imaging.axis_config.AxisSection",
)
automl = Kind(
    "automl",
    "a model that finds loops and pins in images, behind TensorFlow Serving's HTTP interface",
    "equipnet.prediction.config.AutoMLSection",
)
