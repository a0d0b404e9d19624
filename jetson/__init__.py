"""The ground floor: all that runs on the device, and all that both sides must agree on.

File formats, the wire format, preprocessing, atomic files, the error type that users see, and the
sampling of latencies live here. Standard library and NumPy only, in the Python 3.6 that JetPack 4.6
brings, so that this folder can be copied to a device and run there as it is. Imports nothing from the
other rooms.
"""
