"""The contracts of LCL: what every file that crosses between two stages holds. This room knows no other
room.
"""
