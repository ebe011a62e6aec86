"""Audio beside the pictures (extra `audio`): recorded in sync, and read for timecode.

ltc       samples -> SMPTE timecode, and back for tests
wav       a sound file that survives a crash
recorder  an audio input -> a sound file of the take; the only file that knows `sounddevice`
"""
