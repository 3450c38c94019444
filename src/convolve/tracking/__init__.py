"""Where teams keep track of their trainings: `convolve train RECIPE --log NAME`. One file a tool.

Packages add more by an entry point in the group `convolve.trackers`.
"""
