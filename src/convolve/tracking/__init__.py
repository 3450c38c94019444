"""Experiment trackers: `convolve train RECIPE --log NAME`. One file per tool.

Packages add more by an entry point in the group `convolve.trackers`.
"""
