"""Takes on disk: a folder of rolled MCAP files with the calibration and the configuration as used.

layout     names, paths and take.json
framing    one wire message as one self-checking blob
disk       a file that only grows by whole writes, and the durability thread
mcap_file  one MCAP file being written
writer     TakeWriter: messages -> take
index      where the messages of one file are
sets       frames -> frame sets, from ids and times alone
reader     open_take: take -> messages, frame sets, meshes
carve      every whole message of a damaged file
recover    a killed or cut take becomes whole again
verify     is it whole, and what is in it
recorder   bus -> take
replay     take -> bus
"""

from streamer.takes.layout import TakeInfo, new_take_path
from streamer.takes.reader import Take, open_take
from streamer.takes.writer import TakeWriter

__all__ = ["Take", "TakeInfo", "TakeWriter", "new_take_path", "open_take"]
