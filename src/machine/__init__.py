"""The machine a run runs on: what it is told to do about memory, and which precision it is good at."""
