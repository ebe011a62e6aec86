"""Footage from elsewhere -> takes, with its own time stamps and its own calibration.

calibrations  calibration files of other programs
timestamps    CSV files of exposure times
footage       videos as numbered pictures, and their way into a take
pictures      picture files
video         any videos with a calibration
images        picture files with a calibration; FaMoS
tka           FaMoS's calibrations
nersemble     folders in the layout of NeRSemble v2
"""
