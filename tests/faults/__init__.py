"""Real processes under a seeded schedule of faults, and a checker of what they did and were told."""
