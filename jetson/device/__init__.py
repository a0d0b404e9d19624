"""What can be found out about the machine this runs on: board, TensorRT, power mode, clocks, memory, temperatures.

Every reader takes the folder that the system's files lie under ("/" on a device), and says in words what it could not
find out.
"""
